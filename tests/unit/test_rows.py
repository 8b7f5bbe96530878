"""Which records of a run count: the last ones, of one cell, of all planned seeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.records import record
from tta_bench.audio import write_audio
from tta_bench.harness.evaluate import EvaluateConfig, evaluate
from tta_bench.records import Record
from tta_bench.rows import Ledger, PlannedCell, absent_rows, gather, load_scores, row_of


def _tones(folder: Path, noise: float) -> None:
    rng = np.random.default_rng(0)
    for i in range(6):
        tone = 0.3 * np.sin(0.05 * (i + 1) * np.arange(16_000)) + noise * rng.standard_normal(16_000)
        write_audio(folder / f"{i}.flac", tone.astype(np.float32), 16_000)


def _evaluated(tmp_path: Path, noise: float, *metrics: str) -> dict[str, float | None]:
    """Scores of the run's folder after another evaluation into it."""
    _tones(tmp_path / "generated", noise)
    values = {
        "generated": tmp_path / "generated",
        "reference": tmp_path / "reference",
        "out": tmp_path / "run",
        "embedder": ("mel",),
        "metric": metrics,
    }
    result = evaluate(EvaluateConfig.model_validate(values))
    assert {r.metric for r in result.records} == set(metrics)
    found = {key.metric: score.value for key, score in load_scores(tmp_path / "run").items()}
    assert all(found[r.metric] == r.value for r in result.records)
    return found


def test_what_was_evaluated_last_counts_and_nothing_of_other_audio(tmp_path: Path) -> None:
    _tones(tmp_path / "reference", 0.001)
    bad = _evaluated(tmp_path, 0.2, "fad", "kad")
    good = _evaluated(tmp_path, 0.01, "fad")
    assert good.keys() == {"fad"}
    assert good["fad"] != bad["fad"]
    assert _evaluated(tmp_path, 0.2, "kad") == bad  # known already, and in force again, its FAD too
    lines = (tmp_path / "run" / "records.jsonl").read_text().splitlines()
    assert len(lines) == 4  # the KAD stands twice, so that it is the last
    assert _evaluated(tmp_path, 0.2, "kad") == bad
    assert (tmp_path / "run" / "records.jsonl").read_text().splitlines() == lines


def _planned(records: list[Record]) -> list[PlannedCell]:
    return [PlannedCell(item.cell, row_of(item), item.seed) for item in records]


def test_a_row_without_all_of_its_seeds_has_no_value() -> None:
    records = [record(cell=f"c{seed}", seed=seed, value=0.5 + seed) for seed in range(3)]
    (whole,) = gather(records, {}, _planned(records)).values()
    assert (whole.status, whole.value) == ("ok", 1.5)
    (partial,) = gather(records[:2], {}, _planned(records)).values()
    assert (partial.status, partial.value, partial.reason) == ("incomplete", None, "incomplete: 2 of 3 seeds have it")


def test_rows_without_any_score_are_known(tmp_path: Path) -> None:
    records = [record(cell="a", steps=25), record(cell="b", steps=5)]
    cells = [{"cell": item.cell, **row_of(item)._asdict(), "seed": 0} for item in records]
    (tmp_path / "plan.json").write_text(json.dumps({"cells": cells}))
    (tmp_path / "records.jsonl").write_text(records[0].line())
    assert absent_rows(tmp_path, load_scores(tmp_path)) == [row_of(records[1])]


def test_a_ledger_knows_what_counts() -> None:
    old, new = record(cell="a", generated_sha256="a"), record(cell="b", generated_sha256="b")
    other = record(cell="a", generated_sha256="a", metric="fad")
    ledger = Ledger([old, other, new])
    assert [ledger.counts(item) for item in (old, other, new)] == [False, False, True]
    assert ledger.known[old.key] == old


@pytest.mark.parametrize("n", [1, 2])
def test_the_error_of_fresh_seeds_needs_two(n: int) -> None:
    from tests.unit.records import row_score

    score = row_score(np.arange(n * 8.0).reshape(n, 8) ** 2)
    assert (score.seed_error is None) == (n == 1)
