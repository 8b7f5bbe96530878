from __future__ import annotations

import numpy as np
import pytest

from tta_bench.metrics.score import clip_groups, group_jackknife_score, jackknife_score, mean_score, pair_effects, sample_pairs

IDS = [f"clip{i}" for i in range(50)]


def test_mean_is_closed_form(rng: np.random.Generator) -> None:
    values = rng.standard_normal(50)
    score = mean_score(IDS, values)
    assert score.std_error == pytest.approx(values.std(ddof=1) / np.sqrt(50), rel=1e-14)
    assert score.ci_high is not None
    assert (score.ci_high - score.value) / score.std_error == pytest.approx(2.0095752371, rel=1e-9)  # t, 49 degrees of freedom


def test_jackknife_of_a_mean_is_the_closed_form(rng: np.random.Generator) -> None:
    values = rng.standard_normal(50)
    without = (values.sum() - values) / 49
    score = jackknife_score(float(values.mean()), IDS, without)
    assert score.std_error == pytest.approx(mean_score(IDS, values).std_error, rel=1e-12)
    np.testing.assert_allclose(score.contributions, values, rtol=1e-10)


def test_group_jackknife_of_a_mean_with_groups_of_one_is_the_closed_form(rng: np.random.Generator) -> None:
    values = rng.standard_normal(50)
    score = group_jackknife_score(float(values.mean()), IDS, lambda keep: float(values[keep].mean()), groups=50)
    assert score.std_error == pytest.approx(mean_score(IDS, values).std_error, rel=1e-10)


def test_pair_effects_halve_the_variance_of_a_statistic_of_pairs_alone(rng: np.random.Generator) -> None:
    """Mean over i < j of x_i . x_j, E x = 0, 40 dimensions: the plain jackknife finds twice the true variance."""
    plain, corrected, values = [], [], []
    for _ in range(300):
        x = rng.standard_normal((50, 40))
        total, own = x.sum(axis=0), (x * x).sum(axis=1)
        value = float(total @ total - own.sum()) / (50 * 49)
        without = (((total - x) ** 2).sum(axis=1) - own.sum() + own) / (49 * 48)
        pairs = sample_pairs(IDS, 10_000)
        kept = total - x[pairs].sum(axis=1)
        effects = pair_effects(value, without, pairs, ((kept * kept).sum(axis=1) - own.sum() + own[pairs].sum(axis=1)) / (48 * 47))
        values.append(value)
        plain.append(jackknife_score(value, IDS, without).std_error)
        corrected.append(jackknife_score(value, IDS, without, effects).std_error)
    assert np.mean(np.square(plain)) / np.var(values) == pytest.approx(2.0, rel=0.25)
    assert 0.9 < np.mean(np.square(corrected)) / np.var(values) < 1.4  # never below half of the plain one, so not quite 1


def test_group_jackknife_has_the_groups_degrees_of_freedom(rng: np.random.Generator) -> None:
    values = rng.standard_normal(50)
    score = group_jackknife_score(float(values.mean()), IDS, lambda keep: float(values[keep].mean()), groups=10)
    assert score.dof == 9
    assert score.ci_high is not None
    assert score.std_error is not None
    assert (score.ci_high - score.value) / score.std_error == pytest.approx(2.2621571628, rel=1e-9)


def test_no_spread_is_no_interval() -> None:
    score = mean_score(IDS, np.full(50, 0.25))
    assert (score.value, score.std_error, score.ci_low) == (0.25, None, None)


def test_groups_depend_on_ids_alone_and_are_even() -> None:
    groups = dict(zip(IDS, clip_groups(IDS, 20), strict=True))
    assert dict(zip(IDS[::-1], clip_groups(IDS[::-1], 20), strict=True)) == groups
    assert set(np.bincount(list(groups.values()))) == {2, 3}


def test_one_clip_has_a_value_and_no_interval() -> None:
    score = mean_score(["a"], np.array([3.0]))
    assert (score.value, score.std_error, score.ci_low, score.ci_high, score.n) == (3.0, None, None, None, 1)
