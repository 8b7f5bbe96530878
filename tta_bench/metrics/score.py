"""A score with its standard error, its 95 % interval and what each clip contributed to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from tta_bench.rng import stream_seed

Array = npt.NDArray[np.float64]
_ROUNDING = 1e-13  # a standard error below this share of the value is rounding, not an estimate


@dataclass(frozen=True)
class Score:
    """One number and how sure it is.

    value: the score. n: clips it was taken over. clip_ids, contributions: (n,) so that, for every metric alike,
    `contributions.mean() == value` and `contributions.std(ddof=1) / sqrt(n) == std_error`: the per-clip values for a
    mean, value + influence for the others. Differences of two scores are therefore paired by subtracting contributions.
    std_error, ci_low, ci_high: None where they cannot be estimated (too few clips, then contributions may be NaN; or no spread at
    all). dof: degrees of freedom of the interval. details: numbers printed beside it.
    """

    value: float
    clip_ids: tuple[str, ...]
    contributions: Array
    std_error: float | None
    ci_low: float | None
    ci_high: float | None
    dof: int
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of clips."""
        return len(self.clip_ids)


def of_contributions(
    value: float, clip_ids: Sequence[str], contributions: Array, details: Mapping[str, float] | None = None, dof: int | None = None
) -> Score:
    """Score whose standard error is that of the mean of `contributions` (n,); Student's t interval with `dof` (n - 1) degrees."""
    n = len(contributions)
    dof = n - 1 if dof is None else dof
    known = n >= 2 and dof >= 1 and bool(np.isfinite(contributions).all())
    std_error = float(contributions.std(ddof=1)) / math.sqrt(n) if known else 0.0
    if std_error <= _ROUNDING * abs(value):
        return Score(value, tuple(clip_ids), contributions, None, None, None, dof, details or {})
    half = float(stdtrit(dof, 0.975)) * std_error
    return Score(value, tuple(clip_ids), contributions, std_error, value - half, value + half, dof, details or {})


def mean_score(clip_ids: Sequence[str], values: Array, details: Mapping[str, float] | None = None) -> Score:
    """Mean of per-clip `values` (n,), closed form: standard error s / sqrt(n)."""
    return of_contributions(float(values.mean()), clip_ids, values, details)


def jackknife_score(
    value: float,
    clip_ids: Sequence[str],
    leave_one_out: Array,
    pair_effects: Array | None = None,
    details: Mapping[str, float] | None = None,
) -> Score:
    """Score with the delete-one jackknife: `leave_one_out` (n,) is the statistic without clip i.

    se^2 = (n-1)/n * sum (theta_-i - mean theta_-)^2 (Tukey), so the influence of clip i is (n-1) * (mean theta_- - theta_-i).
    Where pairs of clips matter by themselves, as in a squared distance, this is too large: it counts their part of the variance
    twice. `pair_effects` (M,), from `pair_effects`, takes it out once (Efron & Stein 1981, section 5); influences are scaled alike.
    The value itself is left as it is, not corrected for bias.
    """
    n = len(leave_one_out)
    influence = (n - 1) * (leave_one_out.mean() - leave_one_out)
    variance = influence.var(ddof=1) / n
    if pair_effects is not None and len(pair_effects) and variance > 0:
        excess = 0.5 * (n - 1) / (n + 1) * float(np.mean((pair_effects - pair_effects.mean()) ** 2))
        influence = influence * np.sqrt(max(1.0 - excess / variance, 0.5))  # half is what pure pair effects leave
    return of_contributions(value, clip_ids, value + influence, details)


def sample_pairs(clip_ids: Sequence[str], most: int) -> npt.NDArray[np.int64]:
    """(M, 2) indices of at most `most` different pairs of clips, all if they are no more, else near in a hash order; none for n < 4."""
    n = len(clip_ids)
    if n < 4:
        return np.empty((0, 2), dtype=np.int64)
    if n * (n - 1) // 2 <= most:
        return np.stack(np.triu_indices(n, 1), axis=1)
    order = np.array(_hashed_order(clip_ids, "jackknife-pair"))
    shifts = range(1, -(-most // n) + 1)
    return np.concatenate([np.stack([order, np.roll(order, -shift)], axis=1) for shift in shifts])[:most]


def pair_effects(value: float, leave_one_out: Array, pairs: npt.NDArray[np.int64], leave_pair_out: Array) -> Array:
    """(M,) n theta - (n-1) (theta_-i + theta_-j) + (n-2) theta_-ij: what clips i and j do together, beyond each alone."""
    n = len(leave_one_out)
    return np.asarray(n * value - (n - 1) * leave_one_out[pairs].sum(axis=1) + (n - 2) * leave_pair_out)


def _hashed_order(clip_ids: Sequence[str], name: str) -> list[int]:
    return sorted(range(len(clip_ids)), key=lambda i: stream_seed(0, name, clip_ids[i]))


def clip_groups(clip_ids: Sequence[str], groups: int) -> npt.NDArray[np.int64]:
    """(n,) group of each clip, sizes differing by at most one, by the order of a hash of the id: independent of batch and order."""
    group = np.empty(len(clip_ids), dtype=np.int64)
    group[_hashed_order(clip_ids, "jackknife-group")] = np.arange(len(clip_ids)) % groups
    return group


def group_jackknife_score(
    value: float,
    clip_ids: Sequence[str],
    statistic_without: Callable[[npt.NDArray[np.bool_]], float],
    groups: int = 20,
    details: Mapping[str, float] | None = None,
) -> Score:
    """Score with the delete-a-group jackknife, for statistics that are not smooth in one clip (neighbours) or dear (FAD-infinity).

    statistic_without: from a mask (n,) of the clips to keep to the statistic. se^2 = (G-1)/G * sum_g (theta_-g - mean)^2
    (Kott 2001), with a t interval of G - 1 degrees of freedom; each clip of a group gets an equal part of its influence.
    Conservative: for recall and FAD-infinity the standard error is about 1.3 times the true one in simulation.
    """
    n = len(clip_ids)
    groups = min(groups, n)
    if groups < 2:
        return of_contributions(value, clip_ids, np.full(n, np.nan), details)
    member = clip_groups(clip_ids, groups)
    without = np.array([statistic_without(member != g) for g in range(groups)])
    size = np.bincount(member, minlength=groups)
    influence = np.sqrt(n * (n - 1) * (groups - 1) / groups / size) * (without.mean() - without)
    influence -= (influence * size).sum() / n  # zero-mean when sizes differ by one
    return of_contributions(value, clip_ids, value + influence[member], details, dof=groups - 1)
