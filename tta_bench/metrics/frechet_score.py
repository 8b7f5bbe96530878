"""The Frechet distance as a score: with standard error, interval and influences, by exact deletion of clips.

Deleting a clip with rows y_1..y_p from N is the downdate S' = S - Z^T (I + 11^T / (N - p)) Z of the scatter, Z = y - mean.
With A = F_r S F_r^T = W diag(lam) W^T, F_r a factor of the reference's covariance, the change of tr A^(1/2) is an integral over
a determinant of size p (derived here, from the integral of log(1 + a/s^2) over s in (0, inf) = pi sqrt(a)):

    tr A'^(1/2) - tr A^(1/2) = 1/pi * integral_0^inf log det(I - B (diag(lam) + s^2)^-1 B^T) ds,   B = (I + 11^T/(N-p))^(1/2) Z F_r^T W

The trapezoidal rule in log s, exponentially accurate here, turns it into one matrix product for all clips and nodes: all n
leave-one-out distances cost about as much as a few distances while clips have tens of rows. The interval is for the expected
score at this n, the reference fixed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh, svd

from tta_bench.metrics.clips import Array, ClipRows, TwoSampleMetric, need_clips, same_dim
from tta_bench.metrics.frechet import factor, frechet_distance
from tta_bench.metrics.gaussian import GaussianStats
from tta_bench.metrics.score import Score, jackknife_score, of_contributions, pair_effects, sample_pairs

_EPS = float(np.finfo(np.float64).eps)
_STEP, _TAIL = 0.35, 25.0  # error of the rule exp(-pi^2 / step) = 6e-13; exp(-tail) = 1.4e-11 of the range is cut off
_PAIRS = 512
_MANY_ROWS = 8
_ELEMENTS = 2_000_000  # of the largest temporary array


@dataclass(frozen=True)
class FrechetDistance(TwoSampleMetric):
    """Frechet distance with a jackknife interval over generated clips, the reference fixed.

    Every row of a clip (patch) enters the statistics; a clip is deleted with all its rows (protocol `patches`).
    """

    def compute(self) -> Score:
        """Raises MetricError for fewer than 2 clips on a side."""
        need_clips(self.reference, 2, "Frechet distance (reference)")
        need_clips(self.generated, 2, "Frechet distance (generated)")
        same_dim(self.reference, self.generated)
        return frechet_score(GaussianStats.of_clips(self.reference), self.generated)


def frechet_score(reference: GaussianStats, generated: ClipRows) -> Score:
    """Frechet distance of generated clips to fixed reference statistics, with standard error, interval and influences.

    No interval for fewer than 3 clips. The pair correction of `jackknife_score` is taken from 512 pairs of clips; 256, where clips have many rows.
    """
    stats = GaussianStats.of_clips(generated)
    value = frechet_distance(reference, stats)
    ids = generated.clip_ids
    most_rows = int(generated.counts.max())
    if len(ids) < 3 or stats.n - most_rows < 2:
        return of_contributions(value, ids, np.full(len(ids), np.nan))
    deletions = Deletions(reference, stats)
    without = deletions.distances(generated.chunks())
    pairs = sample_pairs(ids, max(_PAIRS // most_rows, _PAIRS // 2))
    if not len(pairs) or stats.n - 2 * most_rows < 2:
        return jackknife_score(value, ids, without)
    without_pair = deletions.distances(_rows_of_pairs(generated, part) for part in np.array_split(pairs, -(-len(pairs) // 64)))
    return jackknife_score(value, ids, without, pair_effects(value, without, pairs, without_pair))


def _rows_of_pairs(clips: ClipRows, pairs: npt.NDArray[np.int64]) -> list[Array]:
    """(P, D) of both clips of each pair (M, 2)."""
    return [np.concatenate([clips.rows_of(int(i)), clips.rows_of(int(j))]) for i, j in pairs]


class Deletions:
    """Frechet distances to `reference` without some rows of `generated` each."""

    def __init__(self, reference: GaussianStats, generated: GaussianStats) -> None:
        self.n = generated.n
        self.mean = generated.mean
        self.shift = self.mean - reference.mean
        self.reference_variance = reference.total_variance
        self.scatter_trace = generated.total_variance * (self.n - 1)
        root = factor(reference)
        centred = generated.centred
        if centred is not None:
            _, roots, vectors_t = svd(centred @ root.T, full_matrices=False, check_finite=False)
            squares, vectors = roots**2, vectors_t.T
        else:
            squares, vectors = eigh(root @ generated.scatter @ root.T, driver="evd", overwrite_a=True, check_finite=False)
        keep = squares > len(squares) * _EPS * max(float(squares.max(initial=0.0)), 0.0)
        self.squares: Array = squares[keep]
        self.projection: Array = root.T @ vectors[:, keep]

    def distances(self, chunks: Iterable[list[Array]]) -> Array:
        """(n,) distance without each group of rows (P, D), at least 2 rows being left; groups come in lists of bounded size."""
        results = [np.zeros(0)]
        for groups in chunks:
            for p, same in groupby(groups, key=len):
                stacked = list(same)
                size = max(1, _ELEMENTS // max(1, p * (p + 1) // 2 * max(len(self.squares), len(self._nodes[0]))))
                results += [self._without(np.stack(stacked[i : i + size])) for i in range(0, len(stacked), size)]
        return np.concatenate(results)

    def _without(self, groups: Array) -> Array:
        """(G,) distances without each of the groups (G, P, D)."""
        z = groups - self.mean
        left = self.n - z.shape[1]
        total = z.sum(axis=1)
        moved = self.shift - total / left
        scatter = self.scatter_trace - (z * z).sum(axis=(1, 2)) - (total * total).sum(axis=1) / left
        b = z @ self.projection
        b = b + (np.sqrt(1.0 + z.shape[1] / left) - 1.0) * b.mean(axis=1, keepdims=True)  # (I + 11^T/(n-p))^(1/2)
        if z.shape[1] > _MANY_ROWS and 9 * z.shape[1] > len(self.squares):
            trace_root = np.array([self._trace_root(rows) for rows in b])  # a determinant of size p costs more than eigenvalues
        else:
            trace_root = np.sqrt(self.squares).sum() + self._log_dets(b) @ self._nodes[1]
        return np.asarray((moved * moved).sum(axis=1) + self.reference_variance + scatter / (left - 1) - 2.0 * trace_root / np.sqrt(left - 1))

    @cached_property
    def _nodes(self) -> tuple[Array, Array]:
        """(s^2, weights) of the trapezoidal rule in log s; the integrand is analytic within pi/2 of the real axis."""
        if not len(self.squares):
            return np.ones(1), np.zeros(1)
        low, high = 0.5 * np.log(self.squares.min()) - _TAIL, 0.5 * np.log(self.squares.max()) + _TAIL
        s = np.exp(np.arange(low, high + _STEP, _STEP))
        return s * s, s * _STEP / np.pi

    @cached_property
    def _resolvent(self) -> Array:
        """(r, nodes)"""
        return np.asarray(1.0 / (self.squares[:, None] + self._nodes[0]))

    def _trace_root(self, b: Array) -> float:
        """tr A'^(1/2) from the eigenvalues of A' = diag(lam) - B^T B, for B (p, r)."""
        left = np.diag(self.squares) - b.T @ b
        return float(np.sqrt(np.maximum(eigh(left, eigvals_only=True, overwrite_a=True, check_finite=False), 0.0)).sum())

    def _log_dets(self, b: Array) -> Array:
        """(groups, nodes) of log det(I - B (lam + s^2)^-1 B^T) for B (groups, p, r)."""
        p = b.shape[1]
        i, j = np.triu_indices(p)
        grams = (b[:, i] * b[:, j]) @ self._resolvent
        # S' >= 0 bounds each eigenvalue from below; rounding passes the bound where a deletion lowers the rank.
        s2 = self._nodes[0]
        floor = s2 / ((b * b).sum(axis=(1, 2))[:, None] + s2)
        if p == 1:
            return np.asarray(np.log(np.maximum(1.0 - grams[:, 0], floor)))
        matrices = np.empty((*grams[:, 0].shape, p, p))
        matrices[..., i, j] = matrices[..., j, i] = (np.eye(p)[i, j][:, None] - grams).swapaxes(1, 2)
        if p == 2:
            determinants = matrices[..., 0, 0] * matrices[..., 1, 1] - matrices[..., 0, 1] ** 2
            return np.asarray(np.log(np.maximum(determinants, floor**2)))
        sign, log_det = np.linalg.slogdet(matrices)
        return np.asarray(np.where(sign > 0, np.maximum(log_det, p * np.log(floor)), p * np.log(floor)))
