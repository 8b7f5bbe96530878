"""FAD-infinity: the Frechet distance extrapolated to infinitely many generated clips (Chong & Forsyth 2020; Gui et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.clips import Array, ClipRows, TwoSampleMetric, need_clips, same_dim
from tta_bench.metrics.frechet import frechet_distance
from tta_bench.metrics.gaussian import GaussianStats
from tta_bench.metrics.score import Score, group_jackknife_score
from tta_bench.rng import stream_seed


def frechet_infinity(reference: Any, generated: Any, points: int = 15, seed: int = 0) -> float:
    """Intercept at 1/n = 0 of a least-squares line through Frechet distances of subsets, features (N, D) with one row per clip."""
    batch = {"reference": ClipRows.of_matrix(reference), "generated": ClipRows.of_matrix(generated)}
    return FrechetInfinity.of(**batch, points=points, seed=seed).compute().value


@dataclass(frozen=True)
class FrechetInfinity(TwoSampleMetric):
    """Frechet distances at `points` sizes from n/10 (or 2 D rows, if that is more) to n, and a least-squares line in 1/n through
    them; the value is its intercept.

    At each size the clips, in an order hashed from (`seed`, point, clip id), are cut into as many disjoint subsets as there are, and
    their distances averaged: deleting a clip then changes little else, and small sizes are not noisier than large ones.
    Reference fixed, so its own finite-n bias stays. A metric of its own, never mixed with plain FAD.
    Interval: delete-a-group jackknife over 10 groups.
    """

    points: int = 15
    seed: int = 0

    def compute(self) -> Score:
        """Raises MetricError for fewer than 20 generated clips."""
        need_clips(self.reference, 2, "FAD-infinity (reference)")
        need_clips(self.generated, 20, "FAD-infinity (generated)")
        same_dim(self.reference, self.generated)
        reference = GaussianStats.of_clips(self.reference)
        rows = list(self.generated.rows_of_clips())
        least = _least_size(self.generated)
        if self.points < 2:
            raise InputError(f"FAD-infinity fits a line through at least 2 points, got {self.points}")
        ids = self.generated.clip_ids
        orders = [sorted(range(len(ids)), key=lambda i: stream_seed(self.seed, "fad_infinity", k, ids[i])) for k in range(self.points)]

        def line(keep: npt.NDArray[np.bool_]) -> tuple[float, float]:
            kept = [[rows[i] for i in order if keep[i]] for order in orders]
            return _extrapolate(reference, kept, least)

        value, slope = line(np.ones(len(ids), dtype=bool))
        return group_jackknife_score(value, ids, lambda keep: line(keep)[0], groups=10, details={"slope": slope})


def _least_size(clips: ClipRows) -> int:
    """Clips in the smallest subset: a tenth of all, but enough for twice as many rows as dimensions, below which no line fits.

    Raises MetricError where that is more than half of all clips.
    """
    rows_per_clip = float(clips.counts.mean())
    least = max(2, len(clips) // 10, int(np.ceil(2 * clips.dim / rows_per_clip)))
    if 2 * least > len(clips):
        need = int(np.ceil(4 * clips.dim / rows_per_clip))
        raise MetricError("too_few_clips", f"FAD-infinity needs at least {need} clips for {clips.dim} dimensions, got {len(clips)}; add clips")
    return least


def _extrapolate(reference: GaussianStats, orders: list[list[Array]], least: int) -> tuple[float, float]:
    """(intercept, slope in 1/n) of the line through one size per order of the clips' rows."""
    n = len(orders[0])
    sizes = np.linspace(min(least, n // 2), n, len(orders)).round().astype(int)
    distances = []
    for size, rows in zip(sizes, orders, strict=True):
        subsets = [np.concatenate(rows[start : start + size]) for start in range(0, n - size + 1, size)]
        distances.append(np.mean([frechet_distance(reference, subset) for subset in subsets]))
    slope, intercept = np.polyfit(1.0 / sizes, np.array(distances), 1)
    return float(intercept), float(slope)
