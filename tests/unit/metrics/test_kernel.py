from __future__ import annotations

import numpy as np
import pytest
import torch

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics import kernel
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.kernel import KernelDistance, KernelInceptionDistance, kernel_distance, median_bandwidth
from tta_bench.metrics.score import jackknife_score, pair_effects, sample_pairs


def _naive(x: np.ndarray, y: np.ndarray, bandwidth: float) -> float:
    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        values = [np.exp(-((p - q) ** 2).sum() / (2 * bandwidth**2)) for i, p in enumerate(a) for j, q in enumerate(b) if not (same and i == j)]
        return float(np.mean(values))

    return 100 * (mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False))


def test_is_the_definition(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((15, 4)), rng.standard_normal((12, 4)) + 0.5
    bandwidth = float(torch.median(torch.pdist(torch.from_numpy(x))))
    np.testing.assert_allclose(median_bandwidth(x), bandwidth, rtol=1e-12)
    np.testing.assert_allclose(kernel_distance(x, y), _naive(x, y, bandwidth), rtol=1e-10)
    np.testing.assert_allclose(kernel_distance(x, y, bandwidth=0.7), _naive(x, y, 0.7), rtol=1e-10)


@pytest.mark.parametrize("n", [3, 8, 50, 77])
def test_bandwidth_is_the_lower_median_whatever_way_it_is_found(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    x = np.concatenate([rng.standard_normal((n, 3)), np.zeros((n // 4, 3))])
    expected = float(torch.median(torch.pdist(torch.from_numpy(x))))
    np.testing.assert_allclose(median_bandwidth(x), expected, rtol=1e-12)
    monkeypatch.setattr(kernel, "_DIRECT_PAIRS", 1)
    monkeypatch.setattr(kernel, "_BLOCK", 7)
    np.testing.assert_allclose(median_bandwidth(x), expected, rtol=1e-12)


def test_blocks_do_not_matter(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((25, 4))
    whole = kernel_distance(x, y)
    monkeypatch.setattr(kernel, "_BLOCK", 4)
    np.testing.assert_allclose(kernel_distance(x, y), whole, rtol=1e-10)


@pytest.mark.parametrize("rows", [1, 3])
def test_jackknife_is_that_of_recomputed_scores(rng: np.random.Generator, rows: int) -> None:
    reference = ClipRows.of_matrix(rng.standard_normal((20, 4)))
    clips = [rng.standard_normal((rows - i % 2 if rows > 1 else 1, 4)) + 0.4 for i in range(14)]
    ids = [f"{i:02d}" for i in range(14)]
    score = KernelDistance.of(reference=reference, generated=ClipRows.of(ids, clips)).compute()
    without = [_without(reference, ids, clips, {i}) for i in range(14)]
    plain = jackknife_score(score.value, ids, np.array(without))
    pairs = sample_pairs(ids, 4096)
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs) == 14 * 13 // 2
    without_pair = [_without(reference, ids, clips, {int(i), int(j)}) for i, j in pairs]
    corrected = jackknife_score(score.value, ids, np.array(without), pair_effects(score.value, np.array(without), pairs, np.array(without_pair)))
    assert score.std_error == pytest.approx(corrected.std_error, rel=1e-8)
    assert 0.7 * plain.std_error < score.std_error < plain.std_error


def _without(reference: ClipRows, ids: list[str], clips: list[np.ndarray], left_out: set[int]) -> float:
    keep = [i for i in range(len(ids)) if i not in left_out]
    generated = ClipRows.of([ids[i] for i in keep], [clips[i] for i in keep])
    return KernelDistance.of(reference=reference, generated=generated).compute().value


def test_unbiased_in_n_and_negative_where_sets_are_equal(rng: np.random.Generator) -> None:
    values = [kernel_distance(rng.standard_normal((20, 3)), rng.standard_normal((20, 3))) for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(400)
    x = rng.standard_normal((40, 3))
    assert kernel_distance(x, x) < 0


def test_far_from_the_origin_keeps_its_digits(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 3)) + 1
    np.testing.assert_allclose(kernel_distance(x + 2.0**20, y + 2.0**20), kernel_distance(x, y), rtol=1e-7)


def test_an_outlier_leaves_the_bandwidth_exact_and_its_search_short(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.concatenate([rng.standard_normal((80, 4)), np.full((1, 4), 1e6)])
    monkeypatch.setattr(kernel, "_DIRECT_PAIRS", 20)
    assert median_bandwidth(x) == pytest.approx(float(torch.median(torch.pdist(torch.from_numpy(x)))), rel=1e-5)
    same = np.repeat(rng.standard_normal((2, 4)), 40, axis=0)
    assert median_bandwidth(same) == pytest.approx(float(np.linalg.norm(same[0] - same[-1])), rel=1e-9)


def test_errors() -> None:
    with pytest.raises(MetricError, match="median distance of the reference"):
        kernel_distance(np.ones((9, 2)), np.eye(2))
    with pytest.raises(InputError, match="positive"):
        kernel_distance(np.eye(3), np.eye(3), bandwidth=-1.0)
    with pytest.raises(MetricError, match="at least 50 clips"):
        KernelInceptionDistance.of(reference=ClipRows.of_matrix(np.eye(9)), generated=ClipRows.of_matrix(np.eye(9))).compute()


def test_kid_is_the_mean_over_its_subsets_and_its_jackknife_keeps_them(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((40, 4)) + 1
    options = {"reference": ClipRows.of_matrix(x), "generated": ClipRows.of_matrix(y), "subset_size": 12}
    score = KernelInceptionDistance.of(**options, subsets=60).compute()
    draws = np.random.RandomState(2020)
    expected, members = [], []
    for _ in range(60):
        members.append(draws.choice(40, 12, replace=False))
        expected.append(_polynomial(x[draws.choice(30, 12, replace=False)], y[members[-1]]))
    np.testing.assert_allclose(score.value, np.mean(expected), rtol=1e-10)
    np.testing.assert_allclose(score.details["subset_std"], np.std(expected), rtol=1e-10)
    without = np.array(expected)[:, None].repeat(40, axis=1)
    draws = np.random.RandomState(2020)
    for k, member in enumerate(members):
        draws.choice(40, 12, replace=False)
        picked = x[draws.choice(30, 12, replace=False)]
        for clip in member:
            without[k, clip] = _polynomial(picked, y[[other for other in member if other != clip]])
    by_clip = without.mean(axis=0)
    np.testing.assert_allclose(score.std_error, np.sqrt(39 / 40 * ((by_clip - by_clip.mean()) ** 2).sum()), rtol=1e-9)


def _polynomial(x: np.ndarray, y: np.ndarray) -> float:
    k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731
    off = lambda m: (m.sum() - m.trace()) / (len(m) * (len(m) - 1))  # noqa: E731
    return float(off(k(x, x)) + off(k(y, y)) - 2 * k(x, y).mean())
