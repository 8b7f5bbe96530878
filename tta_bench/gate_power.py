"""What the gate can see: how likely a change for the worse of a given size is blocked when the same system is run again with fresh seeds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import nctdtr, ndtr, stdtrit

from tta_bench.gate import GateConfig

Array = npt.NDArray[np.float64]


def power(effect: Array, error: float, margin: float, tests: int, dof: int, config: GateConfig) -> Array:
    """Probability, by effect for the worse, that a row is WORSE at the strictest of `tests` tests.

    error: of the difference of two runs (`RowScore.seed_error`). The t statistic follows a noncentral t distribution; the difference must exceed
    the margin too, and both happen at once about as often as the rarer of them.
    """
    if error == 0.0:
        return (np.asarray(effect) > margin).astype(np.float64)
    critical = float(stdtrit(dof, 1.0 - config.alpha / tests))
    clear = 1.0 - np.asarray(nctdtr(dof, np.asarray(effect) / error, critical))
    return np.asarray(np.minimum(clear, ndtr((np.asarray(effect) - margin) / error)), dtype=np.float64)
