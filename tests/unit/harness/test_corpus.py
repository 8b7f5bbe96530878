from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tta_bench.audio import quantise, write_audio
from tta_bench.data.events import EVENT_CLASSES
from tta_bench.data.scene import draw_scene
from tta_bench.data.synth import synth_clip
from tta_bench.errors import InputError
from tta_bench.harness.corpus import audible_frames, load_corpus
from tta_bench.harness.recipe import Data


def test_synthcaps_is_what_the_renderer_makes_and_is_cached(cache: Path) -> None:
    data = Data(clips=3, split="val", seed=2, captions_per_clip=2)
    corpus = load_corpus(data)
    for i in range(3):
        clip = synth_clip(2, "val", i)
        assert np.array_equal(corpus.audio[i], quantise(clip.audio)[0])
        assert corpus.captions[i][0] == clip.caption
        assert len(corpus.captions[i]) == 2
        assert corpus.labels is not None
        assert {name for name, present in zip(EVENT_CLASSES, corpus.labels[i], strict=True) if present} == {
            e.name for e in draw_scene(2, "val", i).events
        }
    assert np.allclose(corpus.samples(np.array([1])), corpus.audio[1] / 32768.0)
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    assert load_corpus(data).key == corpus.key
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()} == files
    assert load_corpus(data.model_copy(update={"seed": 3})).key != corpus.key


def test_a_manifest_of_any_audio(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_audio(tmp_path / "a.flac", 0.1 * rng.standard_normal(8_000), 16_000)
    write_audio(tmp_path / "b.wav", 0.1 * rng.standard_normal(96_000), 32_000)
    (tmp_path / "m.csv").write_text("clip_id,file,caption\nx,a.flac,A hiss\ny,b.wav,A hiss\n")
    corpus = load_corpus(Data(manifest=tmp_path / "m.csv", clip_s=1.0))
    assert corpus.audio.shape == (2, 16_000)
    assert not corpus.audio[0, 8_000:].any()
    assert corpus.audio[1].std() > 0
    assert corpus.captions == [("A hiss",), ("A hiss",)]
    assert corpus.scenes.tolist() == [0, 0]
    assert corpus.labels is None
    write_audio(tmp_path / "a.flac", 0.1 * rng.standard_normal(8_000), 16_000)
    assert load_corpus(Data(manifest=tmp_path / "m.csv", clip_s=1.0)).key != corpus.key


def test_a_manifest_that_lacks_a_file_is_an_error_before_anything_is_read(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "m.csv").write_text("clip_id,file,caption\nx,a.flac,A hiss\n")
    with pytest.raises(InputError, match=r"a\.flac"):
        load_corpus(Data(manifest=tmp_path / "m.csv"))
    assert not cache.exists()


def test_a_clip_ends_with_its_last_sample_that_is_not_padding() -> None:
    audio = np.zeros((300, 42), dtype=np.int16)  # four frames of 10 and a rest that is none
    audio[0, :], audio[1, 9], audio[2, 10], audio[299, 41] = 5, 1, -1, 7
    frames = audible_frames(audio, 10)
    assert frames[:3].tolist() == [4, 1, 2]
    assert frames[3:].tolist() == [1] * 297  # silence is one frame long, and what lies beyond whole frames is not heard
