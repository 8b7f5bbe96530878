"""What a person sees: progress bars on standard error, the table on standard output."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from tta_bench.console import console
from tta_bench.harness.evaluate import MOSTLY_SILENT, TOO_LOUD, Evaluation, ScoredSet
from tta_bench.harness.progress import Progress
from tta_bench.records import Record

if TYPE_CHECKING:
    from tta_bench.gate import Verdict
    from tta_bench.report.results import Column, Results

_MOST_FAILURES = 10
_WIDTH_WITH_PROTOCOL = 96
_SECONDS_BETWEEN_LINES = 60.0
_NEVER_NEGATIVE = ("frechet_", "kl_")


@contextlib.contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars with count, time spent, time left and a note, one for each task; where standard error is no terminal, a line a minute."""
    name, note_column = TextColumn("{task.description:<20}", markup=False), TextColumn("{task.fields[note]}", markup=False)
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), note_column)
    out = Console(stderr=True)
    with Bars(*columns, console=out, disable=not out.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        last = time.monotonic()

        def report(task: str, done: int, total: int, note: str = "") -> None:
            nonlocal last
            if not out.is_terminal and time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                print(f"{task}: {done} of {total}{f', {note}' if note else ''}", file=sys.stderr, flush=True)
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, completed=done, note=note)
            bars.update(tasks[task], completed=done, total=total, note=note)

        yield report


def print_evaluation(evaluation: Evaluation) -> None:
    """Sets, table, notes, and where everything was written."""
    out = console()
    for name, scored in (("generated", evaluation.generated), ("reference", evaluation.reference)):
        _print_set(out, name, scored)
    out.print(_table(evaluation.records, out.width))
    for note in evaluation.notes:
        out.print(f"note: {note}", markup=False)
    for record in evaluation.records:
        if record.status != "ok":
            out.print(f"{record.metric} ({record.embedder}): {record.status}: {record.message}", markup=False)
    for note in _interval_notes(evaluation.records):
        out.print(f"note: {note}", markup=False)
    reused = f" ({evaluation.reused} of {len(evaluation.records)} scores were there already)" if evaluation.reused else ""
    out.print(f"records: {evaluation.run / 'records.jsonl'}{reused}", markup=False, soft_wrap=True)


def _interval_notes(records: list[Record]) -> Iterator[str]:
    """What to make of intervals that are missing or reach where the score cannot."""
    done = [record for record in records if record.status == "ok"]
    # protocols with "@" are another package's, which gives none
    absent = ", ".join(f"{record.metric} ({record.embedder})" for record in done if record.ci_low is None and "@" not in record.protocol)
    if absent:
        yield f"no interval for {absent}: too few clips, or no spread among them"
    beyond = [f"{record.metric} ({record.embedder})" for record in done if record.protocol.startswith(_NEVER_NEGATIVE) and (record.ci_low or 0.0) < 0]
    if beyond:
        yield f"the interval of {', '.join(beyond)} reaches below 0: a sign of too few or of very uneven clips"


def _print_set(out: Console, name: str, scored: ScoredSet) -> None:
    minutes = scored.hours * 60.0
    line = f"{name}: {scored.folder}: {len(scored.clip_ids)} clips, {minutes:.1f} min, {scored.embedded.embedded} newly embedded"
    silent = scored.mostly_silent
    if silent:
        line += f"; {len(silent)} more than {MOSTLY_SILENT:.0%} silent (listed in clips.json)"
    if scored.too_loud:
        line += f"; {len(scored.too_loud)} beyond {TOO_LOUD:g} x full scale, e.g. {scored.too_loud[0]}: were they scaled to [-1, 1]?"
    out.print(line, markup=False, soft_wrap=True)
    if scored.embedded.excluded:
        out.print(f"  left out: {len(scored.embedded.excluded)}", markup=False)
        for error in scored.embedded.excluded.values():
            out.print(f"    {error.kind}: {error.path}: {error.detail}", markup=False, soft_wrap=True)


def _table(records: list[Record], width: int) -> Table:
    """Arrows say which way is better; the protocol is dropped where the terminal is too narrow (it is in the records)."""
    columns = ["metric", "embedder", "score", "± s.e.", "95 % interval", "n / ref."] + ["protocol"] * (width >= _WIDTH_WITH_PROTOCOL)
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[2:6]:
        column.justify = "right"
    for record in records:
        error = "" if record.std_error is None else _number(record.std_error)
        interval = "" if record.ci_low is None or record.ci_high is None else f"{_number(record.ci_low)} to {_number(record.ci_high)}"
        score = Text(record.status, style="yellow") if record.value is None else Text(_number(record.value), style="bold")
        name = f"{record.metric} {'↓' if record.direction == 'lower' else '↑'}"
        counts = f"{record.n} / {'-' if record.n_reference is None else record.n_reference}"
        table.add_row(*[name, record.embedder, score, error, interval, counts, record.protocol][: len(columns)])
    return table


def print_sweep(folder: Path, failures: Sequence[Mapping[str, Any]], new: int) -> None:
    """The table, what is missing, and how many records are new."""
    from tta_bench.report.notes import length_notes
    from tta_bench.report.results import results_of
    from tta_bench.report.run_data import load_run

    out = console()
    run = load_run(folder)
    results = results_of(run)
    table, left_out = _sweep_table(results, out.width)
    out.print(table)
    if left_out:
        out.print(f"no room here, in the report: {', '.join(column.label for column in left_out)}", markup=False)
    batches = Counter((item["source"], item["batch"]) for item in run.passes)
    for (source, batch), count in batches.items():
        one, many = ("batch", "batches") if source == "generation" else ("pass", "passes")
        how = f"{one if count == 1 else many} {'of the generation' if source == 'generation' else 'over all rows'}"
        out.print(f"times: {count} {how}, {batch} clip{'s' * (batch != 1)} at a time", markup=False)
    shown = failures[:_MOST_FAILURES]
    for item in shown:
        where = (
            f"{item['row']}{'' if item['seed'] is None else ', seed ' + str(item['seed'])}{', clip ' + item['clip_id'] if item['clip_id'] else ''}"
        )
        out.print(f"missing: {where}: {item['message']}", markup=False, soft_wrap=True)
    if len(failures) > len(shown):
        out.print(f"missing: {len(failures) - len(shown)} more, listed in the report", markup=False)
    for note in (*run.plan.get("notes", ()), *length_notes(run)):
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    reused = sum(len(score.records) for score in run.scores.values()) - new
    out.print(f"records: {folder / 'records.jsonl'} ({new} new, {reused} there already)", markup=False, soft_wrap=True)


def _sweep_table(results: Results, width: int) -> tuple[Table, list[Column]]:
    """As many metrics as fit, in their order, and those that do not."""
    from tta_bench.report.tables import seconds, times, with_interval

    arrows = {"lower": "↓", "higher": "↑"}
    best = {column: results.best(column) for column in results.columns}
    lead: list[list[str]] = []
    for row in results.rows:
        sampler = f" {row.key.sampler}" if row.key.sampler not in (None, "ddim") else ""
        scale = ["" if row.key.guidance_scale is None else f"{row.key.guidance_scale:g}"] * results.has_scales
        lead.append([f"{row.key.system}{sampler}", str(row.key.steps or ""), str(row.nfe or ""), *scale])
    speed = [[seconds(row.speed.seconds_per_clip), times(row.speed.speed_up)] for row in results.rows]
    heads, ends = ["system", "steps", "NFE", *["guidance"] * results.has_scales], ["s/clip", "speed-up"]
    shown: list[tuple[str, list[Text]]] = []
    room = width - sum(map(_widest, zip(heads, *lead, strict=True))) - sum(map(_widest, zip(ends, *speed, strict=True)))
    for column in results.columns:
        cells = []
        for row in results.rows:
            value, half = with_interval(row.estimates.get(column))
            cells.append(Text(f"{value} ±{half}" if half else value, style="bold" if row.key in best[column] else ""))
        head = f"{column.label.replace('fidelity', 'fid.')} {arrows[column.direction]}"
        room -= _widest((head, *(cell.plain for cell in cells)))
        if room < 0:
            break
        shown.append((head, cells))
    table = Table(*heads, *(head for head, _ in shown), *ends, box=None, pad_edge=False)
    for number, made in enumerate(table.columns):
        made.justify, made.no_wrap = "right" if number else "left", True
    for number in range(len(results.rows)):
        table.add_row(*map(Text, lead[number]), *(cells[number] for _, cells in shown), *speed[number])
    return table, results.columns[len(shown) :]


def _widest(cells: Sequence[str]) -> int:
    return max(map(len, cells)) + 2  # columns are two spaces apart


def print_verdicts(verdicts: Sequence[Verdict], everything: bool) -> None:
    """Rows that are not SAME (or all), those that block first, and the sum. What many rows share is said once."""
    from tta_bench.gate import blocked
    from tta_bench.gate_report import by_severity, counts, detectable, detectable_by_metric, interval, metric_name, number, reasons, row_name

    out = console()
    table = Table("verdict", "row", "metric", "baseline", "run", "difference", "margin", "detectable", box=None, pad_edge=False)
    for column in table.columns[3:]:
        column.justify = "right"
    shared = {} if everything else {(verdict, reason): count for count, verdict, reason in reasons(verdicts) if count > _MOST_FAILURES}
    for item in by_severity(verdicts):
        if everything or (item.verdict != "SAME" and (item.verdict, item.reason) not in shared):
            colour = "bold red" if item.blocks else "yellow" if item.verdict == "UNRESOLVED" else "green" if item.verdict == "BETTER" else ""
            what = interval(item) or item.reason
            cells = (row_name(item), metric_name(item), number(item.baseline), number(item.value), what, number(item.margin), detectable(item))
            table.add_row(Text(item.verdict, style=colour), *map(Text, cells))
    if table.row_count:
        out.print(table)
    for (verdict, reason), count in shared.items():
        out.print(f"{verdict}, {count} rows: {reason} (--all lists them)", markup=False, soft_wrap=True)
    out.print(f"{'BLOCKED' if blocked(verdicts) else 'passed'}: {counts(verdicts)}", markup=False)
    out.print(f"a change for the worse that any row would show: {detectable_by_metric(verdicts)}", markup=False, soft_wrap=True)


def _number(value: float) -> str:
    return f"{value:,.1f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"
