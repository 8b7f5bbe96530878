"""Rows of a table: cells that differ in their seed only. Values are averaged over seeds, contributions within each clip, so n counts clips.

Reads what runs and baselines keep: records, and the contribution of every clip to every score.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tta_bench.errors import InputError
from tta_bench.files import atomic_write, digest, write_text
from tta_bench.records import Record, read_records
from tta_bench.row_values import load_arrays, read_packed

Array = npt.NDArray[np.float64]


class RowKey(NamedTuple):
    """What is compared across runs: a system, its sampler, steps and guidance scale (None where it has none)."""

    system: str
    sampler: str | None
    steps: int | None
    guidance_scale: float | None

    def __str__(self) -> str:
        """For people; also the name under which a row is stored."""
        parts = [self.system]
        parts += [] if self.sampler in (None, "ddim") else [str(self.sampler)]
        parts += [] if self.steps is None else [f"{self.steps} step{'s' * (self.steps != 1)}"]
        parts += [] if self.guidance_scale is None else [f"guidance {self.guidance_scale:g}"]
        return " | ".join(parts)


class PlannedCell(NamedTuple):
    """A cell that a run was to do."""

    cell: str
    row: RowKey
    seed: int | None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> PlannedCell:
        """From an entry of plan.json."""
        return cls(entry["cell"], RowKey(*(entry[name] for name in RowKey._fields)), entry["seed"])


class ScoreKey(NamedTuple):
    """One score of a row."""

    row: RowKey
    metric: str
    embedder: str | None


@dataclass(frozen=True)
class RowScore:
    """One score of one row over its seeds. records: one for each seed, or one without a seed over all of them. clip_ids, contributions (seeds, n):
    None where a seed has no value, or its clips differ from the others'. planned: seeds that the run was to have, where that is known.
    """

    key: ScoreKey
    records: tuple[Record, ...]
    clip_ids: tuple[str, ...] | None
    contributions: Array | None
    planned: int = 0

    @property
    def status(self) -> str:
        """ "ok", that of the first seed that is not, or "incomplete" where seeds are missing."""
        failed = next((record.status for record in self.records if record.status != "ok"), None)
        return failed or ("incomplete" if len(self.records) < self.planned and self.records[0].seed is not None else "ok")

    @property
    def reason(self) -> str:
        """Why there is no value."""
        failed = next((record for record in self.records if record.status != "ok"), None)
        return f"{failed.status}: {failed.message}" if failed else f"incomplete: {len(self.records)} of {self.planned} seeds have it"

    @property
    def value(self) -> float | None:
        """Mean over seeds; None where one is missing."""
        if self.status != "ok":
            return None
        return float(np.mean([record.value for record in self.records if record.value is not None]))

    @property
    def seed_error(self) -> float | None:
        """Standard error of the difference of two runs of one system with as many fresh seeds each, from how the seeds of this run differ.

        Two single seeds differ, averaged over clips, by std(c_a - c_b) / sqrt(n); means over S seeds by 1 / sqrt(S) of that. None for one seed.
        """
        if self.contributions is None or len(self.contributions) < 2 or self.contributions.shape[1] < 2:
            return None
        seeds, n = self.contributions.shape
        variances = [np.var(a - b, ddof=1) / n for a, b in itertools.combinations(self.contributions, 2)]
        error = math.sqrt(float(np.mean(variances)) / seeds)
        return error if math.isfinite(error) else None

    @property
    def seed_dof(self) -> float | None:
        """Degrees of freedom of that noise (Satterthwaite): as many clips of equal noise would make it. None for one seed, or without noise.

        (sum v)^2 / sum v^2 over the clips' variances v between seeds, as they are: of few seeds they spread more than the true ones, so that it errs
        on the safe side.
        """
        if self.seed_error is None or self.contributions is None:
            return None
        variances = self.contributions.var(axis=0, ddof=1)
        squares = float(np.square(variances).sum())
        return None if squares == 0.0 else min(max(1.0, float(variances.sum()) ** 2 / squares), len(variances) - 1.0)

    @property
    def n_excluded(self) -> int:
        """Clips that some seed could not generate."""
        return max(record.n_excluded for record in self.records)

    @property
    def has_interval(self) -> bool:
        """Whether the contributions tell chance from change."""
        return self.contributions is not None and bool(np.isfinite(self.contributions).all())

    @property
    def per_clip(self) -> Array | None:
        """(n,) contributions averaged over seeds."""
        return None if self.contributions is None else np.asarray(self.contributions.mean(axis=0))

    @property
    def dof(self) -> int | None:
        """Degrees of freedom of the interval."""
        return min((record.n - 1 if record.dof is None else record.dof) for record in self.records)

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """In order."""
        return tuple(record.seed for record in self.records)


def row_of(record: Record) -> RowKey:
    """The row that a record belongs to."""
    return RowKey(record.system, record.sampler, record.steps, record.guidance_scale)


def place(record: Record) -> tuple[ScoreKey, int | None]:
    """What there is one record of in a run: a score of a row and seed. Of several, the last one counts."""
    return ScoreKey(row_of(record), record.metric, record.embedder), record.seed


class Ledger:
    """The records that a run has so far: by key, and which of them count."""

    def __init__(self, records: Iterable[Record]) -> None:
        kept = list(records)
        self.known = {record.key: record for record in kept}
        self._last = {place(record): record.key for record in kept}
        self._cells = current_cells(kept)

    def counts(self, record: Record) -> bool:
        """Whether readers take this record for its score, nothing newer standing in its place."""
        return self._last.get(place(record)) == record.key and self._cells[row_of(record), record.seed] == record.cell


def current_cells(records: Iterable[Record]) -> dict[tuple[RowKey, int | None], str]:
    """The cell that each row and seed was scored in last."""
    return {(row_of(record), record.seed): record.cell for record in records}


Pairs = Collection[tuple[str, str | None]]


def gather(
    records: Iterable[Record], values: Mapping[str, npt.NDArray[Any]], cells: Sequence[PlannedCell] | None = None, pairs: Pairs | None = None
) -> dict[ScoreKey, RowScore]:
    """Scores by row, in the order of the records. values: arrays by `CELL/NAME`, as `read_values` gives them. cells, pairs of metric and embedder:
    only these.

    All scores of a row and seed are of one cell, the one that was scored last: other audio never stands beside it.
    """
    wanted = None if cells is None else {cell.cell for cell in cells}
    kept = [
        record for record in records if (wanted is None or record.cell in wanted) and (pairs is None or (record.metric, record.embedder) in pairs)
    ]
    current = current_cells(kept)
    planned = Counter(cell.row for cell in cells or ())
    grouped: dict[ScoreKey, dict[int | None, Record]] = {}
    for record in kept:
        if current[row_of(record), record.seed] == record.cell:
            key, seed = place(record)
            grouped.setdefault(key, {})[seed] = record
    return {key: _row_score(key, [found[seed] for seed in sorted(found, key=str)], values, planned[key.row]) for key, found in grouped.items()}


def _row_score(key: ScoreKey, records: Sequence[Record], values: Mapping[str, npt.NDArray[Any]], planned: int) -> RowScore:
    ids, parts = [], []
    for record in records:
        name = stored_name(record)
        if record.status != "ok" or f"{name}/values" not in values:
            return RowScore(key, tuple(records), None, None, planned)
        ids.append(tuple(str(clip_id) for clip_id in values[f"{name}/clip_ids"]))
        parts.append(np.asarray(values[f"{name}/values"], dtype=np.float32).astype(np.float64))  # as they are packed, wherever they come from
    if len(set(ids)) != 1:
        return RowScore(key, tuple(records), None, None, planned)
    return RowScore(key, tuple(records), ids[0], np.stack(parts), planned)


def stored_name(record: Record) -> str:
    """Prefix of a record's arrays among those of a whole run."""
    return f"{record.cell}/{record.values_name}"


def read_values(run: Path, cells: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Contributions of a run's cells: from values.npz (packed), else from cells/ID/clips.npz. Raises InputError for a file that is damaged."""
    if (run / "values.npz").exists():
        return read_packed(run / "values.npz")
    found: dict[str, npt.NDArray[Any]] = {}
    for cell in cells:
        found |= {f"{cell}/{name}": array for name, array in load_arrays(run / "cells" / cell / "clips.npz").items()}
    return found


def packed(scores: Iterable[RowScore]) -> dict[str, npt.NDArray[Any]]:
    """Contributions of many scores in few arrays: for each set of clips its ids (n,), the scores' names (M,) and values (M, n), float32."""
    sets: dict[tuple[str, ...], dict[str, Array]] = {}
    for score in scores:
        if score.clip_ids is not None and score.contributions is not None:
            rows = sets.setdefault(score.clip_ids, {})
            rows |= dict(zip(map(stored_name, score.records), score.contributions, strict=True))
    arrays: dict[str, npt.NDArray[Any]] = {}
    for i, (clip_ids, rows) in enumerate(sets.items()):
        arrays |= {f"{i}/clip_ids": np.array(clip_ids), f"{i}/names": np.array(list(rows))}
        arrays[f"{i}/values"] = np.stack(list(rows.values())).astype(np.float32)
    return arrays


def load_scores(run: Path) -> dict[ScoreKey, RowScore]:
    """Scores of a run's folder: those of its plan's cells where it has a plan, else all. Raises InputError for what is no run, or damaged."""
    records = read_records(run / "records.jsonl")
    if not records:
        raise InputError(f"{run}: holds no records; name the folder of a run")
    cells, pairs = read_plan(run / "plan.json") if (run / "plan.json").exists() else (None, None)
    ids = [cell.cell for cell in cells] if cells is not None else dict.fromkeys(record.cell for record in records)
    return gather(records, read_values(run, ids), cells, pairs)


def absent_rows(run: Path, scores: Mapping[ScoreKey, RowScore]) -> list[RowKey]:
    """Rows that the run was to have, where it has a plan, of which there is no score."""
    planned = read_plan(run / "plan.json")[0] if (run / "plan.json").exists() else []
    there = {key.row for key in scores}
    return [row for row in dict.fromkeys(cell.row for cell in planned) if row not in there]


def planned_pairs(plan: Mapping[str, Any]) -> Pairs | None:
    """Metrics and embedders that a run was to score by; None in a plan that does not say."""
    return {(metric, embedder) for metric, embedder in plan["scores"]} if "scores" in plan else None


def read_plan(path: Path) -> tuple[list[PlannedCell], Pairs | None]:
    """The cells that a run was to do, and the pairs of metric and embedder. Raises InputError where plan.json cannot be read."""
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        return [PlannedCell.of(cell) for cell in plan["cells"]], planned_pairs(plan)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the sweep again, which writes it anew") from error


def save_scores(scores: Iterable[RowScore], lines: Path) -> None:
    """Write NAME.jsonl and NAME.npz: records and their contributions, each naming the other by content."""
    kept = list(scores)
    text = "".join(record.line() for score in kept for record in score.records)
    with atomic_write(lines.with_suffix(".npz")) as file:
        np.savez_compressed(file, **packed(kept), records_sha256=np.array(digest([text])))  # type: ignore[arg-type]
    write_text(lines, text)


def load_saved(lines: Path) -> dict[ScoreKey, RowScore]:
    """What `save_scores` wrote. Raises InputError where one of the two files is missing, damaged, or belongs to another."""
    if not lines.is_file():
        raise InputError(f"{lines}: is not there; name the .jsonl file that tta-bench baseline wrote")
    records = read_records(lines)
    if not records:
        raise InputError(f"{lines}: holds no records; write it again with tta-bench baseline")
    arrays = lines.with_suffix(".npz")
    try:
        values = read_packed(arrays)
    except InputError as error:
        raise InputError(f"{arrays}: is missing or damaged; restore {lines.name} and it, or write both again with tta-bench baseline") from error
    written_for = str(load_arrays(arrays).get("records_sha256", ""))
    if written_for != digest([lines.read_text(encoding="utf-8")]):
        raise InputError(f"{arrays}: belongs to other records than {lines.name} beside it; restore both, or write them again with tta-bench baseline")
    return gather(records, values)
