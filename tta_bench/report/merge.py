"""Several runs in one report: rows side by side, each under a name of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tta_bench.errors import InputError
from tta_bench.records import Record
from tta_bench.report.run_data import RunData
from tta_bench.rows import PlannedCell, RowKey, RowScore, ScoreKey


def merged(runs: Sequence[RunData]) -> RunData:
    """All rows of `runs`: the first run's, then what the others add.

    A row of the same audio as one before it stands once. A system of which other audio has been seen under the same name is called "NAME (RUN)".
    Target and baseline weighting are the first run's; fidelity to another teacher is left out. Raises InputError for runs on different clips
    or another reference.
    """
    whole = runs[0]
    names = [run.name if [other.name for other in runs].count(run.name) == 1 else str(run.folder) for run in runs]
    for run, name in zip(runs[1:], names[1:], strict=True):
        _check(whole, run)
        whole = _joined(whole, _Renamed.beside(whole, run, name))
    return replace(whole, plan={**whole.plan, "run": ", ".join(names)}) if len(runs) > 1 else whole


def _beside(name: str, label: str, taken: set[str]) -> str:
    """`name` with `label`, as often as it takes to be none of `taken`."""
    while name in taken:
        name = f"{name} ({label})"
    return name


def _check(first: RunData, other: RunData) -> None:
    """One table ranks what was measured in the same way only."""
    if first.plan["captions"] != other.plan["captions"] or first.plan["reference"]["n"] != other.plan["reference"]["n"]:
        raise InputError(f"{other.folder}: was run on other clips than {first.folder}; make a report of each")
    known = _marks(first)
    for (metric, embedder), marks in _marks(other).items():
        if known.get((metric, embedder), marks) != marks:
            raise InputError(
                f"{other.folder}: {metric} ({embedder}) was measured by another protocol, embedder or reference than in {first.folder}; "
                "run it again, or make a report of each"
            )


def _marks(run: RunData) -> dict[tuple[str, str | None], set[tuple[Any, ...]]]:
    """What must be equal, by metric and embedder. Fidelity refers to a teacher, anchors to clips of their own."""
    found: dict[tuple[str, str | None], set[tuple[Any, ...]]] = {}
    for key, score in run.scores.items():
        for record in score.records:
            if record.family != "reference":
                reference = None if _is_fidelity(key) else record.reference_sha256
                mark = (record.protocol, record.embedder_sha256, record.metric_version, reference)
                found.setdefault((key.metric, key.embedder), set()).add(mark)
    return found


def _is_fidelity(key: ScoreKey) -> bool:
    return key.metric.startswith("fidelity_")


def _teachers(run: RunData) -> dict[tuple[int | None, float | None], set[str | None]]:
    """Audio that fidelity refers to, by seed and guidance scale."""
    found: dict[tuple[int | None, float | None], set[str | None]] = {}
    for key, score in run.scores.items():
        for record in score.records if _is_fidelity(key) else ():
            found.setdefault((record.seed, record.guidance_scale), set()).add(record.reference_sha256)
    return found


def _same_teacher(first: RunData, other: RunData) -> bool:
    """Whether every teacher's audio that both know is the same, and they know one."""
    mine, theirs = _teachers(first), _teachers(other)
    common = mine.keys() & theirs.keys()
    return bool(common) and all(mine[key] == theirs[key] for key in common)


@dataclass(frozen=True)
class _Renamed:
    """A run with what is new in it, under names that nothing before it has. dropped: rows that stand already, and their cells by seed."""

    run: RunData
    label: str
    systems: Mapping[str, str]
    dropped: Mapping[RowKey, Mapping[int | None, str]]

    @classmethod
    def beside(cls, whole: RunData, run: RunData, label: str) -> _Renamed:
        """Decide by the rows that both have."""
        common = set(whole.rows) & set(run.rows)
        same = {row for row in common if _is_same(_values(whole, row), _values(run, row))}
        taken = {row.system for row in common - same}
        cells = {row: {cell["seed"]: cell["cell"] for cell in whole.cells_of(row)} for row in same}
        names = {row.system for row in (*whole.rows, *run.rows)}
        return cls(run, label, {name: _beside(name, label, names) for name in taken}, cells)

    def row(self, row: RowKey) -> RowKey:
        """Its new name."""
        return row if row in self.dropped else row._replace(system=self.systems.get(row.system, row.system))

    def cell(self, cell: str) -> str:
        """Cells of two runs may have the same id: the same system, measured twice."""
        return f"{cell}@{self.label}"

    def plan_cells(self) -> list[dict[str, Any]]:
        """Of the rows that are new."""
        kept = [cell for cell in self.run.plan["cells"] if PlannedCell.of(cell).row not in self.dropped]
        return [{**cell, "system": self.systems.get(cell["system"], cell["system"]), "cell": self.cell(cell["cell"])} for cell in kept]

    def scores(self) -> dict[ScoreKey, RowScore]:
        """All, those of rows that stand already too: they may have a metric more."""
        return {self._key(score.key): self._score(score) for score in self.run.scores.values()}

    def _key(self, key: ScoreKey) -> ScoreKey:
        return key._replace(row=self.row(key.row))

    def _score(self, score: RowScore) -> RowScore:
        key = self._key(score.key)
        cells = [self._cell_of(score.key.row, record) for record in score.records]
        changes = [{"system": key.row.system, "cell": cell} for cell in cells]
        records = tuple(record.model_copy(update=change) for record, change in zip(score.records, changes, strict=True))
        return replace(score, key=key, records=records)

    def _cell_of(self, row: RowKey, record: Record) -> str:
        if row not in self.dropped:
            return self.cell(record.cell)
        cells = self.dropped[row]
        return cells.get(record.seed) or next(iter(cells.values()))  # a score over all seeds is kept with the first one's

    def named(self, text: str) -> str:
        """A row as timing.json and failures.json name it."""
        return next((str(self.row(row)) for row in self.run.rows if str(row) == text), text)

    def passes(self) -> list[dict[str, Any]]:
        """Of the clock."""
        return [{**item, "rows": {self.named(row): time for row, time in item["rows"].items()}} for item in self.run.passes]

    def notes(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Failures, clipped samples, lengths or streams of the rows that are new."""
        dropped = {str(row) for row in self.dropped}
        return [{**item, "row": self.named(item["row"])} for item in items if item["row"] not in dropped]

    def cards(self) -> dict[str, Any]:
        """systems.json."""
        parts = ((*name.partition(" | "), card) for name, card in self.run.systems.items())  # no system's name holds a bar
        return {f"{self.systems.get(system, system)}{bar}{steps}": card for system, bar, steps, card in parts}

    def folders(self) -> dict[str, Path]:
        """Of every cell."""
        return {self.cell(cell["cell"]): self.run.folder / "cells" / cell["cell"] for cell in self.run.plan["cells"]}


_Values = dict[tuple[str, str | None, int | None], float | None]


def _values(run: RunData, row: RowKey) -> _Values:
    scores = ((key, record) for key, score in run.scores.items() if key.row == row and not _is_fidelity(key) for record in score.records)
    return {(key.metric, key.embedder, record.seed): record.value for key, record in scores}


def _is_same(a: _Values, b: _Values) -> bool:
    """Whether two rows are of the same seeds and audio, by the scores that both have."""
    common = a.keys() & b.keys()
    seeds = [{seed for *_, seed in values if seed is not None} for values in (a, b)]  # scores over all seeds have none
    return bool(common) and seeds[0] == seeds[1] and all(a[key] == b[key] for key in common)


def _joined(whole: RunData, part: _Renamed) -> RunData:
    run = part.run
    cells, curves = whole.plan["cells"], whole.plan["weights"]
    added = {key: score for key, score in part.scores().items() if key not in whole.scores}
    notes = list(whole.plan.get("notes", ()))
    notes += [f"{part.label}: {note}" for note in run.plan.get("notes", ())]
    if any(map(_is_fidelity, added)) and not _same_teacher(whole, run):
        added = {key: score for key, score in added.items() if not _is_fidelity(key)}
        notes.append(f"{part.label}: its fidelity is left out, it refers to another teacher's audio than {whole.name}'s.")
    plan = {
        **whole.plan,
        "cells": [*cells, *part.plan_cells()],
        "weights": [*curves, *(curve for curve in run.plan["weights"] if curve not in curves)],
        "scores": [list(pair) for pair in dict.fromkeys((key.metric, key.embedder) for key in (*whole.scores, *run.scores))],
        "seeds": sorted({*whole.plan["seeds"], *run.plan["seeds"]}),
        "notes": notes,
    }
    comment = "# The configuration of {}:\n"
    before = whole.configuration if whole.elsewhere else comment.format(whole.name) + whole.configuration
    return replace(
        whole,
        plan=plan,
        scores={**whole.scores, **added},
        systems={**part.cards(), **whole.systems},
        passes=[*whole.passes, *part.passes()],
        failures=[*whole.failures, *part.notes(run.failures)],
        clipped=[*whole.clipped, *part.notes(run.clipped)],
        lengths=[*whole.lengths, *part.notes(run.lengths)],
        streams=[*whole.streams, *part.notes(run.streams)],
        configuration=f"{before}\n{comment.format(part.label)}{run.configuration}",
        elsewhere={**whole.elsewhere, **part.folders(), **{part.cell(cell): folder for cell, folder in run.elsewhere.items()}},
    )
