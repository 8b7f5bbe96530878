"""Kernel distances: unbiased squared maximum mean discrepancy (Gretton et al. 2012), as KAD and as KID.

    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

Unlike the Frechet distance it is unbiased in n; it can be negative. Intervals are by delete-one jackknife over generated
clips with the reference fixed: resampling with replacement would put copies, k(y, y), into the kernel sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.clips import Array, ClipRows, TwoSampleMetric, as_matrix, need_clips, same_dim
from tta_bench.metrics.score import Score, jackknife_score, of_contributions, pair_effects, sample_pairs

KAD_SCALE = 100.0
_BLOCK = 128
_DIRECT_PAIRS = 500_000
_PAIRS = 4_096
_EQUAL = 64 * float(np.finfo(np.float64).eps)


def kernel_distance(reference: Any, generated: Any, bandwidth: float | None = None) -> float:
    """KAD: 100 x unbiased MMD^2 with a Gaussian kernel, of features (N, D), one row per clip (Chung et al. 2025, arXiv 2502.15602).

    bandwidth: in feature units; default `median_bandwidth(reference)`, as kadtk's README says (its code takes the evaluated set).
    """
    metric = KernelDistance.of(reference=ClipRows.of_matrix(reference), generated=ClipRows.of_matrix(generated), bandwidth=bandwidth)
    return metric.compute().value


def squared_distances(x: Array, y: Array) -> Array:
    """(N, M) squared Euclidean distances of rows, never negative, 0 for copies. Centre both on one point first: it keeps the digits."""
    norms = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y)
    squares = norms - 2.0 * (x @ y.T)
    squares[squares < _EQUAL * norms] = 0.0  # equal rows: what is left is rounding, and would rank copies by chance
    return np.asarray(squares)


def median_bandwidth(features: Any) -> float:
    """Lower median of the distances of all pairs i < j of rows (N, D), exactly (torch.median's), in bounded memory.

    Raises MetricError where it is zero: at least half of all pairs are then equal and no kernel width is defined.
    """
    rows = as_matrix(features)
    if len(rows) < 2:
        raise MetricError("too_few_clips", f"a kernel bandwidth needs at least 2 rows, got {len(rows)}; add reference clips")
    return _bandwidth_of_centred(rows - rows.mean(axis=0))


def _bandwidth_of_centred(rows: Array) -> float:
    squared = _lower_median_squared(rows)
    if not squared > 0:
        raise MetricError("degenerate", "the median distance of the reference features is 0 (most clips are equal); use other reference audio")
    return float(np.sqrt(squared))


def _pair_blocks(rows: Array) -> Iterator[Array]:
    """Squared distances of all pairs i < j, a block of rows at a time."""
    for start in range(0, len(rows), _BLOCK):
        block = squared_distances(rows[start : start + _BLOCK], rows[start:])
        yield block[np.triu_indices(len(block), 1, block.shape[1])]


def _lower_median_squared(rows: Array) -> float:
    """By histograms over ever narrower brackets [low, high] of the wanted rank, until few enough pairs are left to sort."""
    pairs = len(rows) * (len(rows) - 1) // 2
    rank, low, high = (pairs - 1) // 2, 0.0, np.inf
    if pairs > _DIRECT_PAIRS:
        high = max(float(block.max(initial=0.0)) for block in _pair_blocks(rows))
    while pairs > _DIRECT_PAIRS and low < high:
        edges = np.linspace(low, high, 16_385)
        counts = np.zeros(len(edges), dtype=np.int64)  # one bin [a, b) per edge, the last one for `high` itself
        for block in _pair_blocks(rows):
            inside = block[(block >= low) & (block <= high)]
            counts += np.bincount(np.searchsorted(edges, inside, side="right") - 1, minlength=len(edges))
        chosen = int(np.searchsorted(np.cumsum(counts), rank, side="right"))
        rank, pairs = rank - int(counts[:chosen].sum()), int(counts[chosen])
        low, high = float(edges[chosen]), float(np.nextafter(edges[min(chosen + 1, len(edges) - 1)], low))
    if not low < high:
        return low
    left = np.concatenate([block[(block >= low) & (block <= high)] for block in _pair_blocks(rows)])
    return float(np.partition(left, rank)[rank])


def _gaussian_sums(x: Array, y: Array, bandwidth: float) -> Array:
    """(N,) sum over rows of y of k(x_i, y_j) = exp(-d^2 / (2 b^2))."""
    gamma = 0.5 / bandwidth**2
    parts = [np.exp(-gamma * squared_distances(x[i : i + _BLOCK], y)).sum(axis=1) for i in range(0, len(x), _BLOCK)]
    return np.concatenate(parts)


def _clip_kernels(rows: Array, starts: npt.NDArray[np.int64], pairs: npt.NDArray[np.int64], bandwidth: float) -> Array:
    """(M,) sum of k over all rows of one clip and of the other, for pairs (M, 2) of clips whose rows begin at `starts`."""
    if len(rows) == len(starts) - 1:  # one row per clip
        parts = (rows[i] - rows[j] for i, j in (pairs[k : k + _BLOCK].T for k in range(0, len(pairs), _BLOCK)))
        return np.exp(-np.concatenate([np.einsum("ij,ij->i", part, part) for part in parts]) / (2.0 * bandwidth**2))
    clips = np.split(rows, starts[1:-1])
    return np.array([_gaussian_sums(clips[i], clips[j], bandwidth).sum() for i, j in pairs])


@dataclass(frozen=True)
class KernelDistance(TwoSampleMetric):
    """KAD with a jackknife interval over generated clips, the reference and the bandwidth fixed.

    Give `pooled` clips for the protocol `clip` (one row each; unbiased). With several rows per clip (protocol `patches`, kadtk's for
    such embedders) pairs of rows within a clip count too, so it is unbiased over rows only; a clip is deleted with all its rows.
    """

    bandwidth: float | None = None

    def compute(self) -> Score:
        """Raises MetricError for fewer than 2 clips on a side or a zero bandwidth."""
        need_clips(self.reference, 2, "KAD (reference)")
        need_clips(self.generated, 2, "KAD (generated)")
        same_dim(self.reference, self.generated)
        x, y = self.reference.matrix(), self.generated.matrix()
        centre = x.mean(axis=0)
        x -= centre
        y -= centre
        bandwidth = _bandwidth_of_centred(x) if self.bandwidth is None else self.bandwidth
        if not 0 < bandwidth < np.inf:
            raise InputError(f"a kernel bandwidth must be positive and finite, got {bandwidth}")
        m, n = len(x), len(y)
        within_x = float(_gaussian_sums(x, x, bandwidth).sum() - m) / (m * (m - 1))
        starts = np.cumsum([0, *self.generated.counts])
        sums_y = np.add.reduceat(_gaussian_sums(y, y, bandwidth) - 1.0, starts[:-1])
        sums_xy = np.add.reduceat(_gaussian_sums(y, x, bandwidth), starts[:-1])
        every = np.arange(len(self.generated))
        own = _clip_kernels(y, starts, np.stack([every, every], axis=1), bandwidth) - self.generated.counts
        value = KAD_SCALE * (within_x + sums_y.sum() / (n * (n - 1)) - 2.0 * sums_xy.sum() / (m * n))
        left = n - self.generated.counts
        details = {"bandwidth": bandwidth}
        if left.min() < 2:
            return of_contributions(value, self.generated.clip_ids, np.full(len(left), np.nan), details)
        within_y = (sums_y.sum() - 2.0 * sums_y + own) / (left * (left - 1))
        without = KAD_SCALE * (within_x + within_y - 2.0 * (sums_xy.sum() - sums_xy) / (m * left))
        pairs = sample_pairs(self.generated.clip_ids, _PAIRS)
        left_pair = n - self.generated.counts[pairs].sum(axis=1)
        if not len(pairs) or left_pair.min() < 2:
            return jackknife_score(value, self.generated.clip_ids, without, details=details)
        shared = _clip_kernels(y, starts, pairs, bandwidth)
        within_y = (sums_y.sum() - (2.0 * sums_y - own)[pairs].sum(axis=1) + 2.0 * shared) / (left_pair * (left_pair - 1))
        crossed = (sums_xy.sum() - sums_xy[pairs].sum(axis=1)) / (m * left_pair)
        effects = pair_effects(value, without, pairs, KAD_SCALE * (within_x + within_y - 2.0 * crossed))
        return jackknife_score(value, self.generated.clip_ids, without, effects, details)


@dataclass(frozen=True)
class KernelInceptionDistance(TwoSampleMetric):
    """KID (Binkowski et al. 2018): mean over random subsets of the unbiased MMD^2 with kernel (x.y / D + 1)^3.

    Subsets as torch-fidelity draws them: RandomState(2020), without replacement, the generated subset before the reference
    one; `subset_std` in the details is the population standard deviation over subsets, which is not a standard error: the
    interval is by jackknife, deleting a clip from the subsets that hold it; somewhat wide where the sets hardly differ.
    """

    subsets: int = 100
    subset_size: int = 50
    seed: int = 2020

    def compute(self) -> Score:
        """Raises MetricError where a set has fewer clips than a subset."""
        if self.subset_size < 3 or self.subsets < 1:
            raise InputError(f"KID needs subsets of at least 3 clips, got {self.subsets} of {self.subset_size}")
        need_clips(self.reference, self.subset_size, "KID (reference)")
        need_clips(self.generated, self.subset_size, "KID (generated)")
        same_dim(self.reference, self.generated)
        x, y = self.reference.pooled().matrix(), self.generated.pooled().matrix()
        rng = np.random.RandomState(self.seed)
        values, change = np.empty(self.subsets), np.zeros(len(y))
        for k in range(self.subsets):
            picked_y = rng.choice(len(y), self.subset_size, replace=False)
            picked_x = rng.choice(len(x), self.subset_size, replace=False)
            values[k], without = _polynomial_mmd(x[picked_x], y[picked_y])
            change[picked_y] += (without - values[k]) / self.subsets
        value = float(values.mean())
        return jackknife_score(value, self.generated.clip_ids, value + change, details={"subset_std": float(values.std())})


def _polynomial_mmd(x: Array, y: Array) -> tuple[float, Array]:
    """Unbiased MMD^2 of rows (m, D) each, and (m,) the same without row i of y."""
    m, dim = y.shape
    k_xx, k_yy, k_xy = ((a @ b.T / dim + 1.0) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within_x = (k_xx.sum() - np.trace(k_xx)) / (m * (m - 1))
    sums_y, sums_xy = k_yy.sum(axis=1) - np.diag(k_yy), k_xy.sum(axis=0)
    value = within_x + sums_y.sum() / (m * (m - 1)) - 2.0 * sums_xy.sum() / (m * m)
    without = within_x + (sums_y.sum() - 2.0 * sums_y) / ((m - 1) * (m - 2)) - 2.0 * (sums_xy.sum() - sums_xy) / (m * (m - 1))
    return float(value), without
