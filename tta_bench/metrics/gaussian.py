"""Mean and covariance of feature rows, streaming and mergeable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.clips import Array, ClipRows, as_matrix


@dataclass(frozen=True)
class GaussianStats:
    """Count, mean and scatter of rows (N, D), an accumulator: `empty`, `of`, `merge`; float64.

    Rows are kept as they are until there are more of them than dimensions, because the low-rank Frechet distance
    needs them and they are then the smaller form; after that they are folded into (n, mean, scatter), merged by Chan's centred
    formula (Chan, Golub & LeVeque 1983). Memory is O(D^2), whatever n is.
    """

    n: int = 0
    rows: Array | None = None  # (n, D) while n <= D
    folded: tuple[Array, Array] | None = None  # mean (D,), scatter (D, D) once n > D

    @classmethod
    def empty(cls) -> Self:
        """No rows: neutral for `merge`."""
        return cls()

    @classmethod
    def of(cls, features: Any) -> Self:
        """Statistics of a batch of rows (N, D), numpy or torch. Raises InputError where a value is not finite."""
        rows = as_matrix(features)
        n, dim = rows.shape
        if n == 0:
            return cls()
        return cls(n, rows=rows) if n <= dim else cls(n, folded=_fold(rows))

    @classmethod
    def of_clips(cls, clips: ClipRows) -> Self:
        """Statistics of all rows of all clips, read a bounded number of rows at a time, in the order of the clip ids."""
        stats = cls.empty()
        for matrix, _ in clips.matrices():
            stats = stats.merge(cls.of(matrix))
        return stats

    def merge(self, other: Self) -> Self:
        """Statistics of both sets of rows."""
        if not self.n or not other.n:
            return self if self.n else other
        if self.dim != other.dim:
            raise InputError(f"features have different lengths, {self.dim} and {other.dim}; use one embedder for both")
        n = self.n + other.n
        if self.rows is not None and other.rows is not None:
            rows = np.concatenate([self.rows, other.rows])
            return type(self)(n, rows=rows) if n <= self.dim else type(self)(n, folded=_fold(rows))
        (mean_a, scatter_a), (mean_b, scatter_b) = self._as_folded(), other._as_folded()
        delta = mean_b - mean_a
        mean = mean_a + delta * (other.n / n)
        scatter = scatter_a + scatter_b + np.outer(delta, delta * (self.n * other.n / n))
        return type(self)(n, folded=(mean, scatter))

    def _as_folded(self) -> tuple[Array, Array]:
        if self.folded is not None:
            return self.folded
        if self.rows is None:
            raise MetricError("too_few_clips", "statistics of no rows were asked for their mean; add features first")
        return _fold(self.rows)

    @property
    def dim(self) -> int:
        """D. Raises MetricError for the empty accumulator, which has none."""
        if self.rows is not None:
            return int(self.rows.shape[1])
        return len(self._as_folded()[0])

    @property
    def mean(self) -> Array:
        """(D,)"""
        return self.rows.mean(axis=0) if self.rows is not None else self._as_folded()[0]

    @property
    def scatter(self) -> Array:
        """(D, D) sum of outer products of centred rows."""
        return self._as_folded()[1]

    @property
    def covariance(self) -> Array:
        """(D, D), divided by n - 1."""
        return self.scatter / (self.n - 1)

    @property
    def centred(self) -> Array | None:
        """(n, D) rows less their mean while they are kept, else None."""
        return None if self.rows is None else self.rows - self.rows.mean(axis=0)

    @property
    def total_variance(self) -> float:
        """Trace of the covariance."""
        centred = self.centred
        scatter = float(np.trace(self.scatter)) if centred is None else float((centred * centred).sum())
        return scatter / (self.n - 1)


def _fold(rows: Array) -> tuple[Array, Array]:
    mean = rows.mean(axis=0)
    centred = rows - mean
    # The mean is rounded at the size of the values; what the centred rows still hold of it is taken out once more.
    rest = centred.mean(axis=0)
    centred -= rest
    return mean + rest, centred.T @ centred
