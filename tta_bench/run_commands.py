"""The commands around a run: sweep, report, gate, baseline. One call each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def run(
    config: Annotated[str | None, typer.Option(metavar="PATH", help="TOML file; without one, the bundle that ships with the package.")] = None,
    out: Annotated[str | None, typer.Option(metavar="PATH", help="Run folder. Default: runs/ and the file's name, or runs/sweep.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="64 clips, one seed, times from the generation: a first look in minutes.")] = False,
    device: Annotated[Literal["cpu", "cuda"] | None, typer.Option(help="Where networks run; cpu by default.")] = None,
    list_: Annotated[str | None, typer.Option("--list", metavar="NAME", help="Only the clips that the manifest's column NAME marks with 1.")] = None,
    show_config: Annotated[bool, typer.Option("--show-config", help="Print the resolved configuration and stop.")] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> None:
    """Sweep systems over step counts: generate, score, time, report. The same command again does only what is missing."""
    from tta_bench.config import read_toml
    from tta_bench.harness.stamp import default_folder, is_as_left, request_key

    flags = {key: value for key, value in (("out", out), ("device", device)) if value is not None}
    name = Path(config).stem if config else "sweep"
    values = {"out": default_folder(name, quick)} | (read_toml(Path(config)) if config else {}) | flags
    if list_ is not None and isinstance(values.get("clips", {}), dict):
        values["clips"] = {**values.get("clips", {}), "list": list_}
    request = request_key(values, quick)
    if not show_config and isinstance(values["out"], str) and is_as_left(Path(values["out"]), request):
        _show(Path(values["out"]), [], 0, open_)
        return
    from tta_bench.harness.run_config import resolve_run  # from here on torch is loaded, which takes seconds

    settings = resolve_run(values, config or "command line", name, quick)
    if show_config:
        typer.echo(settings.to_toml())
        return
    from tta_bench.harness.processes import usable_cores
    from tta_bench.harness.sweep import sweep
    from tta_bench.terminal import progress_bars

    with progress_bars() as progress:
        result = sweep(settings, progress=progress, processes=usable_cores(settings.threads), request=request)
    _show(result.run, result.failures, result.new, open_)
    if not result.complete:
        raise typer.Exit(4)


def _show(run: Path, failures: Sequence[Mapping[str, Any]], new: int, open_: bool) -> None:
    """Print the table, bring the report up to date."""
    from tta_bench.report.fresh import is_fresh
    from tta_bench.terminal import print_sweep

    print_sweep(run, failures, new)
    page = run / "report" / "index.html"
    if not is_fresh(run):
        from tta_bench.report.render import render

        page = render(run)
    typer.echo(f"report: {page}")
    if open_:
        typer.launch(str(page.absolute()))


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs or packed reports; several stand side by side.")],
    out: Annotated[str | None, typer.Option(metavar="PATH", help="Where to; another folder gets all that a later rendering needs.")] = None,
    formats: Annotated[str, typer.Option("--format", metavar="NAME,...", help="html, md, csv, latex; all by default.")] = "html,md,csv,latex",
) -> None:
    """Render the report of a run, or of several side by side: a page, Markdown, CSV, LaTeX, figures."""
    from tta_bench.report.render import render
    from tta_bench.report.run_data import failures_of

    typer.echo(render([Path(run) for run in runs], Path(out) if out else None, tuple(part.strip() for part in formats.split(","))))
    for run, count in ((run, len(failures_of(Path(run)))) for run in runs):
        if count:
            typer.echo(f"{run} is incomplete: {count} failure{'s' * (count != 1)}, listed in the report", err=True)


def check(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run (of tta-bench run or evaluate).")],
    baseline: Annotated[str, typer.Option(metavar="FILE", help="What tta-bench baseline wrote: NAME.jsonl, with NAME.npz beside it.")],
    config: Annotated[str | None, typer.Option(metavar="PATH", help="TOML file: alpha, power, margins, block_unresolved, metrics.")] = None,
    junit: Annotated[str | None, typer.Option(metavar="PATH", help="Write a JUnit XML file too.")] = None,
    markdown: Annotated[str | None, typer.Option(metavar="PATH", help="Write Markdown too, e.g. to $GITHUB_STEP_SUMMARY.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print rows that are SAME as well.")] = False,
) -> None:
    """Gate: compare a run with an accepted baseline, clip by clip. Exit code 3 where audio quality got worse or cannot be compared."""
    from tta_bench import gate_report
    from tta_bench.config import parse_settings, read_toml
    from tta_bench.files import write_text
    from tta_bench.gate import GateConfig, blocked, judge
    from tta_bench.rows import load_saved, load_scores
    from tta_bench.terminal import print_verdicts

    settings = parse_settings(GateConfig, read_toml(Path(config)) if config else {}, config or "command line")
    verdicts = judge(load_saved(Path(baseline)), load_scores(Path(run)), settings)
    if junit:
        write_text(Path(junit), gate_report.junit(verdicts, run))
    if markdown:
        write_text(Path(markdown), gate_report.markdown(verdicts, run, baseline))
    print_verdicts(verdicts, everything)
    if blocked(verdicts):
        raise typer.Exit(3)


def baseline(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[str, typer.Option(metavar="FILE", help="NAME.jsonl; per-clip values go to NAME.npz beside it.")],
) -> None:
    """Accept a run as the baseline that tta-bench check compares with."""
    from tta_bench.errors import ConfigError, InputError
    from tta_bench.rows import absent_rows, load_scores, save_scores

    path = Path(out)
    if path.suffix != ".jsonl":
        raise ConfigError(f"--out {out}: must end in .jsonl; per-clip values go to the .npz beside it")
    scores = load_scores(Path(run))
    if any(path.exists() and path.resolve() == known.resolve() for known in Path(run).rglob("records.jsonl")):
        raise ConfigError(f"--out {out}: is the run's own file; name another one")
    absent = absent_rows(Path(run), scores)
    if absent:
        raise InputError(f"{run}: {len(absent)} rows have no scores, e.g. {absent[0]}; a baseline must be complete")
    broken = [score for score in scores.values() if score.value is None or score.contributions is None or score.n_excluded]
    if broken:
        row, metric, _ = broken[0].key
        raise InputError(f"{run}: {len(broken)} of {len(scores)} scores are missing or partial, e.g. {metric} of {row}; a baseline must be complete")
    judged = [score for score in scores.values() if score.has_interval]
    save_scores(judged, path)
    typer.echo(f"{len(judged)} scores of {run} in {path} and {path.with_suffix('.npz')}")
    left_out = sorted({score.key.metric for score in scores.values() if not score.has_interval})
    if left_out:
        typer.echo(f"left out: {', '.join(left_out)}, with too few clips for an interval, which the gate needs")
