"""Frechet distance between Gaussians fitted to features (Dowson & Landau 1982; FID: Heusel et al. 2017; FAD: Kilgour et al. 2019).

    d^2 = |mu_r - mu_g|^2 + tr S_r + tr S_g - 2 tr (S_r S_g)^(1/2)

The last trace is the nuclear norm of F_r F_g^T for any factors with S = F^T F, and is computed as one, so that no matrix
square root, no complex number and no constant on the diagonal is needed. While n <= D the factors are the centred rows
themselves (n x n problem); otherwise Cholesky factors, or, where a covariance is singular, those of a symmetric
eigendecomposition with the null space dropped.

The distance is biased upwards in n: scores with different n must not be compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cholesky, eigh, svdvals
from scipy.linalg.blas import dsyrk, dtrmm

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.clips import Array, ClipRows
from tta_bench.metrics.gaussian import GaussianStats

_EPS = float(np.finfo(np.float64).eps)


def frechet_distance(reference: Any, generated: Any) -> float:
    """Squared Frechet distance of two sets of features (N, D), numpy or torch, or of two `GaussianStats`; at least 2 rows each.

    Raises InputError for NaN, infinity or different D, MetricError for fewer than 2 rows.
    """
    left, right = _stats(reference), _stats(generated)
    for stats, what in ((left, "reference"), (right, "generated")):
        if stats.n < 2:
            raise MetricError("too_few_clips", f"a Frechet distance needs at least 2 rows, the {what} set has {stats.n}; add clips")
    if left.dim != right.dim:
        raise InputError(f"features have different lengths, {left.dim} (reference) and {right.dim} (generated); use one embedder for both")
    shift = left.mean - right.mean
    return float(shift @ shift) + left.total_variance + right.total_variance - 2.0 * _trace_sqrt_product(left, right)


def _stats(features: Any) -> GaussianStats:
    if isinstance(features, GaussianStats):
        return features
    return GaussianStats.of_clips(features) if isinstance(features, ClipRows) else GaussianStats.of(features)


def _trace_sqrt_product(left: GaussianStats, right: GaussianStats) -> float:
    """tr (S_l S_r)^(1/2)."""
    upper_l, upper_r = _cholesky(left), _cholesky(right)
    if upper_l is not None and upper_r is not None:
        # Singular values through eigenvalues of the Gram matrix: 3x cheaper, and exact enough while well conditioned.
        product = dtrmm(1.0, upper_l, upper_r.T, side=0, lower=0)
        squares = eigh(dsyrk(1.0, product, lower=1), lower=True, eigvals_only=True, overwrite_a=True, check_finite=False)
        if squares[0] > 1e-10 * squares[-1]:
            return float(np.sqrt(squares).sum())
        return float(svdvals(product, overwrite_a=True, check_finite=False).sum())
    factor_l = factor(left) if upper_l is None else upper_l
    factor_r = factor(right) if upper_r is None else upper_r
    return float(svdvals(factor_l @ factor_r.T, overwrite_a=True, check_finite=False).sum())


def _cholesky(stats: GaussianStats) -> Array | None:
    """Upper U with U^T U = S, or None where S is (nearly) singular or known by its rows."""
    if stats.rows is not None:
        return None
    covariance = stats.covariance
    try:
        upper: Array = cholesky(covariance, lower=False, check_finite=False)
    except LinAlgError:
        return None
    pivots = np.diag(upper) ** 2
    return upper if pivots.min() > 100 * stats.dim * _EPS * np.diag(covariance).max() else None


def factor(stats: GaussianStats) -> Array:
    """(r, D) F with F^T F = S: the centred rows, or eigenvectors scaled by roots of eigenvalues without the null space."""
    centred = stats.centred
    if centred is not None:
        return np.asarray(centred / np.sqrt(stats.n - 1))
    values, vectors = eigh(stats.covariance, driver="evd", overwrite_a=True, check_finite=False)
    keep = values > stats.dim * _EPS * max(values[-1], 0.0)
    return np.asarray((vectors[:, keep] * np.sqrt(values[keep])).T)
