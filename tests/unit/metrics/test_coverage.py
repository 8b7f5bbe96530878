"""Do 95 % intervals hold the truth 95 % of the time? By simulation, 2000 replicates of 256 clips each.

The truth of a biased or finite-reference score is its expectation at this n for this reference, taken as the mean over replicates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.frechet_score import frechet_score
from tta_bench.metrics.gaussian import GaussianStats
from tta_bench.metrics.kernel import KernelDistance, median_bandwidth
from tta_bench.metrics.score import Score, mean_score

pytestmark = pytest.mark.slow

REPLICATES, CLIPS, DIM = 2000, 256, 16
IDS = [f"{i:03d}" for i in range(CLIPS)]

Draw = Callable[[np.random.Generator], np.ndarray]

LIGHT: dict[str, Draw] = {
    "normal": lambda rng: 1.1 * rng.standard_normal((CLIPS, DIM)) + 0.1,
    "uniform": lambda rng: rng.uniform(-1.7, 1.7, (CLIPS, DIM)) + 0.1,
}


def _coverage(scores: list[Score], truth: float | None = None) -> float:
    values = np.array([(score.value, score.ci_low, score.ci_high) for score in scores], dtype=np.float64)
    truth = float(values[:, 0].mean()) if truth is None else truth
    return float(((values[:, 1] <= truth) & (truth <= values[:, 2])).mean())


def _frechet(draw: Draw, rng: np.random.Generator) -> Callable[[], Score]:
    reference = GaussianStats.of(rng.standard_normal((400, DIM)))
    return lambda: frechet_score(reference, ClipRows.of_matrix(draw(rng), IDS))


def _kad(draw: Draw, rng: np.random.Generator) -> Callable[[], Score]:
    reference = rng.standard_normal((256, DIM))
    fixed, bandwidth = ClipRows.of_matrix(reference), median_bandwidth(reference)
    return lambda: KernelDistance.of(reference=fixed, generated=ClipRows.of_matrix(draw(rng), IDS), bandwidth=bandwidth).compute()


@pytest.mark.parametrize(("name", "draw"), [("normal", lambda rng: rng.standard_normal(CLIPS)), ("uniform", lambda rng: rng.uniform(-1, 1, CLIPS))])
def test_means(rng: np.random.Generator, name: str, draw: Callable[[np.random.Generator], np.ndarray]) -> None:
    found = _coverage([mean_score(IDS, draw(rng)) for _ in range(REPLICATES)], truth=0.0)
    print(f"mean {name}: {found:.4f}")
    assert 0.93 <= found <= 0.97


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("score", [_frechet, _kad])
def test_frechet_and_kad(rng: np.random.Generator, score: Callable[[Draw, np.random.Generator], Callable[[], Score]], name: str) -> None:
    one = score(LIGHT[name], rng)
    found = _coverage([one() for _ in range(REPLICATES)])
    print(f"{score.__name__} {name}: {found:.4f}")  # shown by pytest -rP
    assert 0.90 <= found <= 0.98


def test_heavy_tails_are_known_to_cover_less(rng: np.random.Generator) -> None:
    """Reported beside the rest, and held above a floor: log-normal values of a mean, t5 features of Frechet and KAD."""
    truth = float(np.exp(0.5))
    found = {"log-normal mean": _coverage([mean_score(IDS, rng.lognormal(size=CLIPS)) for _ in range(REPLICATES)], truth)}
    for name, score in (("frechet t5", _frechet), ("kad t5", _kad)):
        one = score(lambda rng: rng.standard_t(5, (CLIPS, DIM)), rng)
        found[name] = _coverage([one() for _ in range(400)])
    print(found)
    for value in found.values():
        assert 0.85 <= value <= 0.99, found
