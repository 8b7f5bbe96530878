"""Diversity: how far the samples of one caption lie apart, made with different seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tta_bench.errors import MetricError
from tta_bench.metrics.alignment import cosine
from tta_bench.metrics.clips import ClipRows, TwoSampleMetric
from tta_bench.metrics.score import Score, mean_score


def diversity(samples: Any) -> float:
    """Mean cosine distance in [0, 2] of the pairs of samples of each caption, mean over captions; (captions, samples, D)."""
    rows = [np.asarray(sample) for sample in samples]
    return Diversity.of(generated=ClipRows.of([f"{i:09d}" for i in range(len(rows))], rows)).compute().value


@dataclass(frozen=True)
class Diversity(TwoSampleMetric):
    """Rows of a clip are its samples' embeddings (S, D), one for each seed: mean of 1 - cos over the S (S - 1) / 2 pairs, then over clips.

    Unbiased for any S >= 2. Clips with one sample are left out.
    """

    def compute(self) -> Score:
        """Raises MetricError where no clip has two samples, or a sample is a zero vector."""
        samples = list(zip(self.generated.clip_ids, self.generated.rows_of_clips(), strict=True))
        several = [(clip_id, rows) for clip_id, rows in samples if len(rows) > 1]
        if not several:
            raise MetricError("too_few_clips", "diversity needs two samples of a caption at least; give two seeds or more")
        distances = [1.0 - cosine(*(rows[index] for index in np.triu_indices(len(rows), 1))).mean() for _, rows in several]
        return mean_score([clip_id for clip_id, _ in several], np.array(distances))
