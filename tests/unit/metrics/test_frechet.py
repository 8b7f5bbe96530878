from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.frechet import frechet_distance
from tta_bench.metrics.frechet_score import Deletions, FrechetDistance, frechet_score
from tta_bench.metrics.gaussian import GaussianStats


def _with_moments(rng: np.random.Generator, n: int, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Rows with exactly this sample mean and covariance."""
    rows = rng.standard_normal((n, len(mean)))
    rows -= rows.mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(rows.T)), rows.T)
    return (scipy.linalg.sqrtm(covariance).real @ white).T + mean


def _by_sqrtm(reference: np.ndarray, generated: np.ndarray) -> float:
    s_r, s_g = np.cov(reference.T), np.cov(generated.T)
    shift = reference.mean(axis=0) - generated.mean(axis=0)
    return float(shift @ shift + np.trace(s_r + s_g) - 2 * np.trace(scipy.linalg.sqrtm(s_r @ s_g)).real)


def test_closed_forms(rng: np.random.Generator) -> None:
    eye, zero = np.eye(4), np.zeros(4)
    mean = np.array([1.0, -2.0, 0.5, 3.0])
    a, b = np.array([4.0, 1.0, 0.25, 9.0]), np.array([1.0, 1.0, 2.25, 4.0])
    for (mean_r, cov_r), (mean_g, cov_g), expected in (
        ((zero, eye), (mean, eye), mean @ mean),
        ((zero, 4 * eye), (zero, 9 * eye), 4 * (2 - 3) ** 2),
        ((zero, np.diag(a)), (zero, np.diag(b)), ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()),
    ):
        value = frechet_distance(_with_moments(rng, 50, mean_r, cov_r), _with_moments(rng, 60, mean_g, cov_g))
        np.testing.assert_allclose(value, expected, rtol=1e-10)


def test_covariances_that_do_not_commute(rng: np.random.Generator) -> None:
    left = _with_moments(rng, 20, np.zeros(2), np.array([[2.0, 1.0], [1.0, 2.0]]))
    right = _with_moments(rng, 20, np.zeros(2), np.array([[3.0, -1.0], [-1.0, 1.0]]))
    np.testing.assert_allclose(frechet_distance(left, right), 1.3972795044568622, rtol=1e-10)


@pytest.mark.parametrize(("n", "m", "dim"), [(40, 50, 8), (30, 200, 64), (200, 30, 64), (20, 25, 64), (64, 65, 64), (65, 64, 64)])
def test_all_forms_agree_with_the_matrix_square_root(rng: np.random.Generator, n: int, m: int, dim: int) -> None:
    reference, generated = rng.standard_normal((n, dim)), 1.3 * rng.standard_normal((m, dim)) + 0.2
    np.testing.assert_allclose(frechet_distance(reference, generated), _by_sqrtm(reference, generated), rtol=1e-5)
    # the low-rank answer, in a basis of the span where the full-rank form applies, is the same to rounding
    basis = np.linalg.qr(np.concatenate([reference, generated]).T)[0]
    np.testing.assert_allclose(frechet_distance(reference @ basis, generated @ basis), frechet_distance(reference, generated), rtol=1e-10)


def test_symmetric_rotation_invariant_and_zero_on_itself(rng: np.random.Generator) -> None:
    for n in (20, 200):
        x, y = rng.standard_normal((n, 32)), rng.gamma(2.0, size=(n, 32))
        rotation = np.linalg.qr(rng.standard_normal((32, 32)))[0]
        value = frechet_distance(x, y)
        np.testing.assert_allclose(frechet_distance(y, x), value, rtol=1e-10)
        np.testing.assert_allclose(frechet_distance(x @ rotation + 7, y @ rotation + 7), value, rtol=1e-9)
        assert abs(frechet_distance(x, x)) < 1e-10 * value


def test_constant_dimensions_do_not_disturb(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((100, 10)), rng.standard_normal((90, 10)) + 0.1
    dead_x, dead_y = np.hstack([x, np.full((100, 5), 3.0)]), np.hstack([y, np.full((90, 5), 3.0)])
    np.testing.assert_allclose(frechet_distance(dead_x, dead_y), frechet_distance(x, y), rtol=1e-9)
    # alive on one side only: adds exactly that side's variance
    half = np.hstack([x, rng.standard_normal((100, 5))])
    np.testing.assert_allclose(
        frechet_distance(half, dead_y) - frechet_distance(x, y),
        np.var(half[:, 10:], axis=0, ddof=1).sum() + (half[:, 10:].mean(axis=0) - 3) @ (half[:, 10:].mean(axis=0) - 3),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("n", "m", "dim", "rows"),
    [(40, 50, 8, 1), (40, 50, 64, 1), (12, 40, 30, 1), (20, 30, 16, 3), (20, 30, 100, 3), (9, 5, 16, 2), (12, 30, 20, 40), (8, 9, 50, 12)],
)
def test_leave_one_out_is_exact(rng: np.random.Generator, n: int, m: int, dim: int, rows: int) -> None:
    reference = rng.standard_normal((m, dim))
    clips = [1.2 * rng.standard_normal((rows if i % 2 else max(1, rows - 1), dim)) + 5.3 for i in range(n)]
    generated = ClipRows.of([f"{i:03d}" for i in range(n)], clips)
    fast = Deletions(GaussianStats.of(reference), GaussianStats.of_clips(generated)).distances(generated.chunks(7))
    slow = [frechet_distance(reference, np.concatenate(clips[:i] + clips[i + 1 :])) for i in range(n)]
    np.testing.assert_allclose(fast, slow, rtol=1e-8)


def test_biased_upwards_in_n(rng: np.random.Generator) -> None:
    reference = rng.standard_normal((5000, 32))
    small, large = (frechet_distance(reference, rng.standard_normal((n, 32))) for n in (100, 2000))
    assert small > 5 * large > 0


def test_takes_torch_tensors(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 4))
    assert frechet_distance(torch.from_numpy(x).requires_grad_(), torch.from_numpy(y)) == frechet_distance(x, y)


def test_too_few_clips_or_rows() -> None:
    with pytest.raises(MetricError, match="at least 2"):
        frechet_distance(np.ones((1, 3)), np.ones((5, 3)))
    with pytest.raises(MetricError, match="at least 2 clips, got 1"):
        FrechetDistance.of(reference=ClipRows.of_matrix(np.eye(3)), generated=ClipRows.of(["a"], [np.eye(3)])).compute()
    with pytest.raises(InputError, match="lengths"):
        frechet_distance(np.ones((4, 3)), np.ones((5, 2)))


def test_two_clips_have_a_value_but_no_interval() -> None:
    score = frechet_score(GaussianStats.of(np.eye(3)), ClipRows.of_matrix(np.eye(3)[:2]))
    assert score.value > 0
    assert score.std_error is score.ci_low is score.ci_high is None
