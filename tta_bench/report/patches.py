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
    """What decides a row but for the training seed. history: in patches; None where one patch is the whole clip, which has no past. kind: the
    weighting of a student, else the network's role. training: what it and its teacher were trained on, and how, but for patch and history. name: of
    the system, where nothing else tells apart two networks of one training seed.
    """

    patch: int
    history: int | None
    temperature: float
    sampler: str
    steps: int
    guidance_scale: float | None
    stop: bool
    kind: str
    distilled_for: int | None
    training: str
    name: str = ""

    def place(self, dimension: Dimension) -> float | None:
        """Where it lies along one of them."""
        value: float | None = getattr(self, dimension)
        return value


@dataclass(frozen=True)
class Variant:
    """Rows of equal facts, by their training seed."""

    facts: Facts
    rows: Mapping[int, Result]

    @property
    def nfe(self) -> int | None:
        """Evaluations of LocDiT for a clip."""
        return next(iter(self.rows.values())).nfe

    def estimate(self, column: Column) -> Estimate | None:
        """Mean and 95 % interval over trainings; of a single one, its own interval over clips. None where a training has no value, or one over other
        clips than the rest.
        """
        found = [row.estimates.get(column) for row in self.rows.values()]
        values = _comparable(found)
        if len(values) > 1:
            return estimate_from(mean_score([str(seed) for seed in self.rows], np.array(values)))
        return found[0] if values else None


def _comparable(estimates: Sequence[Estimate | None]) -> list[float]:
    """The values of all, or of none where one lacks it or is over another number of clips than the rest."""
    found = [(estimate.value, estimate.n) for estimate in estimates if estimate is not None and estimate.value is not None]
    return [value for value, _ in found] if len(found) == len(estimates) and len({n for _, n in found}) == 1 else []


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
    """Of the rows whose cards say a patch size. A network that stands there under two names is taken once."""
    found: dict[Facts, dict[int, Result]] = {}
    networks: dict[tuple[Facts, int], Any] = {}
    for row in results.rows:
        card = run.card_of(row.key)
        if "patch" in card:
            facts, seed = _facts(row, card), int(card.get("seed", 0))
            network = networks.setdefault((facts, seed), card.get("checksum"))
            if network != card.get("checksum"):
                facts = facts._replace(name=row.key.system)
            found.setdefault(facts, {}).setdefault(seed, row)
    return [Variant(facts, dict(sorted(rows.items()))) for facts, rows in found.items()]


def _facts(row: Result, card: Mapping[str, Any]) -> Facts:
    training = {key: card.get(key) for key in ("data", "codec_sha256", "guidance_scales")}
    training |= {
        recipe: {key: value for key, value in (card.get(recipe) or {}).items() if key not in ("patch", "history")}
        for recipe in ("recipe", "teacher_recipe")
    }
    history = None if card["patches"] == 1 else card["history"]
    sampler = (row.key.sampler or "").partition(", temperature")[0]
    distilled = card["steps"] if row.weighting else None
    return Facts(
        card["patch"], history, card["temperature"], sampler, row.key.steps or 0, row.key.guidance_scale, card.get("stop", True),
        row.weighting or card.get("role", "teacher"), distilled, json.dumps(training, sort_keys=True),
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
        "stop": "stops" if facts.stop else "never stops",
        "kind": facts.kind,
        "distilled_for": f"distilled for {facts.distilled_for}",
        "name": facts.name or "the other",
    }
    told = [word for key, word in words.items() if len({getattr(other, key) for other in beside}) > 1]
    alike = sorted({other.training for other in beside if (other.kind, other.distilled_for) == (facts.kind, facts.distilled_for)})
    told += [f"training {alike.index(facts.training) + 1}"] if len(alike) > 1 else []
    return ", ".join(told) or "DiTAR"


def changes_along(series: Series, columns: Sequence[Column]) -> list[Change]:
    """Between neighbours that at least two training seeds have in common."""
    found = []
    for (before, first), (after, second) in pairwise(series.points):
        seeds = [seed for seed in first.rows if seed in second.rows]
        estimates = {}
        for column in columns:
            a, b = ([variant.rows[seed].estimates.get(column) for seed in seeds] for variant in (first, second))
            values = np.array(_comparable([*a, *b])).reshape(2, -1)
            if values.shape[1] >= 2:
                estimates[column] = estimate_from(mean_score([str(seed) for seed in seeds], values[1] - values[0]))
        if estimates:
            found.append(Change(series, before, after, estimates))
    return found
