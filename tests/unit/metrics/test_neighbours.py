from __future__ import annotations

import numpy as np
import pytest

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.neighbours import KINDS, neighbour_score


def _naive(x: np.ndarray, y: np.ndarray, kind: str, k: int) -> float:
    distance = lambda a, b: np.sqrt(((a[:, None] - b) ** 2).sum(axis=2))  # noqa: E731
    radius = lambda a: np.sort(distance(a, a), axis=1)[:, k]  # noqa: E731
    d = distance(x, y)
    if kind == "precision":
        return np.mean([any(d[i, j] <= radius(x)[i] for i in range(len(x))) for j in range(len(y))])
    if kind == "recall":
        return np.mean([any(d[i, j] <= radius(y)[j] for j in range(len(y))) for i in range(len(x))])
    if kind == "density":
        return np.mean([sum(d[i, j] < radius(x)[i] for i in range(len(x))) / k for j in range(len(y))])
    return np.mean([min(d[i]) < radius(x)[i] for i in range(len(x))])


@pytest.mark.parametrize("kind", KINDS)
def test_is_the_definition(rng: np.random.Generator, kind: str) -> None:
    x, y = rng.standard_normal((25, 2)), 0.7 * rng.standard_normal((30, 2)) + 0.5
    assert neighbour_score(x, y, kind) == pytest.approx(_naive(x, y, kind, KINDS[kind][1]), rel=1e-12)


@pytest.mark.parametrize(("kind", "perfect"), [("precision", 1.0), ("recall", 1.0), ("coverage", 1.0)])
def test_identical_sets_are_perfect_and_distant_ones_zero(rng: np.random.Generator, kind: str, perfect: float) -> None:
    x = rng.standard_normal((40, 3))
    assert neighbour_score(x, x, kind) == perfect
    assert neighbour_score(x, x + 100, kind) == 0.0


def test_density_exceeds_one_where_samples_pile_up_in_the_middle(rng: np.random.Generator) -> None:
    x = rng.standard_normal((60, 2))
    assert neighbour_score(x, 0.05 * rng.standard_normal((60, 2)), "density") > 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_at_distance_zero_whatever_their_names(rng: np.random.Generator, kind: str) -> None:
    """Ten silent clips on both sides: rounding must not rank them."""
    silent = rng.standard_normal((1, 64))
    x, y = (np.concatenate([rng.standard_normal((20, 64)), np.repeat(silent, 10, axis=0)]) for _ in range(2))
    for _ in range(5):
        order = rng.permutation(30)
        assert neighbour_score(x[order], y[rng.permutation(30)], kind) == pytest.approx(_naive(x, y, kind, KINDS[kind][1]), rel=1e-12)


def test_errors() -> None:
    with pytest.raises(InputError, match="known: precision"):
        neighbour_score(np.eye(9), np.eye(9), "precission")
    with pytest.raises(InputError, match="at least 1 neighbour"):
        neighbour_score(np.eye(9), np.eye(9), "recall", k=0)
    with pytest.raises(MetricError, match="at least 8 clips, got 7"):
        neighbour_score(np.eye(7), np.eye(7), "precision")
