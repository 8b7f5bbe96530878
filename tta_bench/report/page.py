"""What the page shows, section by section, as plain values for its template."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from typing import Any

from tta_bench.gate import GateConfig
from tta_bench.records import Record
from tta_bench.report import figures
from tta_bench.report.cells import cell, head, plots
from tta_bench.report.media import Sample, columns_in
from tta_bench.report.notes import steps_notes, target_note
from tta_bench.report.results import Column, Difference, Estimate, Result, Results
from tta_bench.report.run_data import RunData
from tta_bench.report.speed import Spread, chosen_passes
from tta_bench.report.tables import PARTIAL_NOTE, number, seconds, times, with_interval
from tta_bench.rows import ScoreKey

_ARROWS = {"lower": "↓", "higher": "↑"}
_QUALITY = ("kad", "fad", "kl", "clap")
_ANCHOR_NOTE = (
    "Shaded rows at the top are anchors, not systems: real audio that is not in the reference, the same through the codec, and the "
    "reference's own clips through the codec; another codec than the first has its system's name. Where real audio is of the same captions as "
    "the reference, as SynthCaps renders it, it lies closer to it than audio of other captions would, and its KAD is below 0."
)


def main_table(run: RunData, results: Results) -> dict[str, Any]:
    """Heads and two bodies: anchors, which stay on top, and systems."""
    heads = [
        head("system", True, "system and, where it is not DDIM, its sampler"),
        head("steps", title="as configured: network evaluations per guidance branch"),
        head("NFE", title="network evaluations in all: guidance doubles a teacher's"),
    ]
    heads += [head("guidance", title="guidance scale, 1 is none")] * results.has_scales
    heads += [
        head("s / clip", title="median seconds per clip, sampling and decoding, at the throughput batch"),
        head("speed-up", title="median over repeats of the target's time over this row's"),
    ]
    heads += [head(f"{c.label} {_ARROWS[c.direction]}", title=_about(run, c)) for c in results.columns]
    heads.append(head("RTF", title="real-time factor: seconds of work for a second of audio"))
    best = {column: results.best(column) for column in results.columns}
    bodies = [
        {"anchors": anchors, "rows": [_row(row, results, best) for row in results.rows if row.is_anchor == anchors]} for anchors in (True, False)
    ]
    partial = any(results.partial(row, column) for row in results.rows for column in results.columns)
    notes = [_ANCHOR_NOTE] if any(row.is_anchor for row in results.rows) else []
    notes += [PARTIAL_NOTE] if partial else []
    notes += [*steps_notes(run), *students_elsewhere(run)]
    return {"heads": heads, "groups": [body for body in bodies if body["rows"]], "table_notes": " ".join(notes)}


def _about(run: RunData, column: Column) -> str:
    to = f", to {target_note(run)}" if column.metric.startswith("fidelity_") else ""
    return f"protocol {column.protocol}, embedder {column.embedder}{to}"


def _row(row: Result, results: Results, best: Mapping[Column, set[Any]]) -> dict[str, Any]:
    sampler = f" {row.key.sampler}" if row.key.sampler not in (None, "ddim") else ""
    cells = [_plain(row.key.steps), _plain(row.nfe or None)]
    if results.has_scales:
        cells.append(_plain(row.key.guidance_scale))
    cells += [_spread(row.speed.seconds_per_clip, seconds), _spread(row.speed.speed_up, times)]
    cells += [_score(row, column, results, row.key in best[column]) for column in results.columns]
    cells.append(cell(number(row.speed.real_time_factor, 3), row.speed.real_time_factor))
    return {"name": f"{row.key.system}{sampler}", "cells": cells}


def _plain(value: float | None) -> dict[str, Any]:
    return cell("" if value is None else f"{value:g}", value)


def _score(row: Result, column: Column, results: Results, best: bool) -> dict[str, Any]:
    estimate = row.estimates.get(column)
    text, half = with_interval(estimate)
    missing = estimate is not None and estimate.value is None
    text += "†" * results.partial(row, column)
    kind = "best" if best else "missing" if missing else ""
    return cell(text, estimate.value if estimate else None, half, kind, f"{estimate.n} clips" if estimate else "")


def _spread(spread: Spread | None, show: Any) -> dict[str, Any]:
    title = "" if spread is None else f"quartiles {number(spread.low, 3)} to {number(spread.high, 3)}, {spread.repeats} repeats"
    return cell(show(spread), spread.median if spread else None, title=title)


def _of_quality(results: Results) -> list[Column]:
    return [column for column in results.columns if column.metric in _QUALITY]


def curves(results: Results) -> list[dict[str, str]]:
    """One plot for each column."""
    return plots(results.columns, partial(figures.steps_figure, results), "steps", "steps, by system")


def evaluations(results: Results) -> list[dict[str, str]]:
    """Quality over network evaluations, for the metrics of quality; nothing where they are the steps."""
    if all(row.nfe == row.key.steps for row in results.rows if not row.is_anchor):
        return []
    draw = partial(figures.steps_figure, results, over="nfe")
    return plots(_of_quality(results), draw, "nfe", "network evaluations, by system")


def pareto(results: Results) -> list[dict[str, str]]:
    """Quality against wall clock, for the metrics of quality; nothing where nothing was timed."""
    if not any(row.speed.seconds_per_clip for row in results.rows):
        return []
    against = "seconds per clip; the line joins rows that no other beats in both"
    return plots(_of_quality(results), partial(figures.pareto_figure, results), "speed", against)


def speed_note(run: RunData, results: Results) -> str:
    """How times were taken."""
    timed = [row.speed for row in results.rows if row.speed.seconds_per_clip]
    if not timed:
        return "Nothing was timed."
    first = timed[0]
    host = next(iter(chosen_passes(run)[0]))["host"]
    repeats = sorted({speed.seconds_per_clip.repeats for speed in timed if speed.seconds_per_clip})
    count = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    how = {
        "generation": f"from the batches of the generation itself, {count} of them a row: a rough figure",
        "passes": f"{count} passes over all rows, so that a speed-up compares neighbours in time (the target before and after each pass tells drift)",
    }[first.source or "passes"]
    return (
        f"Batches of {first.batch} clips on {host['name']} ({host['device']}, {_threads(host)}), "
        f"sampling and decoding without scoring and disk; {how}. "
        f"Bars are quartiles. Speed-up is relative to {target_note(run)} under the same guidance."
    )


def _threads(host: Mapping[str, Any]) -> str:
    threads, processes = host["threads"], host.get("processes", 1)
    words = f"{threads} thread{'s' * (threads != 1)}"
    return words if processes == 1 else f"{words} each in {processes} processes at once"


def power(run: RunData, results: Results) -> dict[str, Any]:
    """What a later run of the same systems, with fresh seeds, could miss."""
    config = GateConfig()
    drawn = []
    for i, column in enumerate(results.columns):
        found = ((row, run.scores.get(ScoreKey(row.key, column.metric, column.embedder))) for row in results.rows)
        figure = figures.power_figure([(row, score) for row, score in found if score is not None], column, len(run.scores), config)
        if figure is not None:
            text = f"Chance that a row that got worse in {column.label} is blocked, by the size of the change; a line for every row"
            drawn.append({"svg": figures.svg(figure, f"power{i}", text), "caption": text, "name": f"power-{column.metric}-{column.embedder}"})
    note = (
        "If these systems were run again with as many fresh seeds and one row got worse: how likely tta-bench check blocks it, "
        f"at a family-wise error of {config.alpha:.0%} over {len(run.scores)} scores and the default margins. "
        "Runs with the same seeds are told apart better."
    )
    return {"power": drawn, "power_note": note}


def clipping(run: RunData) -> list[dict[str, Any]]:
    """Samples beyond full scale by row; a clip of several seeds counts as several."""
    rows: dict[str, dict[str, Any]] = {}
    for item in run.clipped:
        row = rows.setdefault(item["row"], {"row": item["row"], "clips": 0, "samples": 0})
        row["clips"] += item["clips"]
        row["samples"] += item["samples"]
    return [{"row": row["row"], "what": f"{_counted(row['samples'], 'sample')} in {_counted(row['clips'], 'clip')}"} for row in rows.values()]


def students_elsewhere(run: RunData) -> list[str]:
    """Students that ran with other step counts than they were distilled for: their quality says little of their weighting."""
    found = []
    for row in run.rows:
        distilled, weighting = run.distilled_for(row), run.card_of(row).get("weighting")
        if weighting and distilled not in (None, row.steps):
            found.append(f"{row.system} at {_counted(row.steps, 'step')} is the student distilled for {_counted(distilled, 'step')}.")
    return list(dict.fromkeys(found))


def _counted(count: int | None, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def weights(run: RunData) -> list[dict[str, str]]:
    """Weightings and what they led to, at the 25-step stage or the nearest below it."""
    curves_there = run.plan.get("weights", [])
    counts = sorted({curve["steps"] for curve in curves_there}, reverse=True)
    if not counts:
        return []
    steps = next((count for count in counts if count <= 25), counts[-1])
    losses = []
    for system in run.systems.values():
        loss = (system.get("weighting"), system.get("loss_by_level"))
        if system.get("steps") == steps and all(loss) and loss not in losses:  # one student may run at several step counts
            losses.append(loss)
    text = f"Weights of the v-loss over log SNR, and the loss by noise level, of the students with {steps} steps"
    return [{"svg": figures.svg(figures.weights_figure(curves_there, losses, steps), "weights", text), "caption": text, "name": "weightings"}]


def paired(differences: Sequence[Difference]) -> dict[str, Any]:
    """Rows by falling steps."""
    columns = list(dict.fromkeys(item.column for item in differences))
    found = {(item.steps, item.name, item.column): item for item in differences}
    keys = sorted(dict.fromkeys((item.steps, item.name) for item in differences), key=lambda key: (-key[0], key[1]))
    rows = [
        {"student": student, "steps": steps, "cells": [_difference(found.get((steps, student, column))) for column in columns]}
        for steps, student in keys
    ]
    heads = [head("student", True), head("steps"), *(head(f"{c.label} {_ARROWS[c.direction]}") for c in columns)]
    return {"pairs": rows, "pair_heads": heads, "pair_count": len(differences)}


def _difference(item: Difference | None) -> dict[str, Any]:
    estimate: Estimate | None = item.estimate if item else None
    text, half = with_interval(estimate)
    kind = "clear best" if item and item.clear and item.is_better else "clear" if item and item.clear else ""
    return cell(text, estimate.value if estimate else None, half, kind)


def listening(run: RunData, samples: Sequence[Sample]) -> dict[str, Any]:
    """The grid: captions by systems."""
    columns = columns_in(samples)
    found = {(sample.clip_id, sample.column): sample for sample in samples}
    rows = []
    for clip_id in dict.fromkeys(sample.clip_id for sample in samples):
        cells = []
        for column in columns:
            sample = found.get((clip_id, column))
            cells.append({"audio": sample.data("audio"), "picture": sample.data("picture"), "column": column} if sample else None)
        rows.append({"caption": run.plan["captions"][clip_id], "cells": cells})
    seed = next((cell["seed"] for cell in run.plan["cells"] if cell["seed"] is not None), None)
    note = "64 mel bands up to 8 kHz, low ones below, time to the right; one scale for all."
    return {"listening": rows, "listening_columns": columns, "seed": seed, "spectrogram_note": note}


def published() -> dict[str, Any]:
    """Rows of other groups' papers."""
    text = resources.files("tta_bench.report").joinpath("published.csv").read_text(encoding="utf-8")
    heads, *rows = csv.reader(io.StringIO(text))
    return {"published_heads": [head(name.replace("_", " "), i == 0 or i > 7) for i, name in enumerate(heads)], "published": rows}


def provenance(run: RunData, results: Results) -> dict[str, Any]:
    """Where numbers come from."""
    records = [record for score in run.scores.values() for record in score.records]
    environment = run.environment
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
    created = sorted(record.created for record in records)
    facts = [
        ("clips", f"{run.plan['reference']['n']} captions of {run.plan['reference']['name']}, which also is the reference"),
        ("seeds", ", ".join(map(str, run.plan["seeds"]))),
        ("target", f"{target_note(run)}: what fidelity and speed-up refer to"),
        (
            "reference SHA-256",
            _all({record.reference_sha256 for record in records if record.reference and record.reference == run.plan["reference"]["name"]}),
        ),
        ("captions SHA-256", _all({record.captions_sha256 for record in records if record.captions_sha256})),
        ("embedders", _all({f"{record.embedder} {str(record.embedder_sha256)[:16]}" for record in records})),
        ("scored", f"{created[0]} to {created[-1]}" if created else "nothing"),
        ("code", _all({record.code_version for record in records})),
        ("Python", f"{environment.get('python')}, {environment.get('platform')}"),
        ("packages", packages),
    ]
    protocols = [
        (column.label, column.protocol, column.embedder or "", _all({record.reference or "none" for record in records if _is_of(record, column)}, 2))
        for column in results.columns
    ]  # fmt: skip
    return {"provenance": facts, "protocols": protocols}


def _is_of(record: Record, column: Column) -> bool:
    return (record.metric, record.embedder) == (column.metric, column.embedder)


def _all(values: set[Any], most: int = 4) -> str:
    listed = sorted(map(str, values))
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
