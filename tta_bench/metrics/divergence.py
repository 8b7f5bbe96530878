"""Kullback-Leibler divergence of class posteriors between generated and reference audio of the same caption.

`kl_softmax` is exact: log_softmax in float64, no constant inside the logarithm. The others reproduce published tools whose
small constants and argument order differ, so that their tables can be compared; none is meant for new work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, log_softmax, softmax

from tta_bench.errors import InputError
from tta_bench.metrics.clips import Array, ClipRows, TwoSampleMetric, paired
from tta_bench.metrics.score import Score, mean_score

_EPS = 1e-6


def kl_divergence(reference_logits: Any, generated_logits: Any, protocol: str = "kl_softmax") -> float:
    """Mean over pairs of the divergence of class posteriors, nats; logits (N, K) each, row i of one belongs to row i of the other."""
    batch = {"reference": ClipRows.of_matrix(reference_logits), "generated": ClipRows.of_matrix(generated_logits)}
    return KLDivergence.of(**batch, protocol=protocol).compute().value


def kl_softmax(reference: Array, generated: Array) -> Array:
    """(n,) KL(reference || generated) of softmax posteriors, exact (av-benchmark's)."""
    log_p, log_q = log_softmax(reference, axis=1), log_softmax(generated, axis=1)
    return np.asarray((np.exp(log_p) * (log_p - log_q)).sum(axis=1))


def kl_audioldm(reference: Array, generated: Array) -> Array:
    """(n,) as `kl_softmax`, with 1e-6 added to the generated posterior inside the logarithm (audioldm_eval, Tango)."""
    log_p = log_softmax(reference, axis=1)
    return np.asarray((np.exp(log_p) * (log_p - np.log(softmax(generated, axis=1) + _EPS))).sum(axis=1))


def kl_reverse(reference: Array, generated: Array) -> Array:
    """(n,) KL(generated || reference), 1e-6 added to the reference posterior inside the logarithm (stable-audio-metrics)."""
    return kl_audioldm(generated, reference)


def kl_sigmoid(reference: Array, generated: Array) -> Array:
    """(n,) sum over classes of p log(p / (q + 1e-6)) with p, q sigmoids: no (1-p) terms, so not a true KL (audioldm_eval)."""
    p = expit(reference)
    return np.asarray((p * (-np.logaddexp(0.0, -reference) - np.log(expit(generated) + _EPS))).sum(axis=1))


@dataclass(frozen=True)
class KLDivergence(TwoSampleMetric):
    """Mean KL over pairs matched by clip id; closed-form interval. protocol: a key of `PROTOCOLS`."""

    protocol: str = "kl_softmax"

    def compute(self) -> Score:
        """Raises MetricError, status `unpaired`, where a clip has no partner; InputError for an unknown protocol."""
        if self.protocol not in PROTOCOLS:
            raise InputError(f"unknown KL protocol {self.protocol!r}; known: {', '.join(PROTOCOLS)}")
        clip_ids, reference, generated = paired(self.reference, self.generated)
        return mean_score(clip_ids, PROTOCOLS[self.protocol](reference, generated))


PROTOCOLS: dict[str, Callable[[Array, Array], Array]] = {
    "kl_softmax": kl_softmax,
    "kl_audioldm": kl_audioldm,
    "kl_reverse": kl_reverse,
    "kl_sigmoid": kl_sigmoid,
}
