from __future__ import annotations

import numpy as np
import pytest

from tta_bench.errors import MetricError
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.diversity import Diversity, diversity


def test_by_hand() -> None:
    """Pairs at 0, 90 and 180 degrees: distances 0, 1 and 2."""
    x, y = [1.0, 0.0], [0.0, 1.0]
    assert diversity([[x, x]]) == 0
    assert diversity([[x, y]]) == 1
    assert diversity([[x, [-1.0, 0.0]]]) == 2
    assert diversity([[x, x, y]]) == pytest.approx((0 + 1 + 1) / 3)
    assert diversity([[x, x, y], [x, x, x]]) == pytest.approx((2 / 3 + 0) / 2)


def test_length_and_order_of_samples_do_not_matter(rng: np.random.Generator) -> None:
    samples = rng.standard_normal((12, 4, 6))
    assert diversity(samples) == pytest.approx(diversity(samples[:, [2, 0, 3, 1]] * rng.uniform(0.5, 2, (12, 4, 1))), rel=1e-12)


def test_six_pairs_of_four_samples(rng: np.random.Generator) -> None:
    samples = rng.standard_normal((5, 4, 3))
    units = samples / np.linalg.norm(samples, axis=2, keepdims=True)
    pairs = [[1 - unit[i] @ unit[j] for i in range(4) for j in range(i)] for unit in units]
    assert np.shape(pairs) == (5, 6)
    score = Diversity.of(generated=ClipRows.of("abcde", list(samples))).compute()
    assert score.value == pytest.approx(np.mean(pairs), rel=1e-12)
    np.testing.assert_allclose(score.contributions, np.mean(pairs, axis=1))
    assert score.std_error == pytest.approx(np.std(np.mean(pairs, axis=1), ddof=1) / np.sqrt(5))


def test_unbiased_in_the_number_of_samples(rng: np.random.Generator) -> None:
    many = rng.standard_normal((4_000, 8, 4)) + 1.0
    assert diversity(many[:, :2]) == pytest.approx(diversity(many), abs=0.03)


def test_captions_with_one_sample_are_left_out_and_none_is_an_error(rng: np.random.Generator) -> None:
    several, one = rng.standard_normal((3, 4)), rng.standard_normal((1, 4))
    score = Diversity.of(generated=ClipRows.of("abc", [several, one, several])).compute()
    assert score.clip_ids == ("a", "c")
    with pytest.raises(MetricError, match="two seeds") as caught:
        Diversity.of(generated=ClipRows.of("ab", [one, one])).compute()
    assert caught.value.status == "too_few_clips"
    with pytest.raises(MetricError, match="zero vector"):
        diversity([np.zeros((2, 4))])
