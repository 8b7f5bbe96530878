"""What YAMNet makes of real recordings: zero-shot classes of ESC-10, and how far degraded audio lies from clean."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import tta_bench
from tests.degraded import DEGRADATIONS, FAMILIES, write_folders
from tta_bench.audio import read_audio, resample
from tta_bench.embedders.load import load_embedder
from tta_bench.embedders.protocol import pad_batch
from tta_bench.embedders.yamnet import YamnetEmbedder

pytestmark = pytest.mark.shared

# SALT, Standardized Audio event Label Taxonomy (Stamatiadis, Olvera & Essid, DCASE 2024, arXiv 2409.11746; tpt-adasp/salt,
# salt_event_mapping.tsv): the AudioSet classes below the finest standard label of each class of ESC-50.
AUDIOSET = {
    "dog bark": ("Dog", "Bark", "Bow-wow", "Whimper (dog)", "Yip", "Howl"),
    "rooster": ("Chicken, rooster", "Cluck", "Crowing, cock-a-doodle-doo"),
    "rain": ("Rain", "Raindrop", "Rain on surface"),
    "sea waves": ("Waves, surf",),
    "fire crackling": ("Crackle",),
    "baby cry": ("Baby cry, infant cry",),
    "person sneeze": ("Sneeze",),
    "clock tick": ("Clock", "Tick-tock", "Tick"),
    "helicopter": ("Helicopter",),
    "chainsaw": ("Chainsaw",),
}
CORRECT = 301  # of 318
# FAD (patches), FAD (clip means), KAD (clip means), KAD (patches)
TABLE = {
    "clean": (14.587, 13.766, -0.6708, 0.1691),
    "noise 20 dB": (493.87, 314.41, 5.7575, 3.4204),
    "noise 10 dB": (505.68, 323.70, 7.6526, 4.8933),
    "noise 0 dB": (536.19, 346.43, 13.042, 9.3551),
    "below 4 kHz": (19.833, 17.451, -0.2558, 0.5948),
    "below 2 kHz": (44.332, 36.807, 2.0587, 2.7733),
    "below 1 kHz": (71.060, 57.560, 5.7859, 6.0989),
    "live noise 20 dB": (18.354, 18.288, -0.2788, 0.4909),
    "live noise 10 dB": (27.673, 24.618, 0.5211, 1.3631),
    "live noise 0 dB": (55.026, 44.503, 4.0887, 4.7565),
    "silence": (4062.96, 3849.03, 142.24, 131.35),
}


def _yamnet(shared: Path) -> str:
    return f"yamnet:{shared / 'weights' / 'yamnet' / 'yamnet.safetensors'}"


def test_zero_shot(shared: Path) -> None:
    """A clip's probabilities are means over its patches, as in Google's own tool; a label's is the largest of its AudioSet classes."""
    yamnet = load_embedder(_yamnet(shared))
    assert isinstance(yamnet, YamnetEmbedder)
    with (shared / "weights" / "yamnet" / "class_map.csv").open() as file:
        index = {row["display_name"]: int(row["index"]) for row in csv.DictReader(file)}
    with (shared / "data" / "esc10" / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == set(AUDIOSET)
    correct, by_logits = 0, 0
    for start in range(0, len(rows), 16):
        part = rows[start : start + 16]
        files = [read_audio(shared / "data" / "esc10" / row["file"]) for row in part]
        audio, lengths = pad_batch([resample(clip.samples, clip.sample_rate_hz, yamnet.sample_rate_hz) for clip in files])
        features = yamnet.embed(audio, lengths)
        assert features.logits is not None
        for row, patches, logits in zip(part, features.embeddings, features.logits, strict=True):
            correct += _label(yamnet.scores(patches).mean(axis=0), index) == row["label"]
            by_logits += _label(logits, index) == row["label"]
    assert len(rows) == 318
    assert abs(correct - CORRECT) <= 1, correct
    assert by_logits == correct


def _label(scores: np.ndarray, index: dict[str, int]) -> str:
    by_label = {label: max(scores[index[name]] for name in names) for label, names in AUDIOSET.items()}
    return max(by_label, key=by_label.__getitem__)


@pytest.mark.slow
def test_scores_of_degraded_audio(tmp_path: Path, shared: Path) -> None:
    write_folders(shared / "data" / "esc10", tmp_path)
    found = {}
    for name in DEGRADATIONS:
        run = tta_bench.evaluate(
            tmp_path / name,
            tmp_path / "reference",
            embedders=[_yamnet(shared)],
            metrics=["fad", "fad_clip", "kad", "kad_patches"],
            out=tmp_path / "run",
        )
        found[name] = [record.value for record in run.records]
    for name, expected in TABLE.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-3, err_msg=name)
    for family in FAMILIES:
        for column in range(4):
            values = [found[name][column] for name in family]
            assert values == sorted(values), (family, column, values)
