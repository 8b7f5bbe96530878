"""The laws that make an accumulator an accumulator, for every metric of the suite."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.suite import METRICS

CLIPS, DIM = 60, 5


def _clips(seed: int, n: int, several_rows: bool) -> ClipRows:
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal((1 + (i % 3 if several_rows else 0), DIM)) + 0.3 * seed for i in range(n)]
    return ClipRows.of([f"clip{i:03d}" for i in range(n)], rows)


def _parts(clips: ClipRows, cuts: list[int], order: list[int]) -> list[ClipRows]:
    blocks = [clips.blocks[i] for i in order]
    edges = sorted({0, len(blocks), *(cut % (len(blocks) + 1) for cut in cuts)})
    return [ClipRows(tuple(blocks[a:b])) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, CLIPS), max_size=6), order=st.permutations(range(CLIPS)), group=st.booleans())
def test_any_split_in_any_order_gives_the_same_score(name: str, cuts: list[int], order: list[int], group: bool) -> None:
    spec = METRICS[name]
    several = spec.pooling == "patches"
    reference, generated = _clips(1, CLIPS, several), _clips(2, CLIPS, several)
    whole = spec.build(reference=reference, generated=generated).compute()
    parts = [spec.build(generated=part) for part in _parts(generated, cuts, order)]
    parts += [spec.build(reference=part) for part in _parts(reference, cuts, order)]
    empty = spec.build()
    if group:  # right-associated, with the neutral element inside
        total = empty
        for part in reversed(parts):
            total = part.merge(total)
    else:
        total = parts[0]
        for part in parts[1:]:
            total = total.merge(empty).merge(part)
    score = total.compute()
    assert score.value == whole.value
    assert score.std_error == whole.std_error
    assert score.clip_ids == whole.clip_ids
    np.testing.assert_array_equal(score.contributions, whole.contributions)


@pytest.mark.parametrize("name", METRICS)
def test_contributions_carry_value_and_standard_error(name: str) -> None:
    sides = [_clips(seed, CLIPS, True) for seed in (1, 2)]
    if METRICS[name].against == "seeds":  # a clip with one sample is left out
        sides = [ClipRows(tuple((clip_id, np.concatenate([rows, rows[:1] + 0.5])) for clip_id, rows in side.blocks)) for side in sides]
    score = METRICS[name].score(*sides)
    assert score.n == CLIPS == len(score.contributions)
    assert score.std_error is not None
    assert score.ci_low is not None
    assert score.ci_high is not None
    np.testing.assert_allclose(score.contributions.mean(), score.value, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(score.contributions.std(ddof=1) / np.sqrt(CLIPS), score.std_error, rtol=1e-9)
    assert score.std_error > 0
    assert score.ci_low < score.value < score.ci_high


@pytest.mark.parametrize("name", METRICS)
def test_nothing_is_an_error_with_a_status(name: str) -> None:
    with pytest.raises(MetricError) as caught:
        METRICS[name].build().compute()
    assert caught.value.status == "too_few_clips"


@pytest.mark.parametrize("name", METRICS)
def test_nan_is_an_error_that_names_the_clip(name: str) -> None:
    bad = _clips(2, CLIPS, False)
    values = np.array(bad.blocks[7][1])
    values[0, 0] = np.nan
    blocks = (*bad.blocks[:7], ("clip007", values), *bad.blocks[8:])
    with pytest.raises(InputError, match=r"clip007.*NaN"):
        METRICS[name].score(_clips(1, CLIPS, False), ClipRows(blocks))


@pytest.mark.parametrize("name", METRICS)
def test_a_clip_added_twice_is_an_error(name: str) -> None:
    spec = METRICS[name]
    metric = spec.build(reference=_clips(1, CLIPS, False), generated=_clips(2, CLIPS, False))
    with pytest.raises(InputError, match="twice"):
        metric.merge(spec.build(generated=_clips(3, 1, False))).compute()


@pytest.mark.parametrize("name", [name for name, spec in METRICS.items() if spec.against not in ("nothing", "seeds")])
def test_sets_of_different_length_features_are_an_error(name: str) -> None:
    other = ClipRows.of([f"clip{i:03d}" for i in range(CLIPS)], list(np.ones((CLIPS, DIM + 1))))
    with pytest.raises(InputError, match="length"):
        METRICS[name].score(other, _clips(2, CLIPS, False))


def test_different_parameters_do_not_merge() -> None:
    with pytest.raises(InputError, match="parameters"):
        METRICS["is"].build().merge(METRICS["is_1_split"].build())
