from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tta_bench
from tta_bench.audio import write_audio
from tta_bench.embedders.load import load_embedder
from tta_bench.embedders.log_mel import LogMelEmbedder
from tta_bench.embedders.mel import MelEmbedder
from tta_bench.embedders.protocol import Embedder, pad_batch
from tta_bench.errors import InputError, MetricError
from tta_bench.spectrum import PANNS_16K


def _clips(rng: np.random.Generator) -> list[np.ndarray]:
    return [0.1 * rng.standard_normal(n).astype(np.float32) for n in (257, 8_000, 16_001, 5_000)]


def test_rows_are_the_frames_of_the_log_mel(rng: np.random.Generator) -> None:
    clips = _clips(rng)
    embedder = load_embedder("log_mel")
    assert isinstance(embedder, Embedder)
    assert embedder.provides == {"embeddings"}
    for clip, rows in zip(clips, embedder.embed(*pad_batch(clips)).embeddings, strict=True):
        assert rows.shape == (1 + len(clip) // 160, 64)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, PANNS_16K(clip), rtol=1e-6, atol=1e-5)


def test_silence_is_minus_100_db_and_every_band_hears() -> None:
    assert (LogMelEmbedder().embed(np.zeros((1, 4_000)), np.array([4_000])).embeddings[0] == -100.0).all()
    click = np.zeros((1, 4_000))
    click[0, 2_000] = 1.0
    assert (LogMelEmbedder().embed(click, np.array([4_000])).embeddings[0].max(axis=0) > -30.0).all()


def test_neither_batch_nor_padding_matters(rng: np.random.Generator) -> None:
    clips = _clips(rng)
    audio, lengths = pad_batch(clips)
    for row, length in zip(audio, lengths, strict=True):
        row[length:] = 9.0  # what lies beyond the length is not the clip
    for rows, clip in zip(LogMelEmbedder().embed(audio, lengths).embeddings, clips, strict=True):
        np.testing.assert_array_equal(rows, LogMelEmbedder().embed(*pad_batch([clip])).embeddings[0])


def test_errors() -> None:
    with pytest.raises(InputError, match=r"257..256 samples, got 256..256"):
        LogMelEmbedder().embed(*pad_batch([np.zeros(256)]))
    with pytest.raises(InputError, match="log_mel has no text side"):
        LogMelEmbedder().embed_text(["rain"])
    with pytest.raises(InputError, match="log_mel takes no file"):
        load_embedder("log_mel:x")
    assert LogMelEmbedder.checksum != MelEmbedder.checksum


def _folder(path: Path, gain: float, seconds: float = 1.0) -> Path:
    rng = np.random.default_rng(0)
    for i in range(3):
        write_audio(path / f"{i}.flac", gain * 0.2 * rng.standard_normal(16_000)[: round(16_000 * seconds)], 16_000)
    return path


def test_from_two_folders_to_a_score_of_all_frames(tmp_path: Path) -> None:
    teacher, student = _folder(tmp_path / "teacher", 1.0), _folder(tmp_path / "student", 0.5)
    result = tta_bench.evaluate(student, teacher, embedders=["log_mel"], metrics=["fidelity_mel", "fidelity_cosine"], out=tmp_path / "run")
    mel, cosine = result.records
    assert (mel.metric, mel.embedder, mel.unit, mel.n, mel.direction) == ("fidelity_mel", "log_mel", "dB", 3, "lower")
    assert mel.value == pytest.approx(20 * np.log10(2), abs=0.01)
    assert cosine.value is not None
    assert 0.9 < cosine.value < 1


def test_durations_that_differ_are_an_error(tmp_path: Path) -> None:
    teacher, student = _folder(tmp_path / "teacher", 1.0), _folder(tmp_path / "student", 1.0, seconds=0.9)
    with pytest.raises(MetricError, match="clip 0 has 101 frames in the teacher's audio and 91 in the student's"):
        tta_bench.evaluate(student, teacher, embedders=["log_mel"], metrics=["fidelity_mel"], out=tmp_path / "run")
