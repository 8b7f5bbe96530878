"""Nearest-neighbour metrics: precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

All four lie in [0, 1] but density, which can exceed 1; higher is better. One row per clip. Intervals by delete-a-group
jackknife over generated clips: copies of a clip, as a bootstrap makes them, would be their own nearest neighbours. Memory O(N^2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tta_bench.errors import InputError
from tta_bench.metrics.clips import Array, ClipRows, TwoSampleMetric, need_clips, same_dim
from tta_bench.metrics.kernel import squared_distances
from tta_bench.metrics.score import Score, group_jackknife_score

_TIE = 1e-10  # squared distances closer than this share are equal: copies of a clip must not be ranked by rounding


def neighbour_score(reference: Any, generated: Any, kind: str, k: int | None = None) -> float:
    """One of `KINDS` of features (N, D), with the k of its paper unless given."""
    batch = {"reference": ClipRows.of_matrix(reference), "generated": ClipRows.of_matrix(generated)}
    return NeighbourMetric.of(**batch, kind=kind, k=k).compute().value


def precision(within_reference: Array, within_generated: Array, across: Array, k: int) -> float:
    """Share of generated clips no farther from some reference clip than its k-th reference neighbour (<=)."""
    return float((across <= _radii(within_reference, k)[:, None] * (1 + _TIE)).any(axis=0).mean())


def recall(within_reference: Array, within_generated: Array, across: Array, k: int) -> float:
    """Share of reference clips no farther from some generated clip than its k-th generated neighbour (<=)."""
    return float((across <= _radii(within_generated, k) * (1 + _TIE)).any(axis=1).mean())


def density(within_reference: Array, within_generated: Array, across: Array, k: int) -> float:
    """Mean number, over k, of reference neighbourhoods (<) that hold a generated clip."""
    return float((across < _radii(within_reference, k)[:, None] * (1 - _TIE)).sum(axis=0).mean() / k)


def coverage(within_reference: Array, within_generated: Array, across: Array, k: int) -> float:
    """Share of reference clips whose neighbourhood (<) holds a generated clip."""
    return float((across.min(axis=1) < _radii(within_reference, k) * (1 - _TIE)).mean())


def _radii(within: Array, k: int) -> Array:
    """(N,) squared distance to the k-th neighbour; position 0 is the clip itself."""
    return np.partition(within, k, axis=1)[:, k]


@dataclass(frozen=True)
class NeighbourMetric(TwoSampleMetric):
    """kind: a key of `KINDS`. k: neighbours; None takes the paper's (3 for precision and recall, 5 for density and coverage)."""

    kind: str = "precision"
    k: int | None = None

    def compute(self) -> Score:
        """Raises MetricError for too few clips to have k neighbours."""
        if self.kind not in KINDS:
            raise InputError(f"unknown neighbour metric {self.kind!r}; known: {', '.join(KINDS)}")
        statistic, default_k = KINDS[self.kind]
        k = default_k if self.k is None else self.k
        if k < 1:
            raise InputError(f"{self.kind} needs at least 1 neighbour, got k = {k}")
        need_clips(self.reference, k + 1, f"{self.kind} with k = {k} (reference)")
        need_clips(self.generated, 2 * k + 2, f"{self.kind} with k = {k} (generated)")
        same_dim(self.reference, self.generated)
        x, y = self.reference.pooled().matrix(), self.generated.pooled().matrix()
        centre = x.mean(axis=0)
        x, y = x - centre, y - centre
        xx, yy, xy = squared_distances(x, x), squared_distances(y, y), squared_distances(x, y)
        for within in (xx, yy):
            np.fill_diagonal(within, 0.0)
        value = statistic(xx, yy, xy, k)
        return group_jackknife_score(value, self.generated.clip_ids, lambda keep: statistic(xx, yy[np.ix_(keep, keep)], xy[:, keep], k))


KINDS: dict[str, tuple[Callable[[Array, Array, Array, int], float], int]] = {
    "precision": (precision, 3),
    "recall": (recall, 3),
    "density": (density, 5),
    "coverage": (coverage, 5),
}
