"""`tta-bench report`: from a run's folder to index.html, report.md, results.csv, tables.tex and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tta_bench import __version__
from tta_bench.errors import ConfigError
from tta_bench.files import write_text
from tta_bench.report import figures, page
from tta_bench.report.ditar_page import CHANGES_NOTE, VARIANTS_NOTE, DitarPage
from tta_bench.report.fresh import note_rendered
from tta_bench.report.media import samples_of
from tta_bench.report.merge import merged
from tta_bench.report.notes import length_notes, steps_notes, target_note
from tta_bench.report.results import Result, Results, differences_of, results_of
from tta_bench.report.run_data import RunData, load_run, pack_run
from tta_bench.report.tables import results_csv, results_markdown, results_tex

FORMATS = ("html", "md", "csv", "latex")
_SECTIONS = (
    ("table", "Results"), ("curves", "Curves"), ("ditar", "Patches"), ("listening", "Listen"), ("failures", "Failures"), ("speed", "Cost"),
    ("weightings", "Weightings"),
    ("paired", "Paired differences"), ("power", "Gate"), ("published", "Published"), ("provenance", "Provenance"),
)  # fmt: skip
_NEEDS = {
    "curves": "curves",
    "ditar": "ditar",
    "listening": "listening",
    "speed": "cost",
    "weightings": "weights",
    "paired": "pairs",
    "power": "power",
}


def render(folder: Path | Sequence[Path], out: Path | None = None, formats: Sequence[str] = FORMATS) -> Path:
    """Render the report of the run in `folder`, or of several runs side by side; the path of its main file.

    out: where to; several runs need it. Without it: `folder`/report, or `folder` itself where that is a packed report. Another folder gets,
    beside the report, what is needed to render it again. Raises InputError for a folder that holds no run and for runs that cannot stand
    in one table, ConfigError for an unknown format.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ConfigError(f"--format {', '.join(unknown) or '(none)'}: unknown format; known: {', '.join(FORMATS)}")
    if not isinstance(folder, Path):
        if len(folder) > 1:
            return _render_several(folder, out, tuple(formats))
        folder = folder[0]
    run = load_run(folder)
    is_packed = (folder / "values.npz").exists()
    out = out or (folder if is_packed else folder / "report")
    if out.resolve() not in (folder.resolve(), (folder / "report").resolve()):
        _check_out(out, [])
        pack_run(run, out)
    return _Rendering(run, out, tuple(formats)).write()


def _check_out(out: Path, folders: Sequence[Path]) -> None:
    """A report may lie anywhere but over a run, whose files have the same names."""
    if out.resolve() in [folder.resolve() for folder in folders]:
        raise ConfigError(f"--out {out}: is one of the runs; name another folder")
    if (out / "cells").exists():
        raise ConfigError(f"--out {out}: holds a run, which would be overwritten; name another folder")


def _render_several(folders: Sequence[Path], out: Path | None, formats: tuple[str, ...]) -> Path:
    if out is None:
        raise ConfigError("--out is missing: a report of several runs needs a folder of its own")
    _check_out(out, folders)
    run = merged([load_run(folder) for folder in folders])
    pack_run(run, out)
    return _Rendering(run, out, formats).write()


class _Rendering:
    """One report on its way to disk."""

    def __init__(self, run: RunData, out: Path, formats: tuple[str, ...]) -> None:
        self.run, self.out, self.formats = run, out, formats
        self.results: Results = results_of(run)
        self.differences = differences_of(run, self.results)
        self.ditar = DitarPage(run, self.results)
        self.title = f"tta_bench: {run.name}"

    def write(self) -> Path:
        written: list[Path] = []
        if "html" in self.formats:
            written.append(self.page())
        for name, suffix, text in (("md", "report.md", self.markdown), ("csv", "results.csv", self.csv), ("latex", "tables.tex", self.tex)):
            if name in self.formats:
                write_text(self.out / suffix, text())
                written.append(self.out / suffix)
        if set(self.formats) == set(FORMATS) and self.out == self.run.folder / "report":
            note_rendered(self.run.folder)
        return written[0]

    def csv(self) -> str:
        return results_csv(self.results)

    def tex(self) -> str:
        return results_tex(self.results, self.title)

    def markdown(self) -> str:
        intro = (
            "Values with half-widths of 95 % intervals over clips, seeds averaged within each clip. Bold: best of the column. "
            f"Fidelity and speed-up refer to {target_note(self.run)}."
        )
        notes = [self.subtitle(), intro, *steps_notes(self.run), *page.students_elsewhere(self.run), *self.alerts()]
        return results_markdown(self.results, self.differences, self.title, notes) + "".join(f"{line}\n" for line in self.ditar.markdown())

    def subtitle(self) -> str:
        plan, host = self.run.plan, self.run.passes[-1]["host"]["name"] if self.run.passes else "unknown machine"
        counts = sorted({row.seeds for row in self.results.rows if not row.is_anchor})
        seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(*counts)
        scored = max((record.created for score in self.run.scores.values() for record in score.records), default="")
        return f"{plan['reference']['n']} clips of {plan['reference']['name']}, {seeds} seed{'s' * (seeds != '1')}, {host}, {scored[:10]}"

    def lacking(self) -> list[Result]:
        """Rows without all scores."""
        return [row for row in self.results.rows if not row.estimates or any(item.value is None for item in row.estimates.values())]

    def alerts(self) -> list[str]:
        missing = self.lacking()
        failed = len(self.run.failures)
        notes = (
            [f"Incomplete: {failed} failure{'s' * (failed != 1)} (listed below); {len(missing)} of {len(self.results.rows)} rows lack scores."]
            if failed or missing
            else []
        )
        versions = {record.code_version for score in self.run.scores.values() for record in score.records}
        if len(versions) > 1:
            notes.append(f"Scores of {len(versions)} versions of the code stand side by side (see Provenance).")
        return [*notes, *self.run.plan.get("notes", ()), *length_notes(self.run)]

    def page(self) -> Path:
        from jinja2 import Environment, PackageLoader, StrictUndefined

        context: dict[str, Any] = {
            "title": self.title, "subtitle": self.subtitle(), "alerts": self.alerts(), "version": __version__, "baseline": self.run.plan["baseline"],
            "curves": page.curves(self.results), "evaluations": page.evaluations(self.results), "pareto": page.pareto(self.results),
            "weights": page.weights(self.run), "speed_note": page.speed_note(self.run, self.results), "failures": self.run.failures,
            "clipped": page.clipping(self.run), "configuration": self.run.configuration,
            **page.main_table(self.run, self.results), **page.paired(self.differences), **page.published(),
            **page.listening(self.run, samples_of(self.run, self.out / "audio")), **page.provenance(self.run, self.results),
            **page.power(self.run, self.results), **self.ditar.context(), "variants_note": VARIANTS_NOTE, "changes_note": CHANGES_NOTE,
        }  # fmt: skip
        context["incomplete"] = bool(self.lacking())
        context["cost"] = context["pareto"] or context["evaluations"]
        context["sections"] = [(anchor, name) for anchor, name in _SECTIONS if anchor not in _NEEDS or context[_NEEDS[anchor]]]
        for plot in (
            *context["curves"],
            *context["evaluations"],
            *context["pareto"],
            *context["weights"],
            *context["power"],
            *context["patch_plots"],
            *context["stream_plots"],
        ):
            write_text(self.out / "figures" / f"{plot['name']}.svg", figures.standalone(plot["svg"]))
        environment = Environment(loader=PackageLoader("tta_bench.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        path = self.out / "index.html"
        write_text(path, environment.get_template("report.html.j2").render(context))
        return path
