"""Curves: quality against steps and against wall clock, weightings over noise levels. Matplotlib figures, no global state."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

from tta_bench.gate import GateConfig
from tta_bench.gate_power import Chance, power
from tta_bench.report.results import Column, Estimate, Result, Results
from tta_bench.rows import RowScore

INK, _GRID = "#010203", "#cbcccd"  # stand for the page's own colours, see `svg`
_COLOURS = {  # Okabe & Ito's, told apart by most colour-blind readers
    "teacher": INK, "guided": "#8c8c8c", "constant": "#56b4e9", "truncated_snr": "#009e73", "snr_plus_one": "#e69f00",
    "min_snr": "#cc79a7", "bsa": "#d55e00",
}  # fmt: skip
_SPARE = ("#0072b2", "#b5a800", "#7b4fa3", "#4d7c4d", "#a0522d")
_MARKERS = {"teacher": "o", "guided": "D", "constant": "s", "truncated_snr": "^", "snr_plus_one": "v", "min_snr": "P", "bsa": "*"}
_SAMPLER_MARKERS = {"heun": "<", "dpmpp_2m": ">"}
_DITAR, _DITAR_LINE = "ditar ", (0, (4, 1, 1, 1))  # the bundle's DiTAR: colours of its latent diffusion, another line
_LINES = {None: "-", "ddim": "-", "heun": "--", "dpmpp_2m": ":"}
STYLE: Any = {
    "font.size": 9, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.grid": True, "grid.color": _GRID, "grid.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "legend.fontsize": 8, "svg.fonttype": "none", "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.transparent": True, "font.family": "sans-serif", "svg.hashsalt": "tta_bench",
}  # fmt: skip
_FEW = 4  # curves whose bands can still be told apart
_NEAR = 0.35  # of the height of the curves
_LINE_OF_TEXT = 0.05
_LABEL = 0.06  # of the width of the curves: room for three digits
SeriesName = tuple[str, str | None, float | None]
Series = dict[SeriesName, list[Result]]


def series_of(results: Results) -> Series:
    """Rows that make up one curve: a system with its sampler at one guidance scale, by rising cost."""
    found: Series = {}
    for row in results.rows:
        if not row.is_anchor and row.key.steps:
            found.setdefault((row.key.system, row.key.sampler, row.key.guidance_scale), []).append(row)
    return {key: sorted(rows, key=lambda row: row.key.steps or 0) for key, rows in found.items()}


def steps_figure(results: Results, column: Column, over: Literal["steps", "nfe"] = "steps") -> Figure:
    """Quality against steps or network evaluations; bands are 95 % intervals, dotted lines are the anchors, named at the edge where they lie far
    from all curves. Without rows over fewer clips.
    """

    def cost(row: Result) -> int:
        return row.nfe if over == "nfe" else row.key.steps or 0

    with rc_context(STYLE):
        figure, axes = one_axes()
        series = series_of(results)
        for name, rows in series.items():
            shown = [row for row in rows if _has_value(row, column) and results.comparable(row, column)]
            if shown:
                band = 0.13 if len(series) <= _FEW else 0.06
                _curve(axes, [cost(row) for row in shown], [row.estimates[column] for row in shown], name, results, band)
        counts = sorted({cost(row) for rows in series.values() for row in rows})
        axes.set_xscale("log")
        labelled = apart(counts)
        axes.xaxis.set_major_locator(FixedLocator(labelled))
        axes.xaxis.set_minor_locator(FixedLocator([count for count in counts if count not in labelled]))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        patches = any(row.family == "ditar" for row in results.rows)
        steps = "steps" + " (DiTAR: of each patch)" * patches
        axes.set_xlabel(steps if over == "steps" else f"network evaluations (guidance doubles a teacher's{'; DiTAR: of one patch' * patches})")
        finish(figure, axes, column, [estimate.value for row in results.rows if not row.is_anchor and (estimate := row.estimates.get(column))])
        _anchors(axes, {row.key.system: row.estimates[column].value or 0.0 for row in results.rows if row.is_anchor and _has_value(row, column)})
        return figure


def apart(counts: Sequence[int]) -> list[int]:
    """Those of `counts` (positive, rising) whose labels have room on a logarithmic axis, the largest first."""
    kept: list[int] = []
    for count in reversed(counts):
        if not kept or math.log(kept[-1] / count) >= _LABEL * math.log(counts[-1] / counts[0]):
            kept.append(count)
    return kept[::-1]


def _anchors(axes: Axes, values: Mapping[str, float]) -> None:
    """A line for each that lies near the curves, a word at the edge for the others: they would flatten the curves."""
    shown = {name: value for name, value in values.items() if not name.startswith("codec on the reference")}
    low, high = axes.get_ylim()
    to_axis = axes.yaxis.get_transform().transform
    with np.errstate(all="ignore"):
        bottom, top = to_axis(np.array([low, high]))
        places = {name: float((to_axis(np.array([value]))[0] - bottom) / (top - bottom)) for name, value in shown.items()}
    near = sorted((name for name, place in places.items() if -_NEAR <= place <= 1.0 + _NEAR), key=lambda name: -places[name])
    together: list[list[str]] = []  # names without room for lines of their own share one
    for name in near:
        axes.axhline(shown[name], color=INK, lw=0.8, ls=(0, (1, 3)), alpha=0.7)
        if together and places[together[-1][0]] - places[name] < _LINE_OF_TEXT:
            together[-1].append(name)
        else:
            together.append([name])
    for names in together:
        axes.annotate("; ".join(names), (1.0, shown[names[0]]), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7)
    for end, arrow, va in ((1.0, "↑", "top"), (0.0, "↓", "bottom")):
        words = [f"{name}: {shown[name]:.3g} {arrow}" for name, place in places.items() if name not in near and (place > 1.0) == (end == 1.0)]
        axes.annotate("\n".join(words), (1.0, end), xycoords="axes fraction", ha="right", va=va, fontsize=7)


def pareto_figure(results: Results, column: Column) -> Figure:
    """Quality against seconds per clip (median, quartiles); the line joins rows that no other beats in both."""
    with rc_context(STYLE):
        figure, axes = one_axes()
        points = []
        for name, rows in series_of(results).items():
            timed = [row for row in rows if row.speed.seconds_per_clip and _has_value(row, column) and results.comparable(row, column)]
            if not timed:
                continue
            spreads = [row.speed.seconds_per_clip for row in timed]
            seconds = np.array([spread.median for spread in spreads if spread])
            around = np.array([[spread.median - spread.low, spread.high - spread.median] for spread in spreads if spread]).T
            values = np.array([row.estimates[column].value for row in timed], dtype=float)
            style = _style(name)
            axes.errorbar(seconds, values, xerr=around, fmt=style["marker"], ms=4.5, color=style["color"], lw=0.8, label=_label(name, results),
                          markerfacecolor=style["color"] if style["linestyle"] == "-" else "none")  # fmt: skip
            points += list(zip(seconds, values, strict=True))
        front = pareto_front(points, column.direction == "lower")
        axes.plot(*zip(*front, strict=True), color=INK, lw=0.9, drawstyle="steps-post", zorder=0, label="Pareto front") if front else None
        axes.set_xscale("log")
        axes.set_xlabel("seconds per clip (sampling and decoding)")
        finish(figure, axes, column, [value for _, value in points])
        return figure


def pareto_front(points: Iterable[tuple[float, float]], lower_is_better: bool) -> list[tuple[float, float]]:
    """(cost, value) pairs that no other pair beats in both, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], point[1] if lower_is_better else -point[1])):
        if not front or (value < front[-1][1] if lower_is_better else value > front[-1][1]):
            front.append((cost, value))
    return front


def weights_figure(curves: Sequence[Mapping[str, Any]], losses: Sequence[tuple[str, Sequence[Mapping[str, float]]]], steps: int) -> Figure:
    """Left: weights of the v-loss over log SNR. Right: mean unweighted loss by noise level over the last fifth of that stage's training.

    losses: bins by weighting. Several of one weighting, of students of other teachers, differ in their line.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8.6, 3.3), layout="constrained")
        left, right = figure.subplots(1, 2)
        drawn = [curve for curve in curves if curve["steps"] == steps]
        for curve, (line, label) in zip(drawn, _told_apart([curve["weighting"] for curve in drawn]), strict=True):
            style = {"color": _colour(curve["weighting"]), "lw": 1.4, "marker": ".", "ms": 3, "linestyle": line}
            left.plot(curve["log_snr"], curve["weight"], label=label, **style)
        left.set_yscale("log")
        left.set_ylabel("weight of the v-loss (mean 1)")
        for (weighting, bins), (line, label) in zip(losses, _told_apart([weighting for weighting, _ in losses]), strict=True):
            centres = [0.5 * (max(item["log_snr_low"], -10.0) + min(item["log_snr_high"], 10.0)) for item in bins]
            style = {"color": _colour(weighting), "lw": 1.2, "marker": _MARKERS.get(weighting, "o"), "ms": 3.5, "linestyle": line}
            right.plot(centres, [item["loss"] for item in bins], label=label, **style)
        right.set_yscale("log")
        right.set_ylabel("v-loss by noise level, unweighted")
        for axes in (left, right):
            axes.set_xlabel("log SNR (noise left, data right)")
            axes.set_xlim(-10.5, 10.5)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6)
        return figure


def _told_apart(weightings: Sequence[str]) -> list[tuple[str, str]]:
    """Line and label of each: the second of one weighting is another student's."""
    lines = ("-", "--", "-.", ":")
    counts = [weightings[:i].count(weighting) for i, weighting in enumerate(weightings)]
    return [
        (lines[count % len(lines)], weighting if not count else f"{weighting} ({count + 1})")
        for weighting, count in zip(weightings, counts, strict=True)
    ]


def power_figure(rows: Sequence[tuple[Result, RowScore]], column: Column, tests: int, config: GateConfig) -> Figure | None:
    """Chance that the gate blocks a row that got worse by so much, for every row; None where no row has two seeds."""
    size, relative = config.margin_of(column.metric)
    effects = np.linspace(0.0, 4.0 * size if size else 1.0, 200)
    with rc_context(STYLE):
        figure, axes = one_axes()
        named: set[str] = set()
        for row, score in rows:
            error, value = score.seed_error, score.value
            if error is None or value is None or row.is_anchor:
                continue
            scale = abs(value) if relative else 1.0
            dof = score.dof or 1
            chance = Chance(error, dof, min(float(dof), score.seed_dof or dof), size if relative else 0.0)
            blocked = power(effects * scale, chance, size * scale, tests, config.alpha)
            label = row.key.system if row.key.system not in named else "_again"
            named.add(row.key.system)
            style: dict[str, Any] = {"color": _colour(row.key.system), "linestyle": _LINES.get(row.key.sampler, "-.")}
            axes.plot(effects * (100.0 if relative else 1.0), blocked, lw=0.9, alpha=0.8, label=label, **style)
        if not named:
            return None
        axes.axvline(size * (100.0 if relative else 1.0), color=INK, lw=0.8, ls=(0, (1, 3)))
        axes.set_xlabel(f"{column.label}: change for the worse{' [% of the value]' if relative else ''}; dotted: margin")
        axes.set_ylabel("chance of being blocked")
        axes.set_ylim(-0.02, 1.02)
        figure.legend(loc="outside lower center", ncols=4)
        return figure


def one_axes() -> tuple[Figure, Axes]:
    """A figure of the size of one plot."""
    figure = Figure(figsize=(5.2, 4.1), layout="constrained")
    return figure, figure.subplots()


def _has_value(row: Result, column: Column) -> bool:
    return column in row.estimates and row.estimates[column].value is not None


def _curve(axes: Axes, steps: list[int], estimates: list[Estimate], name: SeriesName, results: Results, band: float) -> None:
    """band: opacity of the interval's."""
    style = _style(name)
    axes.plot(steps, [estimate.value or 0.0 for estimate in estimates], lw=1.3, ms=4.5, label=_label(name, results), **style)
    if all(estimate.low is not None for estimate in estimates):
        low, high = [estimate.low or 0.0 for estimate in estimates], [estimate.high or 0.0 for estimate in estimates]
        axes.fill_between(steps, low, high, color=style["color"], alpha=band, lw=0)


def _style(name: SeriesName) -> dict[str, Any]:
    system, sampler, _ = name
    kin = system.removeprefix(_DITAR)
    return {
        "color": _colour(system),
        "marker": _SAMPLER_MARKERS.get(sampler or "", _MARKERS.get(kin, "X")),
        "linestyle": _LINES.get(sampler, "-.") if kin == system else _DITAR_LINE,
    }


def _colour(system: str) -> str:
    return _COLOURS.get(system.removeprefix(_DITAR)) or _SPARE[sum(map(ord, system)) % len(_SPARE)]


def _label(name: SeriesName, results: Results) -> str:
    system, sampler, scale = name
    parts = [system, *([sampler] if sampler not in (None, "ddim") else []), *([f"s = {scale:g}"] if results.has_scales and scale is not None else [])]
    return " ".join(parts)


def finish(figure: Figure, axes: Axes, column: Column, values: Sequence[float | None]) -> None:
    """The axis of a metric, logarithmic where `values` are far apart, and the legend."""
    numbers = [value for value in values if value is not None]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    if low > 0 and high / low > 6:
        axes.set_yscale("log")
    elif high > 6 * max(abs(low), 1e-9) and high > 0:
        axes.set_yscale("symlog", linthresh=max(abs(low), high / 50.0))
    better = "lower is better" if column.direction == "lower" else "higher is better"
    axes.set_ylabel(f"{column.label}{f' [{column.unit}]' if column.unit else ''} ({better})")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3)


def svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an <svg> element for a page: its ink follows the page's, its ids are its own, it says what it shows."""
    buffer = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor").replace(_GRID, "var(--line, #ccc)")
    title = f'<title id="{name}-title">{_escaped(description)}</title>'
    return re.sub(r"<svg ([^>]*)>", rf'<svg role="img" aria-labelledby="{name}-title" \1>{title}', text, count=1)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def standalone(element: str) -> str:
    """An SVG file of an element that `svg` made, on white."""
    return element.replace("currentColor", "#111111").replace("<svg ", '<svg style="background:#fff" ', 1)
