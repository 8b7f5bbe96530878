"""Golden values of every metric on seeded inputs: `python tests/golden/make.py` writes metrics.json beside it.

The inputs are re-made from the seed; only values are stored, with the versions that made them. A change of a value is a change
of the metric's version.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.suite import METRICS

SEED, CLIPS, PATH = 20231225, 80, Path(__file__).with_name("metrics.json")


def golden_clips() -> tuple[ClipRows, ClipRows]:
    """(reference, generated): 80 clips of 1 to 3 rows in 12 dimensions."""
    rng = np.random.default_rng(SEED)
    ids = [f"clip{i:02d}" for i in range(CLIPS)]
    mixing = rng.standard_normal((12, 12))
    sets = []
    for spread, shift in ((1.0, 0.0), (1.2, 0.3)):
        sets.append(ClipRows.of(ids, [spread * rng.standard_normal((1 + i % 3, 12)) @ mixing + shift for i in range(CLIPS)]))
    return sets[0], sets[1]


def golden_values() -> dict[str, dict[str, float | None]]:
    """Value and standard error by metric."""
    reference, generated = golden_clips()
    scores = {name: spec.score(reference, generated) for name, spec in METRICS.items()}
    return {name: {"value": score.value, "std_error": score.std_error} for name, score in scores.items()}


if __name__ == "__main__":
    versions = {name: spec.version for name, spec in METRICS.items()}
    stored = {"seed": SEED, "numpy": np.__version__, "rtol": 1e-8, "metric_versions": versions, "values": golden_values()}
    PATH.write_text(json.dumps(stored, indent=1) + "\n")
