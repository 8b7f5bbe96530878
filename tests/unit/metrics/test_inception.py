from __future__ import annotations

import numpy as np
import pytest

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.inception import InceptionScore, inception_score


def test_bounds_are_reached() -> None:
    assert inception_score(np.zeros((40, 9)))[0] == pytest.approx(1.0, rel=1e-12)
    assert inception_score(np.tile(1000.0 * np.eye(8), (5, 1)), splits=1)[0] == pytest.approx(8.0, rel=1e-9)


def test_is_the_definition(rng: np.random.Generator) -> None:
    logits = 3 * rng.standard_normal((53, 6))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p = p[np.random.RandomState(2020).permutation(53)]
    chunks = [p[i * 53 // 10 : (i + 1) * 53 // 10] for i in range(10)]
    scores = [np.exp((c * np.log(c / c.mean(axis=0))).sum(axis=1).mean()) for c in chunks]
    np.testing.assert_allclose(inception_score(logits), (np.mean(scores), np.std(scores)), rtol=1e-12)


def test_splits_bias_small_sets(rng: np.random.Generator) -> None:
    logits = 4 * rng.standard_normal((60, 20))
    assert inception_score(logits, splits=10)[0] < 0.8 * inception_score(logits, splits=1)[0]


def test_jackknife_of_one_split_is_that_of_recomputed_scores(rng: np.random.Generator) -> None:
    logits = 3 * rng.standard_normal((25, 6))
    score = InceptionScore.of(generated=ClipRows.of_matrix(logits), splits=1).compute()
    without = [inception_score(np.delete(logits, i, axis=0), splits=1)[0] for i in range(25)]
    np.testing.assert_allclose(score.std_error, np.sqrt(24 / 25 * ((without - np.mean(without)) ** 2).sum()), rtol=1e-9)


def test_standard_error_is_that_over_new_samples(rng: np.random.Generator) -> None:
    """Over 300 draws the mean standard error is the true one within 15 %; the deviation over splits is several times it."""
    scores = [InceptionScore.of(generated=ClipRows.of_matrix(2 * rng.standard_normal((400, 12))), splits=4).compute() for _ in range(300)]
    true = np.std([score.value for score in scores])
    assert np.mean([score.std_error for score in scores]) == pytest.approx(true, rel=0.15)
    assert np.mean([score.details["split_std"] for score in scores]) > 1.4 * true


def test_errors() -> None:
    with pytest.raises(MetricError, match="with 10 splits needs at least 20 clips, got 19"):
        inception_score(np.zeros((19, 3)))
    with pytest.raises(InputError, match="at least 1 split"):
        inception_score(np.zeros((4, 3)), splits=0)


@pytest.mark.parametrize(("n", "interval"), [(20, False), (49, False), (50, True)])
def test_no_interval_where_deleting_says_nothing(rng: np.random.Generator, n: int, interval: bool) -> None:
    score = InceptionScore.of(generated=ClipRows.of_matrix(3 * rng.standard_normal((n, 6)))).compute()
    assert (score.std_error is not None) == interval
    assert score.dof == n - 10
