from __future__ import annotations

import numpy as np
import pytest

from tta_bench.errors import MetricError
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.frechet import frechet_distance
from tta_bench.metrics.frechet_infinity import FrechetInfinity, frechet_infinity


def test_takes_most_of_the_bias_out(rng: np.random.Generator) -> None:
    """True distance .32 for N(.1, 1.1^2) against N(0, 1) in 16 dimensions; plain Frechet at n = 400 is .56."""
    reference = rng.standard_normal((20_000, 16))
    plain, extrapolated = [], []
    for _ in range(10):
        generated = 1.1 * rng.standard_normal((400, 16)) + 0.1
        plain.append(frechet_distance(reference, generated))
        extrapolated.append(frechet_infinity(reference, generated))
    assert abs(np.mean(extrapolated) - 0.32) < 0.06 < 0.2 < abs(np.mean(plain) - 0.32)


def test_seed_is_the_only_randomness(rng: np.random.Generator) -> None:
    x, y = ClipRows.of_matrix(rng.standard_normal((50, 3))), ClipRows.of_matrix(rng.standard_normal((60, 3)))
    first, again, other = (FrechetInfinity.of(reference=x, generated=y, seed=seed).compute() for seed in (0, 0, 1))
    assert first.value == again.value != other.value
    assert first.details["slope"] > 0


def test_too_few_clips() -> None:
    with pytest.raises(MetricError, match="at least 20 clips"):
        frechet_infinity(np.eye(19), np.eye(19))
    with pytest.raises(MetricError, match="at least 160 clips for 40 dimensions, got 150"):
        frechet_infinity(np.eye(150, 40), np.eye(150, 40))
