"""Does a network trained on recordings hear SynthCaps' sounds as what their captions say?"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tta_bench.data.events import EVENT_CLASSES, EventClass
from tta_bench.embedders.yamnet import YamnetEmbedder
from tta_bench.rng import generator

pytestmark = pytest.mark.shared
FOLDER = Path(__file__).resolve().parents[4] / "shared" / "weights" / "yamnet"
CLIPS, SAMPLES = 20, 40_960


def _clip(event: EventClass, i: int) -> np.ndarray:
    """(SAMPLES,) float32: one event, active RMS of -20 dBFS unless its peaks would pass 0.95."""
    rng = generator(3, "heard", event.name, i)
    pitch = float(rng.choice([0.62, 1.0, 1.6])) if event.pitched else 1.0
    rate = float(rng.choice([0.6, 1.0, 1.7])) if event.paced else 1.0
    x = event.sound(pitch, rate, SAMPLES, rng)
    assert x.shape == (SAMPLES,)
    assert np.isfinite(x).all()
    energy = np.mean(x[: SAMPLES // 400 * 400].reshape(-1, 400) ** 2, axis=1)
    active = np.sqrt(np.mean(energy[energy > 1e-4 * energy.max()]))
    return np.asarray(x * min(0.1 / active, 0.95 / np.abs(x).max()), dtype=np.float32)


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not here")
def test_half_of_the_classes_are_heard() -> None:
    with (FOLDER / "class_map.csv").open(newline="") as rows:
        names = [row["display_name"] for row in csv.DictReader(rows)]
    unknown = {label for event in EVENT_CLASSES.values() for label in event.audioset} - set(names)
    assert not unknown
    yamnet = YamnetEmbedder(FOLDER / "yamnet.safetensors")
    heard = {}
    for event in EVENT_CLASSES.values():
        logits = yamnet.embed(np.stack([_clip(event, i) for i in range(CLIPS)]), np.full(CLIPS, SAMPLES)).logits
        assert logits is not None
        top = [[names[k] for k in row[:5]] for row in np.argsort(-logits, axis=1)]
        heard[event.name] = np.mean([bool(set(row) & set(event.audioset)) for row in top])
        common = ", ".join(f"{name} {count}" for name, count in Counter(row[0] for row in top).most_common(3))
        print(f"{event.name:10s} {heard[event.name]:5.0%}  {common}")
    count = sum(share >= 0.5 for share in heard.values())
    print(f"{count} of {len(heard)} classes are heard in at least half of their clips")
    assert 2 * count >= len(heard)
