"""Inception score of the generated set's class posteriors (Salimans et al. 2016), with splits as audioldm_eval and torch-fidelity make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp

from tta_bench.errors import InputError
from tta_bench.metrics.clips import Array, ClipRows, TwoSampleMetric, need_clips
from tta_bench.metrics.score import Score, of_contributions

_LEAST_PER_SPLIT = 5  # a chunk of one scores 1 whatever it holds: deleting from a few says nothing of the spread


def inception_score(logits: Any, splits: int = 10) -> tuple[float, float]:
    """(mean, population standard deviation over splits) of exp(mean KL(p(y|x) || p(y))), natural log; logits (N, K), 1 <= score <= K.

    The standard deviation over splits is what papers print; it is not a standard error, `InceptionScore.compute` has one.
    """
    score = InceptionScore.of(generated=ClipRows.of_matrix(logits), splits=splits).compute()
    return score.value, score.details["split_std"]


@dataclass(frozen=True)
class InceptionScore(TwoSampleMetric):
    """Inception score over `splits` chunks of a RandomState(`seed`) permutation of the clips, which are sorted by id first.

    Strongly biased by the number of splits where n is small, so splits are part of the protocol. The interval is a jackknife over
    clips within their chunk: chunks are independent samples, so their variances add. No interval below 5 clips a chunk.
    """

    splits: int = 10
    seed: int = 2020

    def compute(self) -> Score:
        """Raises MetricError for fewer than 2 clips a split: one clip scores 1, whatever it is."""
        if self.splits < 1:
            raise InputError(f"an inception score needs at least 1 split, got {self.splits}")
        need_clips(self.generated, 2 * self.splits, f"the inception score with {self.splits} splits")
        log_p = log_softmax(self.generated.pooled().matrix(), axis=1)
        n = len(log_p)
        order = np.random.RandomState(self.seed).permutation(n)
        scores, influence = np.empty(self.splits), np.full(n, np.nan)
        for i in range(self.splits):
            members = order[i * n // self.splits : (i + 1) * n // self.splits]
            scores[i], without = _chunk_score(log_p[members])
            size = len(members)
            # scaled so that the mean square over clips gives the sum of the chunks' jackknife variances / splits^2
            if size < _LEAST_PER_SPLIT:
                continue
            influence[members] = np.sqrt(n * (n - 1) * (size - 1) / size) / self.splits * (without.mean() - without)
        value = float(scores.mean())
        return of_contributions(value, self.generated.clip_ids, value + influence, {"split_std": float(scores.std())}, n - self.splits)


def _chunk_score(log_p: Array) -> tuple[float, Array]:
    """exp(mean_i KL(p_i || mean p)) of (n, K) log posteriors, and (n,) the same without row i (NaN for n = 1)."""
    n = len(log_p)
    p = np.exp(log_p)
    negative_entropy = (p * log_p).sum(axis=1)
    log_mean = logsumexp(log_p, axis=0) - np.log(n)
    value = np.exp(negative_entropy.mean() - np.exp(log_mean) @ log_mean)
    if n == 1:
        return float(value), np.full(1, np.nan)
    mean = (p.sum(axis=0) - p) / (n - 1)
    entropy = -(mean * np.log(np.maximum(mean, np.finfo(np.float64).tiny))).sum(axis=1)
    return float(value), np.exp((negative_entropy.sum() - negative_entropy) / (n - 1) + entropy)
