"""Do FAD and KAD rise with degradation on real recordings? ESC-10 with YAMNet, fold 2 as reference; `-s` prints the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tta_bench
from tests.degraded import DEGRADATIONS, FAMILIES, write_folders
from tta_bench.records import Record


@pytest.mark.shared
def test_scores_rise_with_degradation(benchmark: Any, tmp_path: Path, shared: Path) -> None:
    write_folders(shared / "data" / "esc10", tmp_path)
    yamnet = f"yamnet:{shared / 'weights' / 'yamnet' / 'yamnet.safetensors'}"

    metrics = ["fad", "fad_clip", "kad", "kad_patches"]

    def score(name: str) -> dict[str, Record]:
        run = tta_bench.evaluate(tmp_path / name, tmp_path / "reference", embedders=[yamnet], metrics=metrics, out=tmp_path / "run")
        return {record.metric: record for record in run.records}

    scores = benchmark.pedantic(lambda: {name: score(name) for name in DEGRADATIONS}, rounds=1)
    for name, found in scores.items():
        print(f"| {name:12} | " + " | ".join(f"{record.value:8.3f} ± {record.std_error or 0:6.3f}" for record in found.values()) + " |")
    for family in FAMILIES:
        for metric in ("fad", "kad", "kad_patches"):
            values = [scores[name][metric].value for name in family]
            assert values == sorted(values), (metric, family, values)
