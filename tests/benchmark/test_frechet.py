"""Frechet distance against the matrix square root that nearly all tools use, at the sizes of AudioCaps' test lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg

from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.frechet import frechet_distance
from tta_bench.metrics.frechet_score import frechet_score
from tta_bench.metrics.gaussian import GaussianStats

DIM = 2048
SIZES = (4875, 882)


def features(seed: int, n: int) -> np.ndarray:
    """ReLU features with a decaying spectrum, as a classifier's penultimate layer gives them."""
    mixing = np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, DIM)))[0]
    rows = np.random.default_rng(seed).standard_normal((n, DIM)) * np.arange(1, DIM + 1) ** -0.5
    return np.maximum(10.0 * rows @ mixing + 0.05 * seed, 0.0)


def by_sqrtm(x: np.ndarray, y: np.ndarray) -> float:
    """As the tools do it, from covariances."""
    s_x, s_y = np.cov(x.T), np.cov(y.T)
    shift = x.mean(axis=0) - y.mean(axis=0)
    return float(shift @ shift + np.trace(s_x) + np.trace(s_y) - 2 * np.trace(scipy.linalg.sqrtm(s_x @ s_y)).real)


def exact(x: np.ndarray, y: np.ndarray) -> float:
    """From singular values of the data themselves; no covariance is formed."""
    factors = [np.linalg.qr(rows - rows.mean(axis=0), mode="r") / np.sqrt(len(rows) - 1) for rows in (x, y)]
    shift = x.mean(axis=0) - y.mean(axis=0)
    traces = sum((factor**2).sum() for factor in factors)
    return float(shift @ shift + traces - 2 * scipy.linalg.svdvals(factors[0] @ factors[1].T).sum())


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("method", ["ours", "sqrtm"])
def test_distance(benchmark: Any, n: int, method: str) -> None:
    x, y = features(1, n), features(2, n)
    value = benchmark.pedantic({"ours": frechet_distance, "sqrtm": by_sqrtm}[method], args=(x, y), rounds=3, warmup_rounds=0)
    benchmark.extra_info["relative_error"] = abs(value / exact(x, y) - 1)
    assert benchmark.extra_info["relative_error"] < 1e-3


@pytest.mark.parametrize(("n", "dim"), [(882, 2048), (4875, 2048), (882, 128)])
def test_distance_with_interval(benchmark: Any, n: int, dim: int) -> None:
    """Distance, exact leave-one-out distances of all clips and 512 pairs."""
    x, y = features(1, n)[:, :dim], features(2, n)[:, :dim]
    score = benchmark.pedantic(frechet_score, args=(GaussianStats.of(x), ClipRows.of_matrix(y)), rounds=2)
    assert score.std_error > 0
