"""From scores and clock readings to the rows of a table: one number with an interval for each metric, speed beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tta_bench.errors import InputError
from tta_bench.metrics.score import Score, of_contributions
from tta_bench.report.run_data import RunData
from tta_bench.report.speed import Speed, speed_of
from tta_bench.rows import RowKey, RowScore, ScoreKey

METRIC_ORDER = ("fad", "kad", "kl", "is", "clap", "fidelity_mel", "fidelity_cosine", "fidelity_kl")
_ACRONYMS = ("fad", "kad", "kid", "kl", "is", "clap")


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

    @property
    def leaves_out_zero(self) -> bool:
        """Whether the interval of a difference does."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


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
    return " ".join(word.upper() if word in _ACRONYMS else word for word in metric.split("_"))


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


def estimate_from(score: Score) -> Estimate:
    """A score as a table shows it."""
    return Estimate(score.value, score.ci_low, score.ci_high, score.n)


@dataclass(frozen=True)
class Difference:
    """One student minus the one of the baseline weighting and its family with the same sampler, steps and guidance, paired by clip. name: its own."""

    name: str
    steps: int
    column: Column
    estimate: Estimate

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0; one in twenty does so by chance."""
        return self.estimate.leaves_out_zero

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
    baseline = {(*row.key[1:], run.distilled_for(row.key), row.family): row for row in reversed(students) if row.weighting == base}
    several = len({row.key.guidance_scale for row in students}) > 1
    if students and not baseline:
        known = ", ".join(sorted({str(row.weighting) for row in students}))
        raise InputError(f"{run.folder / 'config.toml'}: baseline = {base!r} is none of the weightings in this run: {known}; name one of them")
    found = []
    for row in students:
        other = baseline.get((*row.key[1:], run.distilled_for(row.key), row.family))
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
    return estimate_from(of_contributions(left.value - right.value, left.clip_ids, left.per_clip - right.per_clip, dof=dof))
