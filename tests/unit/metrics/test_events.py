"""Event error rate: by hand, by a Levenshtein distance of our own, and its interval."""

from __future__ import annotations

import dataclasses
import sys
from itertools import permutations

import jiwer
import numpy as np
import pytest

from tta_bench.errors import ExtraMissing, InputError, MetricError
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.events import EventErrorRate, event_error_rate, orders
from tta_bench.metrics.score import Score
from tta_bench.metrics.suite import METRICS


def _score(asked: list[list[float]], heard: list[list[float]]) -> Score:
    return EventErrorRate.of(reference=ClipRows.of_matrix(asked), generated=ClipRows.of_matrix(heard)).compute()


def test_orders() -> None:
    everything = np.ones(5)
    assert orders(np.array([0.0, 2.0, 1.0, 0.0]), everything[:4]) == [[2, 1]]
    assert orders(np.array([2.0, 1.0, 1.0, 3.0]), everything[:4]) == [[1, 2, 0, 3], [2, 1, 0, 3]]
    assert orders(np.zeros(3), everything[:3]) == [[]]
    several = orders(np.ones(5), np.array([1.0, 0.0, 0.0, 1.0, 0.0]))  # two that the other side has, in every pair of spots
    assert len(several) == len({tuple(order) for order in several}) == 5 * 4
    assert all([k for k in order if k in (1, 2, 4)] == [1, 2, 4] for order in several)
    assert len(orders(np.ones(26), np.zeros(26))) == 1


def test_sounds_at_the_same_time_stand_in_no_order() -> None:
    for heard in ([1, 2, 0], [2, 1, 0], [1, 1, 0]):
        for asked in ([1, 1, 0], [1, 2, 0] if heard[0] <= heard[1] else [2, 1, 0]):
            assert event_error_rate([asked], [heard]) == 0
    assert event_error_rate([[1, 2, 0]], [[2, 1, 0]]) == 1
    assert event_error_rate([[2, 1, 0]], [[2, 0, 2]]) == 0.5  # the other one heard first, and taken for what is asked for first


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_columns_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked, heard = rng.integers(0, 3, (2, 40, 6)).astype(float)
    asked[:, 0] = 1
    values = {event_error_rate(asked[:, order], heard[:, order]) for order in (rng.permutation(6) for _ in range(5))}
    assert values == {event_error_rate(asked, heard)}


def test_by_hand() -> None:
    """Three clips, 5 events asked for: one swapped pair (2 errors), one missing and one wrong (2), one right with one too many (1)."""
    asked = [[1, 2, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]
    heard = [[2, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 2]]
    score = _score(asked, heard)
    assert score.value == event_error_rate(asked, heard) == pytest.approx(5 / 5)
    assert {key: score.details[key] for key in ("events", "captions_without_events")} == {"events": 5, "captions_without_events": 0}
    assert score.details["substitutions"] + score.details["deletions"] + score.details["insertions"] == 5
    np.testing.assert_allclose(score.contributions, 1 + np.array([2 - 2, 2 - 2, 1 - 1]) / (5 / 3))
    heard[2] = [0, 0, 1, 0]
    score = _score(asked, heard)
    assert score.value == pytest.approx(4 / 5)
    np.testing.assert_allclose(score.contributions, 0.8 + np.array([2 - 1.6, 2 - 1.6, 0 - 0.8]) / (5 / 3))


def test_right_is_0_silence_is_1_and_more_than_1_is_possible() -> None:
    asked = [[1, 2, 0], [0, 0, 1]]
    assert event_error_rate(asked, asked) == 0
    assert event_error_rate(asked, np.zeros((2, 3))) == 1
    assert event_error_rate([[1, 0, 0]], [[3, 1, 2]]) == 2


def test_scale_of_places_does_not_matter(rng: np.random.Generator) -> None:
    asked, heard = rng.integers(0, 4, (2, 20, 6)).astype(float)
    asked[:, 0] = 1
    assert event_error_rate(asked, heard) == event_error_rate(7 * asked, 0.1 * heard)


def test_captions_without_events_are_left_out_and_counted() -> None:
    asked, heard = [[1, 2, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]], [[1, 0, 0], [1, 2, 3], [0, 1, 0], [0, 0, 0]]
    score = _score(asked, heard)
    alone = _score([asked[0], asked[2]], [heard[0], heard[2]])
    assert score.value == alone.value == pytest.approx(2 / 3)
    assert score.details["captions_without_events"] == 2
    assert score.contributions[1] == score.contributions[3] == score.value  # no influence
    assert score.n == 4
    with pytest.raises(MetricError, match="no caption names an event") as caught:
        _score([[0, 0, 0]] * 3, [[1, 0, 0]] * 3)
    assert caught.value.status == "too_few_clips"


def _levenshtein(a: list[int], b: list[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def _everything(places: np.ndarray) -> list[list[int]]:
    """Every order of those at one place, whatever the other side has."""
    found: list[list[int]] = [[]]
    for place in sorted({int(value) for value in places if value > 0}):
        group = [k for k, value in enumerate(places) if value == place]
        found = [before + list(order) for before in found for order in permutations(group)]
    return found


def _fewest(asked: np.ndarray, heard: np.ndarray) -> int:
    return min(_levenshtein(a, b) for a in _everything(asked) for b in _everything(heard))


@pytest.mark.parametrize("seed", range(5))
def test_against_a_plain_edit_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked, heard = rng.integers(0, 5, (2, 60, 8)) * (rng.random((2, 60, 8)) < 0.4)
    asked[:, 3] = 2
    errors = np.array([_fewest(a, b) for a, b in zip(asked, heard, strict=True)], dtype=float)
    words = (asked > 0).sum(axis=1).astype(float)
    score = _score(asked.tolist(), heard.tolist())
    assert score.value == pytest.approx(errors.sum() / words.sum(), rel=1e-12)
    np.testing.assert_allclose((score.contributions - score.value) * words.mean(), errors - score.value * words, atol=1e-12)


def test_the_interval_holds_the_true_rate(rng: np.random.Generator) -> None:
    """Errors are worth more where more is asked for: a mean of per-clip rates would be another number, and so would its interval."""

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        asked = (rng.random((n, 10)) < 0.3) * np.arange(1, 11.0)
        asked[:, 0] = 1
        keep = rng.random((n, 10)) < np.where(asked.astype(bool).sum(axis=1, keepdims=True) > 3, 0.5, 0.9)
        return asked, asked * keep

    true = event_error_rate(*drawn(20_000))
    scores = [_score(*(side.tolist() for side in drawn(60))) for _ in range(300)]
    held = np.mean([score.ci_low <= true <= score.ci_high for score in scores if score.ci_low is not None and score.ci_high is not None])
    assert 0.9 < held < 0.98
    spread = np.std([score.value for score in scores], ddof=1)
    assert np.mean([score.std_error for score in scores if score.std_error]) == pytest.approx(spread, rel=0.15)


def test_a_jiwer_that_counts_otherwise_than_it_aligns(monkeypatch: pytest.MonkeyPatch) -> None:
    count = jiwer.process_words
    monkeypatch.setattr(jiwer, "process_words", lambda *texts: dataclasses.replace(count(*texts), insertions=7))
    with pytest.raises(InputError, match="aligns otherwise than it counts"):
        event_error_rate([[1.0, 2.0]], [[1.0, 0.0]])


def test_without_jiwer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    ready = METRICS["event_error_rate"].ready
    assert ready is not None
    for call in (ready, lambda: event_error_rate([[1.0]], [[1.0]])):
        with pytest.raises(ExtraMissing, match=r"tta-bench\[events\]"):
            call()
