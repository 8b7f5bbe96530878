"""What a person sees: progress bars on standard error, the table on standard output."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from tta_bench.harness.evaluate import MOSTLY_SILENT, TOO_LOUD, Evaluation, ScoredSet
from tta_bench.harness.progress import Progress
from tta_bench.records import Record

_WIDTH_OF_A_FILE = 140
_WIDTH_WITH_PROTOCOL = 96
_SECONDS_BETWEEN_LINES = 60.0
_NEVER_NEGATIVE = ("frechet_", "kl_")


def console() -> Console:
    """Standard output; wide enough for the table where it is not a terminal."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=_WIDTH_OF_A_FILE)


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
    absent = ", ".join(f"{record.metric} ({record.embedder})" for record in done if record.ci_low is None)
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


def _number(value: float) -> str:
    return f"{value:,.1f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"
