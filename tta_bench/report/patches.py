"""What DiTAR's own settings do: patch size, history and temperature, over networks that differ in their training seed only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from tta_bench.metrics.score import mean_score
from tta_bench.report.results import Column, Estimate, Result, Results, estimate_from
from tta_bench.report.run_data import RunData

Dimension = Literal["temperature", "patch", "history"]
DIMENSIONS: tuple[Dimension, ...] = ("temperature", "patch", "history")
_UNITS = {"temperature": "", "patch": " frames", "history": " patches"}


class Facts(NamedTuple):
    """What decides a row but for the training seed. history: in patches; None where one patch is the whole clip, which has no past. recipe: how it
    was trained, but for patch and history.
    """

    patch: int
    history: int | None
    temperature: float
    sampler: str
    steps: int
    guidance_scale: float | None
    weighting: str | None
    distilled_for: int | None
    recipe: str

    def place(self, dimension: Dimension) -> float | None:
        """Where it lies along one of them."""
        value: float | None = getattr(self, dimension)
        return value


@dataclass(frozen=True)
class Variant:
    """Rows of equal facts, by their training seed."""

    facts: Facts
    rows: Mapping[int, Result]

    def estimate(self, column: Column) -> Estimate | None:
        """Mean and 95 % interval over trainings; of a single one, its own interval over clips. None where a training has no value."""
        found = [row.estimates.get(column) for row in self.rows.values()]
        values = [estimate.value for estimate in found if estimate is not None and estimate.value is not None]
        if not values or len(values) < len(found):
            return None
        return found[0] if len(values) == 1 else estimate_from(mean_score([str(seed) for seed in self.rows], np.array(values)))


@dataclass(frozen=True)
class Series:
    """Variants that differ along one dimension alone, by its rising value."""

    dimension: Dimension
    label: str
    points: tuple[tuple[float, Variant], ...]


@dataclass(frozen=True)
class Change:
    """From one point of a series to the next: mean over trainings of the difference, paired by training seed."""

    series: Series
    before: float
    after: float
    estimates: Mapping[Column, Estimate]

    @property
    def what(self) -> str:
        """For people."""
        unit = _UNITS[self.series.dimension]
        return f"{self.series.dimension} {self.before:g} → {self.after:g}{unit}"


def variants_of(run: RunData, results: Results) -> list[Variant]:
    """Of the rows whose cards say a patch size. Of two rows with equal facts and seed, the first."""
    found: dict[Facts, dict[int, Result]] = {}
    for row in results.rows:
        card = run.card_of(row.key)
        if "patch" in card:
            found.setdefault(_facts(row, card), {}).setdefault(int(card.get("seed", 0)), row)
    return [Variant(facts, dict(sorted(rows.items()))) for facts, rows in found.items()]


def _facts(row: Result, card: Mapping[str, Any]) -> Facts:
    recipe = {key: value for key, value in card.get("recipe", {}).items() if key not in ("patch", "history")}
    history = None if card["patches"] == 1 else card["history"]
    sampler = (row.key.sampler or "").partition(", temperature")[0]
    distilled = card["steps"] if row.weighting else None
    return Facts(
        card["patch"], history, card["temperature"], sampler, row.key.steps or 0, row.key.guidance_scale, row.weighting, distilled,
        json.dumps(recipe, sort_keys=True),
    )  # fmt: skip


def series_along(variants: Sequence[Variant], dimension: Dimension) -> list[Series]:
    """Every set of variants with two points at least along `dimension`; over patch sizes, the whole clip as one patch ends each of them."""
    groups: dict[Facts, list[Variant]] = {}
    whole: list[Variant] = []
    for variant in variants:
        if variant.facts.history is None and dimension != "temperature":
            whole.append(variant)
        else:
            groups.setdefault(_without(variant.facts, dimension), []).append(variant)
    if dimension == "patch":
        for common, mine in groups.items():
            mine += [variant for variant in whole if _without(variant.facts._replace(history=common.history), dimension) == common]
    several = {common: mine for common, mine in groups.items() if len(mine) > 1}
    return [Series(dimension, _label(common, list(several)), _ordered(mine, dimension)) for common, mine in several.items()]


def _without(facts: Facts, dimension: Dimension) -> Facts:
    changes: dict[str, Any] = {dimension: 0}
    return facts._replace(**changes)


def _ordered(variants: Sequence[Variant], dimension: Dimension) -> tuple[tuple[float, Variant], ...]:
    placed = [(place, variant) for variant in variants if (place := variant.facts.place(dimension)) is not None]
    return tuple(sorted(placed, key=lambda point: point[0]))


def _label(facts: Facts, beside: Sequence[Facts]) -> str:
    """What tells a series from those beside it."""
    words = {
        "patch": f"patch {facts.patch}",
        "history": f"history {facts.history}",
        "temperature": f"temperature {facts.temperature:g}",
        "sampler": facts.sampler,
        "steps": f"{facts.steps} step{'s' * (facts.steps != 1)}",
        "guidance_scale": f"guidance {facts.guidance_scale or 1.0:g}",
        "weighting": facts.weighting or "teacher",
        "distilled_for": f"distilled for {facts.distilled_for}",
        "recipe": f"training {sorted({other.recipe for other in beside}).index(facts.recipe) + 1}",
    }
    return ", ".join(word for key, word in words.items() if len({getattr(other, key) for other in beside}) > 1) or "DiTAR"


def changes_along(series: Series, columns: Sequence[Column]) -> list[Change]:
    """Between neighbours that at least two training seeds have in common."""
    found = []
    for (before, first), (after, second) in pairwise(series.points):
        seeds = [seed for seed in first.rows if seed in second.rows]
        estimates = {}
        for column in columns:
            pairs = [(first.rows[seed].estimates.get(column), second.rows[seed].estimates.get(column)) for seed in seeds]
            values = [b.value - a.value for a, b in pairs if a and b and a.value is not None and b.value is not None]
            if len(values) == len(seeds) >= 2:
                estimates[column] = estimate_from(mean_score([str(seed) for seed in seeds], np.array(values)))
        if estimates:
            found.append(Change(series, before, after, estimates))
    return found
