"""`tta-bench examine`: measures a bundle and writes the tables as CSV, with one Markdown page that shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, field_validator

from tta_bench.config import PathText, Settings
from tta_bench.errors import ConfigError
from tta_bench.files import write_text
from tta_bench.harness import examine
from tta_bench.harness.contact_sheet import contact_sheet
from tta_bench.harness.environment import code_version
from tta_bench.harness.examine import FIDELITY, QUALITY, Bench, Row
from tta_bench.harness.listening import score
from tta_bench.harness.progress import Progress, silent
from tta_bench.models.bundle import assets, read_card, write_card
from tta_bench.systems.latent import LatentSystem, load_latent

PARTS = ("embedder", "codec", "teacher", "students", "sheet")


class ExamineConfig(Settings):
    """bundle: a folder of networks; the package's own without it. clips: of the test split. teacher_curve: step counts of the teacher's curve.

    baseline: the weighting that others are compared with. student_steps: none means all that are there. note_scores: whether the teacher's
    scores are noted in its card, in the bundle's folder.
    """

    out: PathText
    bundle: PathText | None = None
    part: tuple[str, ...] = PARTS
    clips: int = Field(default=512, ge=64)
    seeds: tuple[int, ...] = Field(default=(0, 1), min_length=1)
    guidance_scale: float = Field(default=3.0, ge=1.0)
    teacher_curve: tuple[int, ...] = (200, 100, 50, 25, 5, 1)
    student_steps: tuple[int, ...] = ()
    baseline: str = "constant"
    sheet_clips: int = Field(default=20, ge=1)
    note_scores: bool = False

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("each seed may be given once")
        return seeds


def examine_bundle(config: ExamineConfig, progress: Progress = silent) -> list[Path]:
    """Measure the parts that `config` names; the files written. Raises ConfigError for an unknown part, WeightsError for missing networks."""
    unknown = [part for part in config.part if part not in PARTS]
    if unknown:
        raise ConfigError(f"--part {unknown[0]}: unknown part; known: {', '.join(PARTS)}")
    bench = Bench(config.bundle or assets(), config.clips, progress=progress)
    _check(bench.folder, config)
    makers = {"embedder": _embedder, "codec": _codec, "teacher": _teacher, "students": _students, "sheet": _sheet}
    written = [path for part in PARTS if part in config.part for path in makers[part](bench, config)]
    _page(config.out)
    return written


def _check(folder: Path, config: ExamineConfig) -> None:
    """Raises ConfigError for what the bundle lacks, before anything is measured."""
    if "students" not in config.part:
        return
    cards = _student_cards(folder, config.student_steps)
    if not cards:
        wanted = f" of {', '.join(map(str, config.student_steps))} steps" if config.student_steps else ""
        raise ConfigError(f"{folder}: holds no students{wanted}; leave the part students out, or name other --student-steps")
    for steps in sorted({card["steps"] for card in cards}):
        there = sorted(card["weighting"] for card in cards if card["steps"] == steps)
        if config.baseline not in there:
            raise ConfigError(f"--baseline {config.baseline}: no such student of {steps} steps; there are {', '.join(there)}")
    for card in cards:
        low, high = card["guidance_scales"]
        if not low <= config.guidance_scale <= high:
            raise ConfigError(f"--guidance-scale {config.guidance_scale:g}: {card['name']} was distilled for {low:g} to {high:g}; choose one of them")


def _write(frame: pd.DataFrame, path: Path) -> Path:
    write_text(path, frame.to_csv(index=False, float_format="%.6g"))
    return path


def _embedder(bench: Bench, config: ExamineConfig) -> list[Path]:
    return [_write(examine.embedder_table(bench), config.out / "embedder.csv")]


def _codec(bench: Bench, config: ExamineConfig) -> list[Path]:
    rows = [Row(name, "", 0, 1.0, scores) for name, scores in examine.anchors(bench).items()]
    return [
        _write(examine.codec_table(bench), config.out / "codec.csv"),
        _write(examine.as_frame(rows), config.out / "anchors.csv"),
    ]


def _teacher(bench: Bench, config: ExamineConfig) -> list[Path]:
    teacher = load_latent("teacher", bench.folder)
    guided = [load_latent("guided", bench.folder)] if (bench.folder / "guided.json").exists() else []
    cells = [(system, "", steps) for system in (teacher, *guided) for steps in config.teacher_curve]
    rows = examine.system_rows(bench, cells, config.guidance_scale, config.seeds)
    share = clap_share(bench, rows[0])
    best = rows[0].scores
    card = {"n": bench.n, "steps": rows[0].steps, "guidance_scale": config.guidance_scale, "clap_share": share,
            **{name: best[name].value for name in QUALITY}, "code_version": code_version()}  # fmt: skip
    write_text(config.out / "teacher.json", json.dumps(card, indent=1) + "\n")
    written = [_write(examine.as_frame(rows), config.out / "teacher.csv"), config.out / "teacher.json"]
    if config.note_scores:
        write_card(bench.folder, "teacher", read_card(bench.folder, "teacher") | {"scores": card})
        written.append(bench.folder / "teacher.json")
    return written


def clap_share(bench: Bench, row: Row) -> float:
    """(CLAP - s) / (reconstruction's CLAP - s), s being the reconstruction's CLAP with every caption swapped."""
    reconstruction = bench.hear(bench.reconstructed(bench.rendered_again))
    shuffled = score("clap", reconstruction, bench.shuffled_captions()).value
    return (row.scores["clap"].value - shuffled) / (score("clap", reconstruction, bench.captions).value - shuffled)


def student_systems(folder: Path, steps: Sequence[int] = ()) -> list[tuple[LatentSystem, str, int]]:
    """All students of a bundle (or those of `steps`), each at its own step count, ordered by weighting and falling steps."""
    return [(load_latent(card["name"], folder), card["weighting"], card["steps"]) for card in _student_cards(folder, steps)]


def _student_cards(folder: Path, steps: Sequence[int]) -> list[dict[str, Any]]:
    cards = [read_card(folder, path.stem) for path in folder.glob("student-*.json")]
    return sorted((card for card in cards if not steps or card["steps"] in steps), key=lambda card: (card["weighting"], -card["steps"]))


def _students(bench: Bench, config: ExamineConfig) -> list[Path]:
    cells = student_systems(bench.folder, config.student_steps)
    rows = examine.system_rows(bench, cells, config.guidance_scale, config.seeds)
    counts = sorted({steps for _, _, steps in cells}, reverse=True)
    pairs = [examine.paired_differences(rows, config.baseline, steps) for steps in counts]
    return [
        _write(examine.as_frame(rows), config.out / "students.csv"),
        _write(pd.concat(pairs), config.out / "paired.csv"),
    ]


def _sheet(bench: Bench, config: ExamineConfig) -> list[Path]:
    there = {path.stem for path in bench.folder.glob("*.json")}
    columns = [("teacher", 200), ("teacher", 25), *((f"student-{name}-{steps}", steps) for name in ("constant", "bsa") for steps in (25, 5, 1))]
    chosen = [(name, steps) for name, steps in columns if name in there]
    path = config.out / "contact-sheet.png"
    contact_sheet(bench.folder, path, chosen, config.sheet_clips, config.guidance_scale, config.seeds[0], bench.progress)
    return [path]


def _page(out: Path) -> None:
    """README.md of the tables that are in the folder."""
    lines = [
        "# What the bundle can do",
        "",
        "Rendered by `tta-bench examine`; unseen SynthCaps clips (split test). Intervals are 95 %, over clips.",
        "",
    ]
    for title, name in (("Embedder", "embedder"), ("Codec, by class", "codec"), ("Anchors", "anchors"), ("Teacher and guided student", "teacher"),
                        ("Students", "students"), ("Students, paired differences", "paired")):  # fmt: skip
        path = out / f"{name}.csv"
        if path.exists():
            lines += [f"## {title}", "", _markdown(pd.read_csv(path, keep_default_na=False, na_values=[""])), ""]
    if (out / "contact-sheet.png").exists():
        lines += ["## Contact sheet", "", "![Spectrograms of 20 test captions: real, codec, teacher, students](contact-sheet.png)", ""]
    write_text(out / "README.md", "\n".join(lines))


def _markdown(frame: pd.DataFrame) -> str:
    """A table; tidy frames of scores become one line per system with a column per metric, value and half-width of the interval."""
    if "metric" in frame and "std_error" in frame:
        frame = _wide(frame)
    elif "metric" in frame:
        frame = frame.assign(value=[_with_interval(*row) for row in zip(frame["value"], frame["ci_low"], frame["ci_high"], strict=True)])
        order = [name for name in (*QUALITY, *FIDELITY) if name in set(frame["metric"])]
        frame = frame.pivot(index=["steps", "weighting", "minus"], columns="metric", values="value")[order].reset_index()
        frame = frame.sort_values(["steps", "weighting"], ascending=[False, True])
    cells = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    table = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def _wide(frame: pd.DataFrame) -> pd.DataFrame:
    keys = ["system", "weighting", "steps", "guidance_scale", "n"]
    shown = [_with_interval(*row) for row in zip(frame["value"], frame["ci_low"], frame["ci_high"], strict=True)]
    frame = frame.assign(value=shown, weighting=frame["weighting"].astype(object).fillna(""))
    order = [name for name in (*QUALITY, *FIDELITY) if name in set(frame["metric"])]
    table = frame.pivot(index=keys, columns="metric", values="value")[order].reset_index()
    return table.sort_values(["system", "steps"], ascending=[True, False])


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.4g}" if pd.isna(low) else f"{value:.4g} ± {0.5 * (high - low):.2g}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return str(value)
