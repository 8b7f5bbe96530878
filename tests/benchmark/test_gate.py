"""The gate's promises about chance, by simulation from the per-clip scores of the bundle's committed report.

A simulated run draws, for every clip, as many seeds as the real one had from that clip's own, the same draw for all rows and metrics, as one
seed's noise is shared by all rows. Two such runs are runs of the same systems with fresh seeds. Run by `pytest tests/benchmark/test_gate.py -s`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import ROOT
from tta_bench.gate import GateConfig, blocked, judge
from tta_bench.gate_power import critical_value
from tta_bench.rows import RowScore, ScoreKey, load_scores

REPORT = ROOT / "reports" / "bundle"
RUNS = 1000
Scores = dict[ScoreKey, RowScore]

pytestmark = pytest.mark.skipif(not (REPORT / "values.npz").exists(), reason="there is no committed report of the bundle")


@pytest.fixture(scope="module")
def scores() -> Scores:
    """Of all rows that have seeds: anchors have none and never change."""
    found = {key: score for key, score in load_scores(REPORT).items() if score.contributions is not None and len(score.records) > 1}
    assert len(found) > 100
    return found


def _drawn(scores: Scores, picks: npt.NDArray[np.int64], effect: npt.NDArray[np.float64], change: dict[str, float]) -> Scores:
    """A run with fresh seeds. picks: (draws, n). change: by metric, what the mean gets worse by, a share of the value for FAD; `effect` (n,),
    of mean 1, says how much of it each clip bears.

    Draws from S values have (S - 1) / S of the variance of what the values were drawn from: departures from a clip's mean are stretched.
    """
    made = {}
    for key, score in scores.items():
        assert score.contributions is not None
        centre, seeds = score.contributions.mean(axis=0), len(score.contributions)
        stretched = centre + (score.contributions - centre) * np.sqrt(seeds / (seeds - 1))
        per_clip = np.take_along_axis(stretched, picks, axis=0).mean(axis=0)
        shift = change.get(key.metric, 0.0) * (centre.mean() if key.metric == "fad" else 1.0)
        per_clip = per_clip + shift * effect
        record = score.records[0].model_copy(update={"value": float(per_clip.mean())})
        made[key] = replace(score, records=(record,), contributions=per_clip[None], planned=1)
    return made


def _share_blocked(scores: Scores, change: dict[str, float], runs: int, seed: int) -> tuple[float, float]:
    """Share of runs that are blocked, and mean number of rows that block."""
    rng = np.random.default_rng(seed)
    draws, n = next(iter(scores.values())).contributions.shape  # type: ignore[union-attr]
    hits, rows = 0, 0
    for _ in range(runs):
        effect = rng.standard_exponential(n)  # some clips suffer much, most little
        before, after = (_drawn(scores, rng.integers(0, draws, (draws, n)), effect / effect.mean(), part) for part in ({}, change))
        verdicts = judge(before, after)
        hits += blocked(verdicts)
        rows += sum(item.blocks for item in verdicts)
    return hits / runs, rows / runs


def test_the_same_system_is_blocked_in_at_most_one_run_in_a_hundred(scores: Scores) -> None:
    share, _ = _share_blocked(scores, {}, RUNS, seed=1)
    print(f"\nsame systems, fresh seeds: {share:.2%} of {RUNS} runs blocked")
    assert share <= 0.01


@pytest.mark.parametrize("change", [{"fad": 0.2}, {"clap": -0.05}])
def test_a_worse_system_is_blocked(scores: Scores, change: dict[str, float]) -> None:
    share, rows = _share_blocked(scores, change, RUNS, seed=2)
    print(f"\n{change}: {share:.2%} of {RUNS} runs blocked, {rows:.1f} rows each")
    assert share >= 0.95


def test_every_row_is_blocked_as_often_as_its_detectable_effect_says(scores: Scores) -> None:
    """Each row gets worse by what `check` prints for it, the same for all clips; at the strictest test, which no other row's change makes milder."""
    config, runs = GateConfig(), 400
    rng = np.random.default_rng(3)
    printed = {item.key: item for item in judge(scores, scores, config)}
    draws, n = next(iter(scores.values())).contributions.shape  # type: ignore[union-attr]
    hits = dict.fromkeys(scores, 0)
    for _ in range(runs):
        before, after = (_drawn(scores, rng.integers(0, draws, (draws, n)), np.ones(n), {}) for _ in range(2))
        for key, score in scores.items():
            detectable, left, right = printed[key].detectable, before[key].per_clip, after[key].per_clip
            assert detectable is not None
            assert left is not None
            assert right is not None
            worse = (right - left) * (1.0 if printed[key].direction == "lower" else -1.0) + detectable
            error, dof = worse.std(ddof=1) / np.sqrt(n), score.dof or 1
            clear = worse.mean() / error > critical_value(dof, len(scores), config.alpha)
            hits[key] += bool(clear and worse.mean() > config.margin(key.metric, float(left.mean())))
    for metric in dict.fromkeys(key.metric for key in scores):
        shares = [hits[key] / runs for key in scores if key.metric == metric]
        print(f"\n{metric}: {np.mean(shares):.3f} of {runs} runs blocked, the worst row {min(shares):.3f}", end="")
        assert np.mean(shares) >= 0.92
        assert min(shares) >= 0.87
