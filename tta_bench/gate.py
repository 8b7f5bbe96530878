"""The gate: scores of a run against an accepted baseline, row by row, clip by clip. Total over its states; nothing passes for lack of a number.

A row is worse where its difference is both beyond chance, corrected for the number of rows (Holm 1979, family-wise error `alpha`), and as
measured larger than the metric's margin. Differences are paired by clip, seeds averaged within each clip, so that n is the number of clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator
from scipy.special import stdtr

from tta_bench.config import Settings
from tta_bench.errors import ConfigError
from tta_bench.gate_power import Chance, critical_value, detectable_effect
from tta_bench.rows import RowScore, ScoreKey

VERDICTS = {
    "BETTER": "better beyond chance, and by more than the margin",
    "SAME": "the difference lies within the margin",
    "WORSE": "worse beyond chance, and by more than the margin",
    "UNRESOLVED": "the interval crosses the margin: too few clips or seeds to tell",
    "NEW": "the baseline does not have it",
    "MISSING": "the baseline has it, the run does not",
    "NOT_FINITE": "there is no score",
    "INCOMPARABLE": "not the same measurement as the baseline's",
}
BLOCKING = ("WORSE", "MISSING", "NOT_FINITE", "INCOMPARABLE")
_MARGINS: dict[str, float | str] = {
    "fad": "10 %", "fad_clip": "10 %", "kad": 0.1, "kad_patches": 0.1, "kid": 0.01, "kl": "10 %", "is": "5 %", "is_1_split": "5 %", "clap": 0.02,
    "clap_audio": 0.02, "fidelity_mel": "10 %", "fidelity_cosine": 0.01, "fidelity_kl": "15 %",
}  # fmt: skip
_SAME_MEASUREMENT = ("protocol", "n", "n_reference", "embedder_sha256", "reference_sha256", "captions_sha256", "metric_version", "direction")
_WORDS = {
    "n": "number of clips", "n_reference": "number of clips in the reference", "embedder_sha256": "embedder", "reference_sha256": "reference",
    "captions_sha256": "captions", "metric_version": "metric version",
}  # fmt: skip


class GateConfig(Settings):
    """alpha: chance that a run of an unchanged system is blocked at all. power: of the smallest detectable effect that is printed.

    margins: by metric, absolute (0.02) or of the baseline's value ("10 %"); those that are not named keep their default. other_margin: of
    metrics without one. block_unresolved: whether a row that may be worse by more than the margin blocks too. metrics: only these.
    """

    alpha: float = Field(default=0.01, gt=0.0, lt=0.5)
    power: float = Field(default=0.95, gt=0.5, lt=1.0)
    margins: dict[str, float | str] = Field(default={})
    other_margin: float | str = "10 %"
    block_unresolved: bool = False
    metrics: tuple[str, ...] = ()

    @field_validator("margins", "other_margin")
    @classmethod
    def _readable(cls, given: Any) -> Any:
        for margin in given.values() if isinstance(given, dict) else (given,):
            _parsed(margin)
        return given

    def margin(self, metric: str, baseline: float) -> float:
        """How much worse than `baseline` is still the same."""
        size, relative = self.margin_of(metric)
        return size * abs(baseline) if relative else size

    def margin_of(self, metric: str) -> tuple[float, bool]:
        """The margin, and whether it is a share of the baseline's value."""
        return _parsed(self.margins.get(metric, _MARGINS.get(metric, self.other_margin)))


def _parsed(margin: float | str) -> tuple[float, bool]:
    text = str(margin).strip()
    relative = text.endswith("%")
    try:
        size = float(text.removesuffix("%")) / (100.0 if relative else 1.0)
    except ValueError as error:
        raise ValueError(f'margin {margin!r} must be a number, or a share like "10 %"') from error
    if not 0.0 <= size < math.inf:
        raise ValueError(f"margin {margin!r} must be at least 0 and finite")
    return size, relative


@dataclass(frozen=True)
class Verdict:
    """One row under one metric. difference, low, high: run minus baseline, with an interval corrected for all rows (Bonferroni: all at once hold
    at 1 - 2 alpha; Holm's test, which decides, is sharper). margin: what is tolerated. detectable: the smallest change for the worse that is
    blocked with the power asked for; None where nothing tells how much two runs differ by chance. blocks: whether it stops the run.
    """

    key: ScoreKey
    verdict: str
    reason: str = ""
    direction: str = "lower"
    baseline: float | None = None
    value: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    detectable: float | None = None
    blocks: bool = False


@dataclass(frozen=True)
class _Paired:
    """worse: difference in the direction that is worse. error: its standard error; usual_error: the largest that is known, seeds' included.
    noise_dof: see `Chance`.
    """

    key: ScoreKey
    baseline: float
    value: float
    worse: float
    error: float
    usual_error: float
    dof: int
    noise_dof: float
    direction: str


def judge(baseline: Mapping[ScoreKey, RowScore], run: Mapping[ScoreKey, RowScore], config: GateConfig | None = None) -> list[Verdict]:
    """A verdict for every score of the baseline and of the run, in the order of the baseline, new ones last.

    Raises ConfigError where `metrics` or `margins` name what neither has.
    """
    config = config or GateConfig()
    _check_names(config, {key.metric for key in (*baseline, *run)})
    keys = [key for key in dict.fromkeys([*baseline, *run]) if not config.metrics or key.metric in config.metrics]
    found = {key: _compared(key, baseline.get(key), run.get(key)) for key in keys}
    pairs = [item for item in found.values() if isinstance(item, _Paired)]
    decided = {item.key: item for item in _decide(pairs, config)}
    verdicts = [decided[key] if key in decided else found[key] for key in keys]
    return [replace(item, blocks=_blocks(item, config)) for item in verdicts if isinstance(item, Verdict)]


def blocked(verdicts: Sequence[Verdict]) -> bool:
    """Whether the gate stays shut; a run and a baseline with nothing in common do not open it."""
    return all(item.verdict == "NEW" for item in verdicts) or any(item.blocks for item in verdicts)


def _check_names(config: GateConfig, there: set[str]) -> None:
    for key, names in (("metrics", config.metrics), ("margins", config.margins)):
        for name in names:
            if name not in there and (key == "metrics" or name not in _MARGINS):
                raise ConfigError(f"{key}: neither the run nor the baseline has a metric {name!r}; there are {', '.join(sorted(there)) or 'none'}")


def _compared(key: ScoreKey, before: RowScore | None, after: RowScore | None) -> Verdict | _Paired:
    direction = (before or after).records[0].direction  # type: ignore[union-attr]
    if before is None:
        assert after is not None
        if after.value is None:
            return Verdict(key, "NOT_FINITE", after.reason, direction)
        return Verdict(key, "NEW", VERDICTS["NEW"], direction, value=after.value)
    if after is None:
        return Verdict(key, "MISSING", VERDICTS["MISSING"], direction, baseline=before.value)
    if after.value is None or before.value is None:
        return Verdict(key, "NOT_FINITE", (after if after.value is None else before).reason, direction, before.value, after.value)
    reason = _not_the_same(before, after)
    if reason:
        return Verdict(key, "INCOMPARABLE", reason, direction, before.value, after.value)
    left, right = before.per_clip, after.per_clip
    assert left is not None
    assert right is not None
    sign = 1.0 if direction == "lower" else -1.0
    change = sign * (right - left)
    if not np.isfinite(change).all():
        reason = "too few clips for an interval: nothing tells chance from change; take more clips, or name the metrics to compare"
        return Verdict(key, "NOT_FINITE", reason, direction, before.value, after.value)
    dof = max(1, min(before.dof or 1, after.dof or 1))
    error = float(change.std(ddof=1)) / math.sqrt(len(change)) if len(change) > 1 else math.inf
    noise = min([float(dof), *(found for found in (before.seed_dof, after.seed_dof) if found is not None)])
    usual = max(error, before.seed_error or 0.0, after.seed_error or 0.0)
    return _Paired(key, before.value, after.value, sign * (after.value - before.value), error, usual, dof, noise, direction)


def _not_the_same(before: RowScore, after: RowScore) -> str:
    """What differs between two measurements that makes them incomparable; empty where nothing does."""
    for name in _SAME_MEASUREMENT:
        if name == "reference_sha256" and before.key.metric.startswith("fidelity_"):
            continue  # each run has its own teacher's audio; its name says whether it is the same system
        old, new = ({getattr(record, name) for record in score.records} for score in (before, after))
        if old != new:
            return f"another {_WORDS.get(name, name)}: {_short(old)} in the baseline, {_short(new)} in the run"
    names = [{record.reference for record in score.records} for score in (before, after)]
    if before.key.metric.startswith("fidelity_") and names[0] != names[1]:
        return f"another teacher: {_short(names[0])} in the baseline, {_short(names[1])} in the run"
    if before.clip_ids is None or after.clip_ids is None:
        return "its per-clip values are missing, or differ in their clips between seeds"
    return "" if before.clip_ids == after.clip_ids else "other clips than in the baseline"


def _short(values: set[Any]) -> str:
    return " and ".join(sorted(str(value)[:16] for value in values))


def _decide(pairs: Sequence[_Paired], config: GateConfig) -> list[Verdict]:
    """Holm over all pairs for either direction; intervals at the level of its strictest test."""
    if not pairs:
        return []
    ratios = np.array([_ratio(item) for item in pairs])
    dofs = np.array([item.dof for item in pairs], dtype=float)
    worse, better = holm(1.0 - stdtr(dofs, ratios), config.alpha), holm(stdtr(dofs, ratios), config.alpha)
    decided = []
    for item, is_worse, is_better in zip(pairs, worse, better, strict=True):
        margin = config.margin(item.key.metric, item.baseline)
        reach = critical_value(item.dof, len(pairs), config.alpha) * item.error if item.error else 0.0
        verdict = _verdict(item.worse, reach, margin, bool(is_worse), bool(is_better))
        ends = (item.value - item.baseline - reach, item.value - item.baseline + reach)
        size, relative = config.margin_of(item.key.metric)
        chance = Chance(item.usual_error, item.dof, item.noise_dof, size if relative else 0.0)
        detectable = detectable_effect(chance, margin, len(pairs), config.alpha, config.power)
        decided.append(
            Verdict(
                item.key, verdict, VERDICTS[verdict], item.direction, item.baseline, item.value, item.value - item.baseline, *ends, margin, detectable
            )
        )  # fmt: skip
    return decided


def _ratio(item: _Paired) -> float:
    if item.error == 0.0:
        return 0.0 if item.worse == 0.0 else math.copysign(math.inf, item.worse)
    return item.worse / item.error


def _verdict(worse: float, reach: float, margin: float, is_worse: bool, is_better: bool) -> str:
    if is_worse and worse > margin:
        return "WORSE"
    if is_better and -worse > margin:
        return "BETTER"
    return "SAME" if worse + reach <= margin and worse - reach >= -margin else "UNRESOLVED"


def holm(p: npt.NDArray[np.float64], alpha: float) -> npt.NDArray[np.bool_]:
    """(M,) which hypotheses are rejected at family-wise error `alpha`: the k-th smallest p against alpha / (M - k + 1), until one fails."""
    order = np.argsort(p, kind="stable")
    passes = p[order] <= alpha / np.arange(len(p), 0, -1)
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order] = np.logical_and.accumulate(passes)
    return rejected


def _blocks(item: Verdict, config: GateConfig) -> bool:
    if item.verdict in BLOCKING:
        return True
    if item.verdict != "UNRESOLVED" or not config.block_unresolved:
        return False
    if item.low is None or item.high is None or item.margin is None:
        return True
    return (item.high if item.direction == "lower" else -item.low) > item.margin
