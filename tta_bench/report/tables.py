"""The same results for spreadsheets, papers and plain text: CSV, LaTeX (booktabs), Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from tta_bench.report.results import Column, Difference, Estimate, Result, Results
from tta_bench.report.speed import Spread

_TEX = str.maketrans({"_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\^{}"})


_CSV_COLUMNS = (
    "system", "weighting", "sampler", "steps", "nfe", "guidance_scale", "seeds", "metric", "embedder", "protocol", "direction", "unit", "value",
    "ci_low", "ci_high", "n", "n_excluded", "status", "seconds_per_clip", "seconds_one_clip", "speed_up", "real_time_factor", "memory_mib",
    "parameters",
)  # fmt: skip


def number(value: float | None, digits: int = 4) -> str:
    """Few digits, no exponent where it can be helped; an em dash for nothing."""
    if value is None:
        return "—"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.{digits}g}"


def with_interval(estimate: Estimate | None) -> tuple[str, str]:
    """Value and half-width as text, with as many decimals as the half-width's two digits; the status where there is no value."""
    if estimate is None:
        return "—", ""
    if estimate.value is None:
        return estimate.status.replace("_", " "), ""
    if not estimate.half:
        return number(estimate.value), ""
    decimals = next((d for d in range(7) if round(estimate.half, d) >= 10.0 ** -(d - 1) or d == 6), 6)
    decimals = max(0, min(decimals, 6))
    return f"{round(estimate.value, decimals) + 0.0:.{decimals}f}", f"{estimate.half:.{decimals}f}"  # + 0.0: no minus before what rounds to 0


def seconds(spread: Spread | None) -> str:
    """Median of repeats."""
    return "—" if spread is None else number(spread.median, 3)


def times(spread: Spread | None) -> str:
    """A ratio."""
    return "—" if spread is None else f"{spread.median:.3g}x"


PARTIAL_NOTE = "† over fewer clips than the others: not ranked, not drawn, and FAD is biased in the number of clips."


def _lead(row: Result, results: Results) -> list[str]:
    """What a row is."""
    scale = "" if row.key.guidance_scale is None else f"{row.key.guidance_scale:g}"
    return [row.key.system, row.key.sampler or "", str(row.key.steps or ""), str(row.nfe or ""), *([scale] if results.has_scales else [])]


def _lead_heads(results: Results) -> list[str]:
    return ["system", "sampler", "steps", "NFE", *(["guidance"] if results.has_scales else [])]


def results_csv(results: Results) -> str:
    """Tidy: a line for each row and metric."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(_CSV_COLUMNS)
    for row in results.rows:
        key, speed = row.key, row.speed
        for column, item in row.estimates.items():
            numbers = (item.value, item.low, item.high)
            cost = (_median(speed.seconds_per_clip), _median(speed.one_clip), _median(speed.speed_up), speed.real_time_factor, speed.memory_mib)
            lines.writerow([key.system, row.weighting, key.sampler, key.steps, row.nfe, key.guidance_scale, row.seeds, column.metric, column.embedder,
                            column.protocol, column.direction, column.unit, *map(_plain, numbers), item.n, item.n_excluded, item.status,
                            *map(_plain, cost), row.parameters])  # fmt: skip
    return out.getvalue()


def _median(spread: Spread | None) -> float | None:
    return None if spread is None else spread.median


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"


def results_tex(results: Results, title: str) -> str:
    """One booktabs table: values with half-widths, the best of every column in bold."""
    columns = results.columns
    heads = [rf"{_tex(column.label)} ${'downarrow' if column.direction == 'lower' else 'uparrow'}$".replace("$", "$\\", 1) for column in columns]
    lines = [
        "% needs \\usepackage{booktabs}",
        rf"\begin{{tabular}}{{ll{'r' * (len(columns) + len(_lead_heads(results)) - 1)}}}",
        r"\toprule",
        " & ".join([*_lead_heads(results), *heads, "speed-up"]) + r" \\",
        r"\midrule",
    ]
    best = {column: results.best(column) for column in columns}
    for previous, row in zip([None, *results.rows[:-1]], results.rows, strict=True):
        if previous is not None and previous.key.system != row.key.system and previous.is_anchor != row.is_anchor:
            lines.append(r"\midrule")
        cells = [_tex_cell(row, column, best[column], results.partial(row, column)) for column in columns]
        lead = [_tex(text) for text in _lead(row, results)]
        lines.append(" & ".join([*lead, *cells, times(row.speed.speed_up).replace("x", r"$\times$").replace("—", "--")]) + r" \\")
    note = f"{_tex(title)}: {results.n} clips; half-widths of 95 \\% intervals over clips."
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {note}"]) + "\n"


def _tex(text: str) -> str:
    return text.translate(_TEX)


def _tex_cell(row: Result, column: Column, best: Iterable[object], partial: bool) -> str:
    value, half = with_interval(row.estimates.get(column))
    value = "--" if value == "—" else _tex(value) + r"$^\dagger$" * partial
    shown = rf"\textbf{{{value}}}" if row.key in best else value
    return rf"{shown} {{\scriptsize $\pm$ {half}}}" if half else shown


def results_markdown(results: Results, differences: Sequence[Difference], title: str, notes: Sequence[str]) -> str:
    """Main table, paired differences, what is missing."""
    heads = [f"{column.label} {'↓' if column.direction == 'lower' else '↑'}" for column in results.columns]
    best = {column: results.best(column) for column in results.columns}
    rows = []
    for row in results.rows:
        cells = [_md_cell(row, column, best[column], results.partial(row, column)) for column in results.columns]
        rows.append([*_lead(row, results), *cells, seconds(row.speed.seconds_per_clip), times(row.speed.speed_up)])
    partial = any(results.partial(row, column) for row in results.rows for column in results.columns)
    lines = [f"# {title}", "", *[f"{note}\n" for note in (*notes, *([PARTIAL_NOTE] if partial else []))]]
    lines += markdown_table([*_lead_heads(results), *heads, "s per clip", "speed-up"], rows)
    if differences:
        lines += [
            "",
            "## Paired differences to the baseline weighting",
            "",
            "Bold: the 95 % interval leaves out 0 (one in twenty does by chance).",
            "",
        ]
        columns = list(dict.fromkeys(item.column for item in differences))
        found = {(item.steps, item.name, item.column): item for item in differences}
        keys = list(dict.fromkeys((item.steps, item.name) for item in differences))
        body = [
            [str(steps), student, *[_md_difference(found.get((steps, student, c))) for c in columns]] for steps, student in sorted(keys, key=_falling)
        ]
        lines += markdown_table(["steps", "student", *[column.label for column in columns]], body)
    return "\n".join(lines) + "\n"


def _falling(key: tuple[int, str]) -> tuple[int, str]:
    return -key[0], key[1]


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; bars within a cell, as names of rows have, are escaped."""
    lines = [" | ".join(text.replace("|", "\\|") for text in row) for row in (heads, *rows)]
    return [f"| {lines[0]} |", f"|{'---|' * len(heads)}", *[f"| {line} |" for line in lines[1:]]]


def _md_cell(row: Result, column: Column, best: Iterable[object], partial: bool) -> str:
    value, half = with_interval(row.estimates.get(column))
    value += "†" * partial
    shown = f"**{value}**" if row.key in best else value
    return f"{shown} ± {half}" if half else shown


def _md_difference(item: Difference | None) -> str:
    if item is None:
        return "—"
    value, half = with_interval(item.estimate)
    shown = f"{value} ± {half}" if half else value
    return f"**{shown}**" if item.clear else shown
