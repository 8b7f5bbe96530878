"""Features of audio in memory, and scores over them: what examines the bundle without files in between.

Audio is scored as it would be read back from 16-bit files, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tta_bench.audio import quantise
from tta_bench.embedders.protocol import Embedder
from tta_bench.errors import InputError
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.score import Score, of_contributions
from tta_bench.metrics.suite import METRICS

Audios = Sequence[npt.NDArray[Any]]


@dataclass(frozen=True)
class Heard:
    """Rows by source ("embeddings", "logits", "joint"; "log_mel" frames where asked for) of a set of clips."""

    rows: dict[str, ClipRows]

    def of(self, source: str) -> ClipRows:
        """Raises InputError where the embedder did not give it."""
        if source not in self.rows:
            raise InputError(f"these clips have no {source}; choose an embedder that gives them")
        return self.rows[source]


def hear(clip_ids: Sequence[str], audio: Audios, embedders: Sequence[Embedder], batch_size: int = 64) -> Heard:
    """Features of 16-bit audio [(T,), ...]; of the embedders' sources the first one that gives a source counts, `log_mel` goes by its name."""
    rounded = [quantise(samples)[0].astype(np.float32) / 32768.0 for samples in audio]
    rows: dict[str, ClipRows] = {}
    for embedder in embedders:
        parts: dict[str, list[Any]] = {}
        for start in range(0, len(rounded), batch_size):
            chunk = rounded[start : start + batch_size]
            features = embedder.embed(np.stack(chunk), np.array([len(samples) for samples in chunk]))
            for source in embedder.provides:
                parts.setdefault(source, []).extend(getattr(features, source))
        for source, values in parts.items():
            rows.setdefault("log_mel" if embedder.name == "log_mel" else source, ClipRows.of(clip_ids, values))
    return Heard(rows)


def hear_captions(clip_ids: Sequence[str], captions: Sequence[str], embedder: Embedder) -> ClipRows:
    """Captions in the joint space, by clip."""
    return ClipRows.of(clip_ids, list(embedder.embed_text(captions)))


def score(name: str, generated: Heard, reference: Heard | ClipRows) -> Score:
    """Metric `name` of the suite; `reference` holds the captions' rows for metrics against captions."""
    spec = METRICS[name]
    source = "log_mel" if name == "fidelity_mel" else spec.source
    return spec.score(reference if isinstance(reference, ClipRows) else reference.of(source), generated.of(source))


def over_seeds(scores: Sequence[Score]) -> Score:
    """Mean over seeds: of values, and of contributions within each clip, so that n stays the number of clips."""
    if len({item.clip_ids for item in scores}) != 1:
        raise InputError("scores of different clips cannot be averaged over seeds; score the same clips with every seed")
    contributions = np.mean([item.contributions for item in scores], axis=0)
    return of_contributions(float(np.mean([item.value for item in scores])), scores[0].clip_ids, contributions, dof=scores[0].dof)


def difference(a: Score, b: Score) -> Score:
    """a - b, paired by clip."""
    if a.clip_ids != b.clip_ids:
        raise InputError("scores of different clips cannot be paired; score the same clips with both systems")
    return of_contributions(a.value - b.value, a.clip_ids, a.contributions - b.contributions, dof=min(a.dof, b.dof))
