"""The page's section on DiTAR, as plain values for its template; and the same for report.md."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tta_bench.report import figures
from tta_bench.report.cells import cell, head, plots
from tta_bench.report.patch_figures import dimension_figure, streams_figure
from tta_bench.report.patches import DIMENSIONS, Change, Series, Variant, changes_along, series_along, variants_of
from tta_bench.report.results import Estimate, Results
from tta_bench.report.run_data import RunData
from tta_bench.report.streams import Stream, streams_of
from tta_bench.report.tables import markdown_table, number, with_interval

_ARROWS = {"lower": "↓", "higher": "↑"}
_NAMES = {"temperature": "temperature", "patch": "patch size", "history": "history"}


class DitarPage:
    """What a run shows of patch size, history, temperature and streaming; empty where it has none of them."""

    def __init__(self, run: RunData, results: Results) -> None:
        variants = variants_of(run, results)
        self.columns = [column for column in results.columns if not column.metric.startswith("fidelity_")]
        self.series = {dimension: found for dimension in DIMENSIONS if (found := series_along(variants, dimension))}
        self.variants = [variant for variant in variants if any(variant in _variants(lines) for lines in self.series.values())]
        self.changes = [change for lines in self.series.values() for line in lines for change in changes_along(line, self.columns)]
        self.streams = streams_of(run)

    def context(self) -> dict[str, Any]:
        """For the template."""
        drawn = []
        for dimension, lines in self.series.items():
            drawn += plots(self.columns, partial(dimension_figure, lines), dimension, _NAMES[dimension])
        return {
            "patch_plots": drawn,
            "variant_heads": [head(name, i == 0) for i, name in enumerate(_LEAD)] + self._metric_heads(),
            "variants": [
                {"cells": [*map(_plain, _lead(variant)), *(_score(variant.estimate(column)) for column in self.columns)]} for variant in self.variants
            ],
            "change_heads": [head("from → to", True), head("of", True), head("trainings"), *self._metric_heads()],
            "changes": [self._change(change) for change in self.changes],
            "stream_plots": self._stream_plots(),
            "stream_heads": [head(name, i == 0) for i, name in enumerate(_STREAM_HEADS)],
            "stream_note": STREAM_NOTE,
            "streams": [[_plain(text) for text in _stream(stream)] for stream in self.streams],
            "ditar": bool(drawn or self.streams),
        }

    def _metric_heads(self) -> list[dict[str, Any]]:
        return [head(f"{column.label} {_ARROWS[column.direction]}") for column in self.columns]

    def _change(self, change: Change) -> dict[str, Any]:
        cells = [_score(change.estimates.get(column), clear=True) for column in self.columns]
        trainings = max(estimate.n for estimate in change.estimates.values())
        return {"cells": [_plain(change.what), _plain(change.series.label), _plain(str(trainings)), *cells]}

    def _stream_plots(self) -> list[dict[str, str]]:
        drawn = []
        for i, what in enumerate(("first audio", "real-time factor") if self.streams else ()):
            text = f"{what.capitalize()} over batch size"
            drawn.append({"svg": figures.svg(streams_figure(self.streams, what), f"stream{i}", text), "caption": text, "name": f"streaming-{i}"})
        return drawn

    def markdown(self) -> list[str]:
        """Lines for report.md."""
        lines: list[str] = []
        names = [f"{column.label} {_ARROWS[column.direction]}" for column in self.columns]
        if self.variants:
            rows = [[*_lead(variant), *(_text(variant.estimate(column)) for column in self.columns)] for variant in self.variants]
            lines += ["", "## Patch size, history, temperature", "", VARIANTS_NOTE, "", *markdown_table([*_LEAD, *names], rows)]
        if self.changes:
            rows = [
                [change.what, change.series.label, *(_text(change.estimates.get(c), clear=True) for c in self.columns)] for change in self.changes
            ]
            lines += ["", "### From one setting to the next", "", CHANGES_NOTE, "", *markdown_table(["from → to", "of", *names], rows)]
        if self.streams:
            lines += ["", "## Streaming", "", STREAM_NOTE, "", *markdown_table(_STREAM_HEADS, [_stream(stream) for stream in self.streams])]
        return lines


VARIANTS_NOTE = (
    "Rows that differ in their training seed only stand together: mean with a 95 % interval over trainings (Student's t), or over clips "
    "where there is one training. History in patches; none where one patch is the whole clip. Steps are of each patch, NFE of the longest clip: "
    "small patches take more evaluations, and their history fewer frames."
)
STREAM_NOTE = (
    "First audio: seconds from the request until every clip of the batch has its first samples. Real-time factor: of one clip, seconds from "
    "the request to its last sample for a second of it, not shared among the batch as in the table of results; below 1 what comes keeps up "
    "with the ear. Medians; bars are quartiles. A system that makes whole clips has its first audio with its last."
)
CHANGES_NOTE = "Differences between neighbours, paired by training seed. Bold: the 95 % interval leaves out 0 (one in twenty does by chance)."
_LEAD = ("network", "patch", "history", "history [frames]", "temperature", "steps", "NFE", "guidance", "trainings")
_STREAM_HEADS = ("row", "clips at once", "first audio [s]", "real-time factor", "audio made in a second [s]")


def _variants(lines: Sequence[Series]) -> list[Variant]:
    return [variant for line in lines for _, variant in line.points]


def _lead(variant: Variant) -> list[str]:
    facts = variant.facts
    history = "—" if facts.history is None else str(facts.history)
    guidance = "—" if facts.guidance_scale is None else f"{facts.guidance_scale:g}"
    frames = "—" if facts.history is None else str(facts.history * facts.patch)
    kind = facts.kind if facts.stop else f"{facts.kind}, never stops"
    costs = [str(facts.steps), "—" if variant.nfe is None else str(variant.nfe), guidance, str(len(variant.rows))]
    return [f"{kind} ({facts.name})" if facts.name else kind, str(facts.patch), history, frames, f"{facts.temperature:g}", *costs]


def _stream(stream: Stream) -> list[str]:
    made = stream.first_audio, stream.real_time_factor, stream.throughput
    return [stream.row, str(stream.batch), *(number(spread.median, 3) for spread in made)]


def _plain(text: str) -> dict[str, Any]:
    try:
        return cell(text, float(text))
    except ValueError:
        return cell(text, None)


def _score(estimate: Estimate | None, clear: bool = False) -> dict[str, Any]:
    text, half = with_interval(estimate)
    return cell(text, estimate.value if estimate else None, half, "clear" if clear and estimate and estimate.leaves_out_zero else "")


def _text(estimate: Estimate | None, clear: bool = False) -> str:
    text, half = with_interval(estimate)
    shown = f"{text} ± {half}" if half else text
    return f"**{shown}**" if clear and estimate and estimate.leaves_out_zero else shown
