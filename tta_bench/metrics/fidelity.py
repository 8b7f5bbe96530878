"""Fidelity to the teacher: how far a student's output lies from the teacher's for the same caption and the same noise (defined here).

Distillation promises the teacher's own map from noise to sound. Everywhere in this file the reference set is the teacher's audio at its
longest step count, not real audio, the generated set is the student's, and clips are paired by id. It is not quality: a student may leave
its teacher and sound better, and the teacher's own trajectory has a discretisation error, which a better solver does not share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tta_bench.errors import MetricError
from tta_bench.metrics.alignment import cosine
from tta_bench.metrics.clips import Array, ClipRows, TwoSampleMetric, paired, partners, same_dim
from tta_bench.metrics.divergence import kl_softmax
from tta_bench.metrics.score import Score, mean_score

RANGE_DB = 80.0


def fidelity_mel(teacher: Sequence[Any], student: Sequence[Any]) -> float:
    """Mean over clips of `log_mel_rmse_db`; one (P, D) log-mel in dB for each clip, clip i of one belongs to clip i of the other."""
    return FidelityMel.of(reference=_numbered(teacher), generated=_numbered(student)).compute().value


def fidelity_cosine(teacher: Any, student: Any) -> float:
    """Mean cosine in [-1, 1] of embeddings (N, D) each, row by row. Embeddings are not centred: strangers need not be near 0."""
    return FidelityCosine.of(reference=ClipRows.of_matrix(teacher), generated=ClipRows.of_matrix(student)).compute().value


def fidelity_kl(teacher_logits: Any, student_logits: Any) -> float:
    """Mean KL(teacher || student) of softmax posteriors, nats, exact; logits (N, K) each, row by row."""
    return FidelityKL.of(reference=ClipRows.of_matrix(teacher_logits), generated=ClipRows.of_matrix(student_logits)).compute().value


def log_mel_rmse_db(teacher: Array, student: Array) -> float:
    """Root of the mean square difference of two log-mels (P, D) in dB, both raised to 80 dB below the teacher's peak first.

    The peak is the largest value over all frames and bands of this clip; what the student has above it counts in full. Digital silence is
    one level everywhere (-100 dB under embedder `log_mel`), which then is the teacher's peak, and the floor lies far below it: the result
    is how far the student rises above silence, 0 if it is silent too. Where it is not, the clip may outweigh many others in the mean.
    """
    floor = teacher.max() - RANGE_DB
    return float(np.sqrt(np.square(np.maximum(student, floor) - np.maximum(teacher, floor)).mean()))


def _numbered(clips: Sequence[Any]) -> ClipRows:
    return ClipRows.of([f"{i:09d}" for i in range(len(clips))], clips)


@dataclass(frozen=True)
class FidelityMel(TwoSampleMetric):
    """Mean over clips of `log_mel_rmse_db`; closed-form interval. Rows are frames of log-mels in dB, as embedder `log_mel` gives them."""

    def compute(self) -> Score:
        """Raises MetricError, status `unpaired`, where a clip has no partner or its partner has another number of frames."""
        clip_ids = partners(self.reference, self.generated)
        same_dim(self.reference, self.generated)
        for clip_id, frames, others in zip(clip_ids, self.reference.counts, self.generated.counts, strict=True):
            if frames != others:
                lengths = f"{frames} frames in the teacher's audio and {others} in the student's"
                raise MetricError("unpaired", f"clip {clip_id} has {lengths}; give both the same duration")
        sides = zip(self.reference.rows_of_clips(), self.generated.rows_of_clips(), strict=True)
        return mean_score(clip_ids, np.array([log_mel_rmse_db(teacher, student) for teacher, student in sides]))


@dataclass(frozen=True)
class FidelityCosine(TwoSampleMetric):
    """Mean cosine of the two embeddings of each clip, each the mean over its rows; closed-form interval."""

    def compute(self) -> Score:
        """Raises MetricError: status `unpaired` where a clip has no partner, `not_finite` where an embedding is zero."""
        clip_ids, teacher, student = paired(self.reference, self.generated)
        return mean_score(clip_ids, cosine(teacher, student))


@dataclass(frozen=True)
class FidelityKL(TwoSampleMetric):
    """Mean KL(teacher || student) of class posteriors over pairs; closed-form interval.

    The formula is that of `kl_softmax`, the protocol is not: there the reference is real audio that shares the caption and nothing else,
    so that even a perfect generator keeps the divergence of two different sounds; here it is the teacher's output from the same noise,
    and 0 is within reach. The two are on one scale and must never stand in one comparison, hence the protocol `kl_softmax_teacher`.
    """

    def compute(self) -> Score:
        """Raises MetricError, status `unpaired`, where a clip has no partner."""
        clip_ids, teacher, student = paired(self.reference, self.generated)
        return mean_score(clip_ids, kl_softmax(teacher, student))
