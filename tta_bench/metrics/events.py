"""Event error rate: errors of the sequence of sounds heard against the one asked for; what word error rate is for speech.

(S + D + I) / N over all clips: substituted, missing and added events over the events asked for, as `jiwer` counts them (Levenshtein).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np

from tta_bench.errors import ExtraMissing, InputError, MetricError
from tta_bench.metrics.clips import Array, ClipRows, TwoSampleMetric, paired
from tta_bench.metrics.score import Score, of_contributions

_ERRORS = ("substitute", "delete", "insert")  # as jiwer calls them


def event_error_rate(asked: Any, heard: Any) -> float:
    """Error rate, 0 or more, of places (N, K) heard against those asked for, row by row; see `EventErrorRate`."""
    return EventErrorRate.of(reference=ClipRows.of_matrix(asked), generated=ClipRows.of_matrix(heard)).compute().value


def need_jiwer() -> Any:
    """The package that counts. Raises ExtraMissing where it is not there or does not work."""
    try:
        import jiwer
    except (ImportError, OSError, RuntimeError) as error:
        raise ExtraMissing("jiwer", "events", (str(error).strip() or type(error).__name__).splitlines()[0]) from error
    return jiwer


def orders(places: Array, others: Array) -> list[list[int]]:
    """Classes that have a place, (K,) -> numbers of columns in every order that the places allow; only those that `others` (K,) has, too, change
    theirs among those at one place: the rest are errors wherever they stand, and are told apart by nothing.
    """
    there = np.flatnonzero(places > 0.0)
    found: list[list[int]] = [[]]
    for place in np.unique(places[there]):
        group = [int(k) for k in there[places[there] == place]]
        moving, rest = [k for k in group if others[k] > 0.0], [k for k in group if others[k] <= 0.0]
        found = [before + _filled(spots, moving, rest) for before in found for spots in permutations(range(len(group)), len(moving))]
    return found


def _filled(spots: Sequence[int], moving: Sequence[int], rest: Sequence[int]) -> list[int]:
    """`moving` at their spots, `rest` in what is left."""
    at = dict(zip(spots, moving, strict=True))
    left = iter(rest)
    return [at[i] if i in at else next(left) for i in range(len(moving) + len(rest))]


@dataclass(frozen=True)
class EventErrorRate(TwoSampleMetric):
    """Rows (K,) hold the place of each class: 1 for those that sound first, 2 for the next, and so on; 0 or less for those that do not sound.

    reference: what captions ask for. Classes at one place stand in no order: of all their orders, the one with the fewest errors counts. A ratio of
    sums over clips, so an interval by the delta method: the contribution of clip i is R + (e_i - R w_i) / mean(w), of e_i errors over w_i events. A
    caption without any known event is left out: it weighs nothing (w_i = 0), and what is heard there is no error; `captions_without_events` among
    the details says how many these are.
    """

    def compute(self) -> Score:
        """Raises MetricError where a clip has no partner or no caption names an event, ExtraMissing without jiwer."""
        clip_ids, asked, heard = paired(self.reference, self.generated)
        jiwer = need_jiwer()
        words = np.array([float((row > 0.0).sum()) for row in asked])
        used = [i for i, count in enumerate(words) if count]
        if not used:
            raise MetricError("too_few_clips", "no caption names an event of SynthCaps; the event error rate is for captions in its words")
        counted = _counts([(asked[i], heard[i]) for i in used], jiwer)
        errors = np.zeros(len(words))
        errors[used] = [sum(kinds) for kinds in counted]
        value = float(errors.sum() / words.sum())
        substitutions, deletions, insertions = (float(sum(kind)) for kind in zip(*counted, strict=True))
        details = {
            "events": float(words.sum()), "substitutions": substitutions, "deletions": deletions, "insertions": insertions,
            "captions_without_events": float(len(words) - len(used)),
        }  # fmt: skip
        return of_contributions(value, clip_ids, value + (errors - value * words) / words.mean(), details)


def _counts(pairs: Sequence[tuple[Array, Array]], jiwer: Any) -> list[tuple[int, ...]]:
    """Substitutions, deletions and insertions of each pair of places, in the orders that have the fewest of them."""
    tried = [(i, *both) for i, (asked, heard) in enumerate(pairs) for both in product(orders(asked, heard), orders(heard, asked))]
    counts = jiwer.process_words([_text(wanted) for _, wanted, _ in tried], [_text(got) for *_, got in tried])
    kinds = [tuple(sum(map(_length, (c for c in chunks if c.type == kind))) for kind in _ERRORS) for chunks in counts.alignments]
    if sum(map(sum, kinds)) != counts.substitutions + counts.deletions + counts.insertions:
        raise InputError("this version of jiwer aligns otherwise than it counts; install jiwer 4")
    fewest: dict[int, tuple[int, ...]] = {}
    for (i, *_), errors in zip(tried, kinds, strict=True):
        fewest[i] = min(fewest.get(i, errors), errors, key=sum)
    return [fewest[i] for i in range(len(pairs))]


def _length(chunk: Any) -> int:
    return int(max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx))


def _text(events: list[int]) -> str:
    return " ".join(map(str, events))
