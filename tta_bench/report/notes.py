"""Sentences that a reader of the table must know: what it refers to, and which rows are not like the others."""

from __future__ import annotations

from tta_bench.lengths import length_note, lengths_differ
from tta_bench.report.run_data import RunData
from tta_bench.rows import RowKey


def target_note(run: RunData) -> str:
    """What fidelity and speed-up refer to: system, sampler, steps."""
    system, sampler, steps = run.target
    return f"{system} at {steps} step{'s' * (steps != 1)}{f' with sampler {sampler}' if sampler else ''}"


def steps_notes(run: RunData) -> list[str]:
    """That steps and evaluations of DiTAR are not those of a clip, where a row is of it."""
    there = any(cell["family"] == "ditar" for cell in run.plan["cells"])
    note = (
        "Steps of DiTAR are of each patch; its NFE are over all patches of the longest clip, each of one patch and without the language model: "
        "compare families by seconds."
    )
    return [note] if there else []


def length_notes(run: RunData) -> list[str]:
    """A sentence for every row whose clips are of other length than the reference's; rows that differ in their steps only share one."""
    found: dict[tuple[str, str], list[RowKey]] = {}
    for row in run.rows:
        mine = [item for item in run.lengths if item["row"] == str(row)]
        if not mine:
            continue
        generated, reference = (sum(item[key] for item in mine) / len(mine) for key in ("generated_s", "reference_s"))
        if lengths_differ(generated, reference):
            found.setdefault((str(row._replace(steps=None)), length_note(generated, reference)), []).append(row)
    return [f"{_named(rows)}: {note}." for (_, note), rows in found.items()]


def _named(rows: list[RowKey]) -> str:
    """As tables name rows, their steps in one list."""
    ordered = sorted(rows, key=lambda row: -(row.steps or 0))
    steps = [str(row.steps) for row in ordered]
    return str(ordered[0]).replace(f" | {steps[0]} step", f" | {', '.join(steps)} step", 1)
