"""CLAP score: cosine of two embeddings in a joint text-audio space, mean over clips (Wu et al. 2023; Elizalde et al. 2023).

Scales differ between checkpoints (.18 to .68 for the same audio): the checkpoint is part of the score's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tta_bench.errors import MetricError
from tta_bench.metrics.clips import Array, ClipRows, TwoSampleMetric, paired
from tta_bench.metrics.score import Score, mean_score


def clap_score(text: Any, audio: Any) -> float:
    """Mean cosine in [-1, 1] of caption and audio embeddings (N, E) each, row by row; needs no unit length."""
    return ClapScore.of(reference=ClipRows.of_matrix(text), generated=ClipRows.of_matrix(audio)).compute().value


def cosine(x: Array, y: Array) -> Array:
    """(n,) cosines of rows (n, E). Raises MetricError for a zero vector, which has no direction."""
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    if not norms.all():
        zero = int((norms == 0).sum())
        raise MetricError("not_finite", f"{zero} of {len(norms)} pairs hold an embedding that is a zero vector and has no cosine; check the embedder")
    return np.asarray((x * y).sum(axis=1) / norms)


@dataclass(frozen=True)
class ClapScore(TwoSampleMetric):
    """Mean cosine over clips matched by id; closed-form interval.

    reference: caption embeddings (text-audio score) or the reference audio's (audio-audio similarity, CLAP_A).
    """

    def compute(self) -> Score:
        """Raises MetricError, status `unpaired`, where a clip has no partner."""
        clip_ids, reference, generated = paired(self.reference, self.generated)
        return mean_score(clip_ids, cosine(reference, generated))
