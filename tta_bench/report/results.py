"""From scores and clock readings to the rows of a table: one number with an interval for each metric, speed beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tta_bench.errors import InputError
from tta_bench.metrics.score import of_contributions
from tta_bench.report.run_data import RunData
from tta_bench.rows import RowKey, RowScore, ScoreKey

METRIC_ORDER = ("fad", "kad", "kl", "is", "clap", "fidelity_mel", "fidelity_cosine", "fidelity_kl")


@dataclass(frozen=True)
class Column:
    """A metric under an embedder. label: as tables show it. direction: "lower" or "higher" is better."""

    metric: str
    embedder: str | None
    label: str
    direction: str
    unit: str
    protocol: str


@dataclass(frozen=True)
class Estimate:
    """value: mean over seeds. low, high: 95 % over clips, seeds averaged within each clip; None where it cannot be estimated."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    status: str = "ok"
    n_excluded: int = 0

    @property
    def half(self) -> float | None:
        """Half the interval's width."""
        return None if self.low is None or self.high is None else 0.5 * (self.high - self.low)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeats."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None of no values."""
        if not values:
            return None
        low, median, high = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(low), float(high), len(values))


@dataclass(frozen=True)
class Speed:
    """seconds_per_clip: sampling and decoding, at the throughput batch; one_clip: at batch 1. speed_up: target / this, pass by pass.

    real_time_factor: seconds of work for a second of audio. sampling, decoding: seconds per clip apart. memory_mib: largest.
    """

    seconds_per_clip: Spread | None = None
    one_clip: Spread | None = None
    speed_up: Spread | None = None
    sampling: Spread | None = None
    decoding: Spread | None = None
    real_time_factor: float | None = None
    memory_mib: float | None = None
    batch: int | None = None
    source: str | None = None


@dataclass(frozen=True)
class Result:
    """One row: what it is, scores by column, speed."""

    key: RowKey
    label: str
    family: str
    weighting: str | None
    nfe: int
    seeds: int
    estimates: Mapping[Column, Estimate]
    speed: Speed
    parameters: int | None

    @property
    def is_anchor(self) -> bool:
        """Real audio or a reconstruction: to read the table against, never ranked."""
        return self.family == "reference"


@dataclass(frozen=True)
class Results:
    """A whole table: rows in the order of the plan, columns in the order of `METRIC_ORDER`, n: clips that a complete row has."""

    rows: list[Result]
    columns: list[Column]
    n: int

    def best(self, column: Column) -> set[RowKey]:
        """The row or rows with the best value among complete ones that are no anchors."""
        ranked = [(row.key, row.estimates[column].value) for row in self.rows if not row.is_anchor and self.comparable(row, column)]
        values = [value for _, value in ranked if value is not None]
        if not values:
            return set()
        top = min(values) if column.direction == "lower" else max(values)
        return {key for key, value in ranked if value == top}

    @property
    def has_scales(self) -> bool:
        """Whether rows differ in their guidance scale, so that it must be shown."""
        return len({row.key.guidance_scale for row in self.rows if not row.is_anchor}) > 1

    def partial(self, row: Result, column: Column) -> bool:
        """Whether a score is over fewer clips than others."""
        estimate = row.estimates.get(column)
        return not row.is_anchor and estimate is not None and estimate.value is not None and not self.comparable(row, column)

    def comparable(self, row: Result, column: Column) -> bool:
        """Whether the row's score is over all clips: scores over different numbers of clips are never ranked."""
        estimate = row.estimates.get(column)
        return estimate is not None and estimate.value is not None and estimate.n == self.n


def results_of(run: RunData) -> Results:
    """The table of a run."""
    columns = columns_of(run.scores)
    rows = [_result(run, key, columns) for key in run.rows]
    return Results(rows, columns, int(run.plan["reference"]["n"]))


def columns_of(scores: Mapping[ScoreKey, RowScore]) -> list[Column]:
    """Every (metric, embedder) that was scored; the embedder is in the label where a metric was scored under several."""
    first = {(key.metric, key.embedder): score.records[0] for key, score in scores.items()}
    names = [metric for metric, _ in first]
    found = []
    for (metric, embedder), record in first.items():
        label = f"{_words(metric)} ({embedder})" if names.count(metric) > 1 else _words(metric)
        found.append(Column(metric, embedder, label, record.direction, record.unit, record.protocol))
    return sorted(found, key=lambda column: (_place(column.metric), column.embedder or ""))


def _place(metric: str) -> int:
    return METRIC_ORDER.index(metric) if metric in METRIC_ORDER else len(METRIC_ORDER)


def _words(metric: str) -> str:
    head, _, rest = metric.partition("_")
    return f"{head} {rest}".replace("_", " ").strip() if head == "fidelity" else metric.upper().replace("_", " ")


def _result(run: RunData, key: RowKey, columns: Sequence[Column]) -> Result:
    cells = run.cells_of(key)
    card = run.card_of(key)
    scores = {column: run.scores.get(ScoreKey(key, column.metric, column.embedder)) for column in columns}
    estimates = {column: estimate_of(score) for column, score in scores.items() if score is not None}
    first = cells[0]
    return Result(
        key, str(key), first["family"], first["weighting"], first["nfe"], len(cells), estimates, speed_of(run, key), card.get("parameters")
    )  # fmt: skip


def estimate_of(score: RowScore) -> Estimate:
    """Value and interval of a score; without a value where a seed is missing."""
    record = score.records[0]
    n, excluded = min(item.n for item in score.records), max(item.n_excluded for item in score.records)
    value = score.value
    if value is None:
        return Estimate(None, n=n, status=score.status, n_excluded=excluded)
    per_clip = score.per_clip
    if per_clip is None or score.clip_ids is None:
        own = (record.ci_low, record.ci_high) if len(score.records) == 1 else (None, None)
        return Estimate(value, *own, n=n, n_excluded=excluded)
    interval = of_contributions(value, score.clip_ids, per_clip, dof=score.dof)
    return Estimate(value, interval.ci_low, interval.ci_high, n, n_excluded=excluded)


def chosen_passes(run: RunData) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Passes at the throughput batch and at batch 1 that stand in one table: of one machine, one batch size and one way of timing.

    The machine is that of the target's last pass; measured passes are preferred to batches of the generation.
    """
    system, sampler, steps = run.target
    target = {str(row) for row in run.rows if row[:3] == (system, sampler, steps)}
    host = next((item["host"] for item in reversed(run.passes) if target & item["rows"].keys()), None)
    batch = min(run.plan["batch_size"], run.plan["reference"]["n"])
    mine = [item for item in run.passes if item["host"] == host]
    measured = [item for item in mine if item["source"] == "passes"]
    return [item for item in measured or mine if item["batch"] == batch], [item for item in measured if item["batch"] == 1]


def speed_of(run: RunData, key: RowKey) -> Speed:
    """Of all passes over the row that `chosen_passes` gives."""
    name = str(key)
    large, small = ([item for item in passes if name in item["rows"]] for passes in chosen_passes(run))
    if not large:
        return Speed(one_clip=Spread.of([_per_clip(item["rows"][name]) for item in small]))
    target = str(RowKey(*run.target, key.guidance_scale))
    times = [item["rows"][name] for item in large]
    return Speed(
        seconds_per_clip=Spread.of([_per_clip(time) for time in times]),
        one_clip=Spread.of([_per_clip(item["rows"][name]) for item in small]),
        speed_up=Spread.of([speed_up(item, target, name) for item in large if target in item["rows"]]),
        sampling=Spread.of([time["sampling_s"] / time["clips"] for time in times]),
        decoding=Spread.of([time["decoding_s"] / time["clips"] for time in times if time["decoding_s"] is not None]),
        real_time_factor=float(np.median([_per_clip(time) * time["clips"] / time["audio_s"] for time in times if time["audio_s"]] or [np.nan])),
        memory_mib=max((time["peak_memory_mib"] for time in times if time["peak_memory_mib"] is not None), default=None),
        batch=large[0]["batch"],
        source=large[0]["source"],
    )


def speed_up(timed: Mapping[str, Any], target: str, name: str) -> float:
    """target / row within a pass, each divided by how slow the machine was then.

    The first row of a pass is timed `again` after the last; between, the machine is taken to have drifted evenly over the time spent.
    """
    slow = _slowness(timed)
    return (_per_clip(timed["rows"][target]) / slow[target]) / (_per_clip(timed["rows"][name]) / slow[name])


def _slowness(timed: Mapping[str, Any]) -> dict[str, float]:
    """By row, how slow the machine was in the middle of it; 1 for the first row, and for all where that was not timed again."""
    rows, again = timed["rows"], timed.get("again")
    spent = np.array([_per_clip(time) for time in rows.values()] + ([_per_clip(again)] if again else [0.0]))
    middles = np.cumsum(spent) - spent / 2.0
    shares = (middles[:-1] - middles[0]) / (middles[-1] - middles[0]) if len(rows) > 1 or again else np.zeros(1)
    drift = _per_clip(again) / _per_clip(next(iter(rows.values()))) - 1.0 if again else 0.0
    return dict(zip(rows, (1.0 + drift * shares).tolist(), strict=True))


def _per_clip(time: Mapping[str, Any]) -> float:
    return float((time["sampling_s"] + (time["decoding_s"] or 0.0)) / time["clips"])


@dataclass(frozen=True)
class Difference:
    """One student minus the one of the baseline weighting with the same sampler, steps and guidance, paired by clip. name: of the student."""

    name: str
    steps: int
    column: Column
    estimate: Estimate

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0; one in twenty does so by chance."""
        low, high = self.estimate.low, self.estimate.high
        return low is not None and high is not None and (low > 0 or high < 0)

    @property
    def is_better(self) -> bool:
        """Whether the value lies on the good side."""
        return self.estimate.value is not None and (self.estimate.value < 0) == (self.column.direction == "lower")


def differences_of(run: RunData, results: Results) -> list[Difference]:
    """Of all students whose step count the baseline weighting has too, both distilled for as many steps: else the weighting would not be all that
    differs. Raises InputError where the baseline is none of the weightings.
    """
    students = [row for row in results.rows if row.weighting]
    base = run.plan["baseline"]
    baseline = {(*row.key[1:], run.distilled_for(row.key)): row for row in reversed(students) if row.weighting == base}
    several = len({row.key.guidance_scale for row in students}) > 1
    if students and not baseline:
        known = ", ".join(sorted({str(row.weighting) for row in students}))
        raise InputError(f"{run.folder / 'config.toml'}: baseline = {base!r} is none of the weightings in this run: {known}; name one of them")
    found = []
    for row in students:
        other = baseline.get((*row.key[1:], run.distilled_for(row.key)))
        if other is None or other is row or row.key.steps is None:
            continue
        name = row.key.system if row.key.sampler in (None, "ddim") else f"{row.key.system} {row.key.sampler}"
        name += f", guidance {row.key.guidance_scale:g}" if several and row.key.guidance_scale is not None else ""
        estimates = {column: _paired(run, row.key, other.key, column) for column in results.columns}
        found += [Difference(name, row.key.steps, column, estimate) for column, estimate in estimates.items() if estimate]
    return found


def _paired(run: RunData, a: RowKey, b: RowKey, column: Column) -> Estimate | None:
    left, right = (run.scores.get(ScoreKey(key, column.metric, column.embedder)) for key in (a, b))
    if left is None or right is None or left.per_clip is None or right.per_clip is None or left.clip_ids != right.clip_ids:
        return None
    if left.seeds != right.seeds or left.value is None or right.value is None or left.clip_ids is None:
        return None
    dof = min(left.dof or 0, right.dof or 0)
    score = of_contributions(left.value - right.value, left.clip_ids, left.per_clip - right.per_clip, dof=dof)
    return Estimate(score.value, score.ci_low, score.ci_high, score.n)
