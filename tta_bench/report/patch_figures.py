"""Curves of DiTAR: scores over its own settings, time to first audio and real-time factor over batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from tta_bench.report.figures import INK, STYLE, finish, one_axes
from tta_bench.report.patches import Series
from tta_bench.report.results import Column
from tta_bench.report.streams import Stream

_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b4fa3", "#8c8c8c")
_MARKERS = "os^vDP*X"
_AXES = {
    "temperature": "temperature (1: from noise, 0: nothing is drawn)",
    "patch": "patch size [latent frames]",
    "history": "history [patches]",
}


def dimension_figure(series: Sequence[Series], column: Column) -> Figure:
    """A score over one dimension; bars are 95 % intervals over trainings, or over clips where there is one training."""
    with rc_context(STYLE):
        figure, axes = one_axes()
        values: list[float | None] = []
        places: set[float] = set()
        for i, line in enumerate(series):
            points = [(place, estimate) for place, variant in line.points if (estimate := variant.estimate(column)) and estimate.value is not None]
            if not points:
                continue
            found = [estimate.value or 0.0 for _, estimate in points]
            around = [estimate.half or 0.0 for _, estimate in points]
            axes.errorbar([place for place, _ in points], found, yerr=around, label=line.label, capsize=2, **_style(i))
            values += found
            places |= {place for place, _ in points}
        if series[0].dimension == "patch":
            _powers_of_two(axes, places)
        else:
            axes.xaxis.set_major_locator(FixedLocator(sorted(places)))
        axes.set_xlabel(_AXES[series[0].dimension])
        finish(figure, axes, column, values)
        return figure


def streams_figure(streams: Sequence[Stream], what: str) -> Figure:
    """`what`: "first audio" or "real-time factor", over batch size; bars are quartiles."""
    with rc_context(STYLE):
        figure, axes = one_axes()
        for i, row in enumerate(dict.fromkeys(stream.row for stream in streams)):
            mine = sorted((stream for stream in streams if stream.row == row), key=lambda stream: stream.batch)
            spreads = [stream.first_audio if what == "first audio" else stream.real_time_factor for stream in mine]
            around = [[spread.median - spread.low for spread in spreads], [spread.high - spread.median for spread in spreads]]
            label = row if mine[0].streams else f"{row} (whole clips)"
            axes.errorbar([stream.batch for stream in mine], [spread.median for spread in spreads], yerr=around, label=label, capsize=2, **_style(i))
        _powers_of_two(axes, {stream.batch for stream in streams})
        axes.set_yscale("log")
        axes.set_xlabel("clips at once")
        if what == "first audio":
            axes.set_ylabel("seconds to first audio (lower is better)")
        else:
            axes.axhline(1.0, color=INK, lw=0.8, ls=(0, (1, 3)))
            axes.set_ylabel("real-time factor (lower is better; dotted: 1)")
        figure.legend(loc="outside lower center", ncols=2, fontsize=7)
        return figure


def _style(number: int) -> dict[str, Any]:
    return {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKERS[number % len(_MARKERS)], "ms": 4.5, "lw": 1.3}


def _powers_of_two(axes: Axes, places: set[float] | set[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(places)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
