from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.gaussian import GaussianStats

DIM = 12


def _assert_close(a: GaussianStats, b: GaussianStats) -> None:
    """1e-10 of the mean's and of the scatter's norm."""
    assert a.n == b.n
    assert np.linalg.norm(a.mean - b.mean) <= 1e-10 * np.linalg.norm(b.mean)
    assert np.linalg.norm(a.scatter - b.scatter) <= 1e-10 * np.linalg.norm(b.scatter)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) >= 2),
    seed=st.integers(0, 1000),
    order=st.randoms(use_true_random=False),
)
def test_merging_is_associative_commutative_and_split_invariant_at_mean_1e6(sizes: list[int], seed: int, order: object) -> None:
    rows = np.random.default_rng(seed).standard_normal((sum(sizes), DIM)) + 1e6
    parts = [GaussianStats.of(part) for part in np.split(rows, np.cumsum(sizes)[:-1])]
    whole = GaussianStats.of(rows)
    exact = rows.astype(np.longdouble)
    centred = exact - exact.mean(axis=0)
    assert np.linalg.norm(whole.mean - exact.mean(axis=0)) <= 1e-10 * np.linalg.norm(whole.mean)
    assert np.linalg.norm(whole.scatter - centred.T @ centred) <= 1e-10 * np.linalg.norm(whole.scatter)
    left = GaussianStats.empty()
    for part in parts:
        left = left.merge(part)
    right = GaussianStats.empty()
    for part in reversed(parts):
        right = part.merge(right)
    order.shuffle(parts)  # type: ignore[attr-defined]
    shuffled = parts[0].merge(GaussianStats.empty())
    for part in parts[1:]:
        shuffled = shuffled.merge(part)
    for merged in (left, right, shuffled):
        _assert_close(merged, whole)


def test_ten_thousand_single_rows_at_mean_1e6(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((10_000, 6)) + 1e6
    stats = GaussianStats.empty()
    for row in rows:
        stats = stats.merge(GaussianStats.of(row[None]))
    _assert_close(stats, GaussianStats.of(rows))


def test_rows_are_kept_until_there_are_more_than_dimensions(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((DIM + 1, DIM))
    assert GaussianStats.of(rows[:DIM]).rows is not None
    assert GaussianStats.of(rows).rows is None
    assert GaussianStats.of(rows[:DIM]).merge(GaussianStats.of(rows[DIM:])).rows is None


def test_covariance_divides_by_n_minus_1(rng: np.random.Generator) -> None:
    for n in (5, 50):
        rows = rng.standard_normal((n, DIM))
        stats = GaussianStats.of(rows)
        np.testing.assert_allclose(stats.covariance, np.cov(rows.T), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(stats.total_variance, np.cov(rows.T).trace(), rtol=1e-12)


def test_bad_features_are_errors() -> None:
    with pytest.raises(InputError, match="shape"):
        GaussianStats.of(np.ones(3))
    with pytest.raises(InputError, match="NaN or infinity in 1 of 2 rows"):
        GaussianStats.of([[1.0, 2.0], [np.inf, 0.0]])
    with pytest.raises(InputError, match="lengths, 2 and 3"):
        GaussianStats.of(np.ones((4, 2))).merge(GaussianStats.of(np.ones((5, 3))))
    with pytest.raises(MetricError):
        _ = GaussianStats.empty().mean
