"""Rows of features keyed by clip: what every accumulator is made of, and the accumulator laws in one place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.score import Score

Array = npt.NDArray[np.float64]


def as_array(values: Any) -> npt.NDArray[Any]:
    """numpy view or copy of a numpy array or of a torch tensor on any device."""
    return np.asarray(values.detach().cpu().double() if hasattr(values, "detach") else values)


def as_matrix(rows: Any, what: str = "features") -> Array:
    """`rows` as finite float64 `(N, D)`; a vector is one row per value's clip only if it is 2-D already.

    Raises InputError for another number of dimensions or for NaN and infinity.
    """
    matrix = np.asarray(as_array(rows), dtype=np.float64)
    if matrix.ndim != 2:
        raise InputError(f"{what} must have shape (N, D), got {matrix.shape}; give one row per clip or patch")
    if not np.isfinite(matrix).all():
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        raise InputError(f"{what} hold NaN or infinity in {len(bad)} of {len(matrix)} rows (first: row {bad[0]})")
    return matrix


def _checked(blocks: Sequence[tuple[str, npt.NDArray[Any]]], pool: bool) -> tuple[Array, npt.NDArray[np.int64]]:
    """All rows as float64, or their mean per clip, and the number of each clip's. Raises InputError naming a clip that is not finite."""
    if pool:
        matrix = np.empty((len(blocks), blocks[0][1].shape[1]))
        for mean, (_, block) in zip(matrix, blocks, strict=True):
            mean[:] = block[0] if len(block) == 1 else block.mean(axis=0, dtype=np.float64)
    else:
        matrix = np.concatenate([block for _, block in blocks], dtype=np.float64, casting="unsafe")
    if not np.isfinite(matrix).all():
        clip_id = next(clip_id for clip_id, block in blocks if not np.isfinite(block).all())
        raise InputError(f"features of clip {clip_id} hold NaN or infinity; check the embedder and the audio")
    return matrix, np.array([1 if pool else len(block) for _, block in blocks], dtype=np.int64)


@dataclass(frozen=True)
class ClipRows:
    """Feature rows of clips, an accumulator: `empty`, `of`, `merge`; read sorted by clip id, so that order never matters.

    blocks: (clip_id, (P, D) array of any float dtype) per clip. Arrays may be views of memory-mapped files:
    nothing is copied before it is read, and `chunks` reads a bounded number of rows at a time. pool: readers see one row per
    clip, the mean of its rows (pooling "clip").
    """

    blocks: tuple[tuple[str, npt.NDArray[Any]], ...] = ()
    pool: bool = False

    @classmethod
    def empty(cls) -> Self:
        """No clips: neutral for `merge`."""
        return cls()

    @classmethod
    def of(cls, clip_ids: Sequence[str], rows: Sequence[Any]) -> Self:
        """One entry per clip; each of `rows` is (P, D), or (D,) for a clip with one row."""
        if len(clip_ids) != len(rows):
            raise InputError(f"{len(clip_ids)} clip ids came with {len(rows)} feature arrays; give one for each")
        return cls(tuple((clip_id, np.atleast_2d(as_array(row))) for clip_id, row in zip(clip_ids, rows, strict=True)))

    @classmethod
    def of_matrix(cls, rows: Any, clip_ids: Sequence[str] | None = None) -> Self:
        """Every row of (N, D) is a clip of its own; without ids, clips are numbered in the order given."""
        matrix = as_matrix(rows)
        ids = [f"{i:09d}" for i in range(len(matrix))] if clip_ids is None else clip_ids
        return cls.of(ids, list(matrix))

    def merge(self, other: Self) -> Self:
        """Clips of both, which must be pooled alike. Associative; commutative because every reader sorts."""
        if self.blocks and other.blocks and self.pool != other.pool:
            raise InputError("clips with all their rows and pooled clips cannot be merged; pool both or neither")
        return type(self)(self.blocks + other.blocks, self.pool or other.pool)

    def __len__(self) -> int:
        return len(self.blocks)

    @cached_property
    def _sorted(self) -> tuple[tuple[str, npt.NDArray[Any]], ...]:
        ordered = tuple(sorted(self.blocks, key=lambda block: block[0]))
        repeated = [a[0] for a, b in itertools.pairwise(ordered) if a[0] == b[0]]
        if repeated:
            raise InputError(f"clip ids occur twice: {', '.join(repeated[:10])}; each clip may be added once")
        dims = {block.shape[1] for _, block in ordered if block.ndim == 2}
        if len(dims) > 1 or any(block.ndim != 2 or not len(block) for _, block in ordered):
            raise InputError(f"features of one set must all be (P, D) with P >= 1 and one D, got D in {sorted(dims)}")
        return ordered

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Ids in the order in which all readers return rows."""
        return tuple(clip_id for clip_id, _ in self._sorted)

    @property
    def dim(self) -> int:
        """D, the number of values per row."""
        if not self.blocks:
            raise MetricError("too_few_clips", "a metric was asked of no clips at all; give it some")
        return int(self._sorted[0][1].shape[1])

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """(n,) rows of each clip."""
        return np.array([1 if self.pool else len(block) for _, block in self._sorted], dtype=np.int64)

    def matrices(self, max_rows: int = 1024) -> Iterator[tuple[Array, npt.NDArray[np.int64]]]:
        """Clips in order, about `max_rows` rows at a time: ((N, D) float64, rows of each clip in it). Bounded memory.

        Raises InputError naming the clip where a value is not finite.
        """
        held: list[tuple[str, npt.NDArray[Any]]] = []
        held_rows = 0
        for block in self._sorted:
            held.append(block)
            held_rows += len(block[1])
            if held_rows >= max_rows:
                yield _checked(held, self.pool)
                held, held_rows = [], 0
        if held:
            yield _checked(held, self.pool)

    def chunks(self, max_rows: int = 1024) -> Iterator[list[Array]]:
        """As `matrices`, cut into (P, D) for each clip."""
        for matrix, counts in self.matrices(max_rows):
            yield np.split(matrix, np.cumsum(counts)[:-1])

    def rows_of_clips(self) -> Iterator[Array]:
        """(P, D) float64 of each clip in order."""
        for chunk in self.chunks():
            yield from chunk

    def rows_of(self, index: int) -> Array:
        """(P, D) float64 of the clip at one place of the order."""
        return _checked(self._sorted[index : index + 1], self.pool)[0]

    def matrix(self) -> Array:
        """(N, D) float64: all rows of all clips in order."""
        return _checked(self._sorted, self.pool)[0] if self.blocks else np.zeros((0, 0))

    def pooled(self) -> ClipRows:
        """The same clips with one row each: the mean over its rows, taken when it is read. Clips with one row keep it exactly."""
        return ClipRows(self.blocks, pool=True)

    def select(self, clip_ids: Sequence[str]) -> ClipRows:
        """The named clips only, all of which must be there."""
        blocks = dict(self._sorted)
        return ClipRows(tuple((clip_id, blocks[clip_id]) for clip_id in clip_ids), self.pool)


def partners(reference: ClipRows, generated: ClipRows) -> tuple[str, ...]:
    """Clip ids in the order of both sides' readers, which hold the same clips.

    Raises MetricError, status `unpaired`, listing ids that have no partner: a pair is never guessed from order.
    """
    left, right = set(reference.clip_ids), set(generated.clip_ids)
    if left != right:
        alone = sorted(left ^ right)
        listed = ", ".join(alone[:10]) + (f" and {len(alone) - 10} more" if len(alone) > 10 else "")
        raise MetricError("unpaired", f"{len(alone)} clips have no partner of the same clip id: {listed}; name both files alike")
    if not left:
        raise MetricError("too_few_clips", "a paired metric was asked of no clips at all; give it some")
    return generated.clip_ids


def paired(reference: ClipRows, generated: ClipRows) -> tuple[tuple[str, ...], Array, Array]:
    """(clip_ids, reference rows (n, D), generated rows (n, D)), one row per clip, matched by clip id. Raises as `partners` does."""
    clip_ids = partners(reference, generated)
    x, y = reference.pooled().matrix(), generated.pooled().matrix()
    if x.shape[1] != y.shape[1]:
        raise InputError(f"paired features must have one length, got {x.shape[1]} and {y.shape[1]}")
    return clip_ids, x, y


@dataclass(frozen=True)
class TwoSampleMetric:
    """Accumulator of a metric over a reference and a generated set; metrics of one set leave the other empty.

    Laws, held by tests for every metric: `merge` is associative and commutative, `empty()` is neutral, and a set
    split in any way gives the same score. A subclass adds its parameters as fields and `compute`.
    """

    reference: ClipRows = field(default_factory=ClipRows)
    generated: ClipRows = field(default_factory=ClipRows)

    @classmethod
    def empty(cls, **parameters: Any) -> Self:
        """No clips on either side: neutral for `merge`."""
        return cls(**parameters)

    @classmethod
    def of(cls, *, reference: ClipRows | None = None, generated: ClipRows | None = None, **parameters: Any) -> Self:
        """A batch of clips of either side, or of both."""
        return cls(reference=reference or ClipRows(), generated=generated or ClipRows(), **parameters)

    def merge(self, other: Self) -> Self:
        """Clips of both accumulators. Raises InputError where their parameters differ."""
        if self._parameters() != other._parameters():
            raise InputError(f"metrics with different parameters cannot be merged: {self._parameters()} and {other._parameters()}")
        merged = {"reference": self.reference.merge(other.reference), "generated": self.generated.merge(other.generated)}
        return type(self)(**merged, **self._parameters())

    def _parameters(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("reference", "generated")}

    def compute(self) -> Score:
        """The score of all clips merged so far."""
        raise TypeError(f"{type(self).__name__} defines no compute")


def need_clips(clips: ClipRows, least: int, what: str) -> None:
    """Raises MetricError, status `too_few_clips`, where fewer than `least` clips are there."""
    if len(clips) < least:
        raise MetricError("too_few_clips", f"{what} needs at least {least} clips, got {len(clips)}; add clips or leave the metric out")


def same_dim(reference: ClipRows, generated: ClipRows) -> None:
    """Raises InputError where the two sets' features have different lengths."""
    if reference.dim != generated.dim:
        raise InputError(f"features have different lengths, {reference.dim} (reference) and {generated.dim} (generated); use one embedder for both")
