"""What a report reads: a run's folder, or the packed copy that lies beside a committed report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tta_bench.errors import InputError
from tta_bench.files import atomic_write, write_text
from tta_bench.records import read_records
from tta_bench.rows import PlannedCell, RowKey, RowScore, ScoreKey, gather, packed, planned_pairs, read_values

PLAN_FORMAT = 1


@dataclass(frozen=True)
class RunData:
    """One run: plan, scores by row, passes of the clock, failures. folder: where its cells' audio is, if it is there at all.

    configuration: config.toml. elsewhere: folders of cells that are not below `folder`. lengths: mean seconds of a cell's and the reference's clips.
    streams: readings of time to first audio.
    """

    folder: Path
    plan: Mapping[str, Any]
    scores: Mapping[ScoreKey, RowScore]
    systems: Mapping[str, Any] = field(default_factory=dict)
    passes: Sequence[Mapping[str, Any]] = ()
    failures: Sequence[Mapping[str, Any]] = ()
    clipped: Sequence[Mapping[str, Any]] = ()
    configuration: str = ""
    elsewhere: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    lengths: Sequence[Mapping[str, Any]] = ()
    streams: Sequence[Mapping[str, Any]] = ()

    @property
    def name(self) -> str:
        """Of the run."""
        return str(self.plan["run"])

    @property
    def target(self) -> tuple[str, str | None, int]:
        """System, sampler and steps that fidelity and speed-up refer to."""
        target = self.plan["target"]
        return target["system"], target["sampler"], target["steps"]

    def cells_of(self, row: RowKey) -> list[Mapping[str, Any]]:
        """The plan's cells of a row, one for each seed."""
        return [cell for cell in self.plan["cells"] if PlannedCell.of(cell).row == row]

    def card_of(self, row: RowKey) -> Mapping[str, Any]:
        """What systems.json says of a row's network; nothing where it does not know it."""
        name = f"{row.system} | {row.steps}"
        card: Mapping[str, Any] = self.systems.get(f"{name} | {row.sampler}") or self.systems.get(name, {})
        return card

    def distilled_for(self, row: RowKey) -> int | None:
        """Steps that a row's student was distilled for, as its card says."""
        steps = self.card_of(row).get("steps")
        return None if steps is None else int(steps)

    def audio_of(self, cell: str, clip_id: str) -> Path:
        """Where a cell's audio of a clip is, if it is there."""
        return self.elsewhere.get(cell, self.folder / "cells" / cell) / "audio" / f"{clip_id}.flac"

    @property
    def rows(self) -> list[RowKey]:
        """In the order of the plan."""
        return list(dict.fromkeys(PlannedCell.of(cell).row for cell in self.plan["cells"]))


def load_run(folder: Path) -> RunData:
    """The run in `folder`. Raises InputError where it is none, or one of its files cannot be read."""
    if not (folder / "plan.json").exists():
        made = "is a run of tta-bench evaluate, which has no report" if (folder / "records.jsonl").exists() else "is not the folder of a run"
        raise InputError(f"{folder}: {made} (it has no plan.json); name one that tta-bench run made")
    plan = _json(folder / "plan.json")
    if not isinstance(plan, dict) or ("cells" not in plan and plan.get("format") == PLAN_FORMAT):
        raise InputError(f"{folder / 'plan.json'}: is not the plan of a run; run the sweep again, which writes it anew")
    if plan.get("format") != PLAN_FORMAT:
        newer = isinstance(plan.get("format"), int) and plan["format"] > PLAN_FORMAT
        advice = "update tta_bench" if newer else "run the sweep again"
        raise InputError(f"{folder / 'plan.json'}: has format {plan.get('format')}, this version reads {PLAN_FORMAT}; {advice}")
    try:
        cells = [PlannedCell.of(cell) for cell in plan["cells"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'plan.json'}: is not the plan of a run; run the sweep again, which writes it anew") from error
    if not (folder / "records.jsonl").exists():
        raise InputError(f"{folder / 'records.jsonl'}: is missing; restore it, or run the sweep again")
    records = read_records(folder / "records.jsonl")
    scores = gather(records, read_values(folder, [cell.cell for cell in cells]), cells, planned_pairs(plan))
    timing = _json(folder / "timing.json") if (folder / "timing.json").exists() else {}
    failures, clipped = failures_of(folder), _json(folder / "clipped.json")
    configuration = (folder / "config.toml").read_text(encoding="utf-8") if (folder / "config.toml").exists() else ""
    systems, environment = _json(folder / "systems.json"), _json(folder / "environment.json")
    lengths = _json(folder / "lengths.json") if (folder / "lengths.json").exists() else ()  # runs of older versions have none
    streaming = _json(folder / "streaming.json") if (folder / "streaming.json").exists() else {}  # nothing was to be streamed
    passes, streams = timing.get("passes", ()), streaming.get("readings", ())
    return RunData(folder, plan, scores, systems, passes, failures, clipped, configuration, {}, environment, lengths, streams)


def failures_of(folder: Path) -> list[Mapping[str, Any]]:
    """What a run lacks, and why."""
    return list(_json(folder / "failures.json"))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the sweep again, which writes it anew") from error


def pack_run(run: RunData, out: Path) -> None:
    """Copy what a report needs to be rendered again: records and per-clip values of the plan's cells, and the small files."""
    write_text(out / "config.toml", run.configuration)
    small = {
        "plan": run.plan, "systems": run.systems, "environment": run.environment, "timing": {"passes": run.passes},
        "failures": run.failures, "clipped": run.clipped, "lengths": run.lengths,
        **({"streaming": {"format": 1, "readings": run.streams}} if run.streams else {}),
    }  # fmt: skip
    for name, content in small.items():
        write_text(out / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    records = [record for score in run.scores.values() for record in score.records]
    with atomic_write(out / "values.npz") as file:
        np.savez_compressed(file, **packed(run.scores.values()))  # type: ignore[arg-type]
    write_text(out / "records.jsonl", "".join(record.line() for record in records))
