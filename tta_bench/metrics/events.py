"""Event error rate: errors of the sequence of sounds heard against the one asked for; what word error rate is for speech.

(S + D + I) / N over all clips: substituted, missing and added events over the events asked for, as `jiwer` counts them (Levenshtein).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tta_bench.errors import ExtraMissing, InputError, MetricError
from tta_bench.metrics.clips import Array, ClipRows, TwoSampleMetric, paired
from tta_bench.metrics.score import Score, of_contributions


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


def sequence(places: Array) -> list[int]:
    """Classes that have a place, (K,) -> numbers of columns in the order of their places; those at one place in the order of columns."""
    there = np.flatnonzero(places > 0.0)
    return [int(k) for k in there[np.argsort(places[there], kind="stable")]]


@dataclass(frozen=True)
class EventErrorRate(TwoSampleMetric):
    """Rows (K,) hold the place of each class: 1 for those that sound first, 2 for the next, and so on; 0 or less for those that do not sound.

    reference: what captions ask for. A ratio of sums over clips, so an interval by the delta method: the contribution of clip i is
    R + (e_i - R w_i) / mean(w), of e_i errors over w_i events. A caption without any known event is left out: it weighs nothing (w_i = 0), and what
    is heard there is no error; `captions_without_events` among the details says how many these are.
    """

    def compute(self) -> Score:
        """Raises MetricError where a clip has no partner or no caption names an event, ExtraMissing without jiwer."""
        clip_ids, asked, heard = paired(self.reference, self.generated)
        jiwer = need_jiwer()
        wanted = [sequence(row) for row in asked]
        used = [i for i, events in enumerate(wanted) if events]
        if not used:
            raise MetricError("too_few_clips", "no caption names an event of SynthCaps; the event error rate is for captions in its words")
        counts = jiwer.process_words([_text(wanted[i]) for i in used], [_text(sequence(heard[i])) for i in used])
        words, errors = np.array([float(len(events)) for events in wanted]), np.zeros(len(wanted))
        for i, chunks in zip(used, counts.alignments, strict=True):
            errors[i] = sum(max(c.ref_end_idx - c.ref_start_idx, c.hyp_end_idx - c.hyp_start_idx) for c in chunks if c.type != "equal")
        if errors.sum() != counts.substitutions + counts.deletions + counts.insertions:
            raise InputError("this version of jiwer aligns otherwise than it counts; install jiwer 4")
        value = float(counts.wer)
        details = {
            "events": float(words.sum()), "substitutions": float(counts.substitutions), "deletions": float(counts.deletions),
            "insertions": float(counts.insertions), "captions_without_events": float(len(wanted) - len(used)),
        }  # fmt: skip
        return of_contributions(value, clip_ids, value + (errors - value * words) / words.mean(), details)


def _text(events: list[int]) -> str:
    return " ".join(map(str, events))
