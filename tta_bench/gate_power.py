"""What the gate can see: how likely a change for the worse of a given size is blocked when the same system is run again with fresh seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import chdtrc, nctdtr, ndtr, stdtrit

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Chance:
    """How much two runs of one system differ. error: standard error of their difference. dof: of the test. noise_dof: of the noise in the estimate
    of that error, which is less where few clips bear most of it. share: of a margin that is a share of the baseline's value, which has noise too.
    """

    error: float
    dof: float
    noise_dof: float
    share: float = 0.0


@cache
def critical_value(dof: float, tests: int, alpha: float) -> float:
    """What the t statistic must exceed at the strictest of `tests` tests, at family-wise error `alpha`."""
    return float(stdtrit(dof, 1.0 - alpha / tests))


def power(effect: npt.ArrayLike, chance: Chance, margin: float, tests: int, alpha: float) -> Array:
    """Probability, by effect for the worse, that a row is WORSE at the strictest of `tests` tests at family-wise error `alpha`; a lower bound.

    The t statistic must exceed its critical value, and follows a noncentral t distribution (Satterthwaite 1946: noise_dof in place of n - 1), and
    the difference must exceed the margin: both happen at least as often as their probabilities add up to beyond 1.
    """
    size = np.asarray(effect, dtype=np.float64)
    if chance.error == 0.0:
        return (size > margin).astype(np.float64)
    critical = critical_value(chance.dof, tests, alpha)
    centre = size / chance.error
    missed = np.asarray(nctdtr(chance.noise_dof, centre, critical))
    missed = np.where(np.isnan(missed), _most_missed(chance.noise_dof, centre, critical), missed)
    spread = chance.error * math.sqrt((1.0 + (1.0 + chance.share) ** 2) / 2.0)
    over = ndtr((size - margin) / spread)
    return np.asarray(np.clip(over - missed, 0.0, 1.0), dtype=np.float64)


def _most_missed(dof: float, centre: Array, critical: float) -> Array:
    """No less than nctdtr, which is NaN far above the critical value. A statistic (z + centre) / sqrt(chi2 / dof) that stays below it has z < -8
    or a chi2 that is as large as the rest asks for.
    """
    chi2 = dof * np.square(np.maximum(centre - 8.0, 0.0) / critical)
    return np.minimum(ndtr(-8.0) + np.asarray(chdtrc(dof, chi2)), 1.0)


def detectable_effect(chance: Chance, margin: float, tests: int, alpha: float, wanted: float) -> float | None:
    """The smallest change for the worse that is blocked with probability `wanted`, see `power`; None without an error, or where none is."""
    if not 0.0 < chance.error < math.inf:
        return None

    def lacking(effect: float) -> float:
        return float(power(effect, chance, margin, tests, alpha)) - wanted

    high = margin + 10.0 * chance.error
    for _ in range(20):
        if lacking(high) > 0.0:
            return float(brentq(lacking, 0.0, high))
        high *= 2.0
    return None
