"""Command line: one call each.

Exit codes: 0 fine, 1 crash, 2 the user's or the environment's error, 3 the gate blocked, 4 finished but incomplete, 130/143 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer

from tta_bench import __version__, run_commands, setup_commands, weights_commands
from tta_bench.errors import TtaBenchError

_HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, context_settings=_HELP)


# click's, which newer versions of typer bring along under another name
_USAGE_ERROR: Any = typer.BadParameter.__bases__[0]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tta-bench {__version__}")
        raise typer.Exit


@app.callback()
def options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    """Evaluate and benchmark text-to-audio diffusion models and their distilled students."""


@app.command()
def evaluate(
    generated: Annotated[str | None, typer.Option(metavar="PATH", help="Folder of generated audio.")] = None,
    reference: Annotated[str | None, typer.Option(metavar="PATH", help="Folder of reference audio; files of a pair have the same name.")] = None,
    captions: Annotated[str | None, typer.Option(metavar="PATH", help="CSV with the columns caption and clip_id (or file).")] = None,
    embedder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:FILE]",
            help="mel (default), bundled, vggish, panns-cnn14-16k, clap-laion, yamnet, ...; FILE, or without it the store; may be repeated.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only these; may be repeated. Default: fad, kad, kl, is, clap where they apply."),
    ] = None,
    skip_bad: Annotated[
        bool | None, typer.Option("--skip-bad/--no-skip-bad", help="Leave out files that cannot be used, counted and listed.")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="PATH", help="Run folder. Default: runs/GENERATED-vs-REFERENCE.")] = None,
    config: Annotated[str | None, typer.Option(metavar="PATH", help="TOML file with these options as keys; flags win.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clips per batch, 16 by default; changes no score.")] = None,
    device: Annotated[Literal["cpu", "cuda"] | None, typer.Option(help="Where embedders run; cpu by default.")] = None,
    backend: Annotated[
        Literal["ours", "reference"] | None,
        typer.Option(
            help="reference: FAD by frechet-audio-distance, CLAP by laion-clap themselves, without intervals (extra reference). --embedder is then "
            "vggish, panns-cnn14-16k, panns-cnn14-32k or clap-laion; without FILE from torch.hub's folder, as those packages do."
        ),
    ] = None,
) -> None:
    """Score finished audio of any origin: FAD, KAD, KL, IS, CLAP, each with an interval."""
    from tta_bench.config import EvaluateConfig, parse_settings, read_toml
    from tta_bench.harness.evaluate import evaluate as run
    from tta_bench.terminal import print_evaluation, progress_bars

    flags = {"generated": generated, "reference": reference, "captions": captions, "embedder": embedder, "metric": metric,
             "skip_bad": skip_bad, "out": out, "batch_size": batch_size, "device": device, "backend": backend}  # fmt: skip
    values = (read_toml(Path(config)) if config else {}) | {key: value for key, value in flags.items() if value not in (None, [])}
    settings = parse_settings(EvaluateConfig, values, config or "command line")
    with progress_bars() as progress:
        result = run(settings, progress=progress)
    print_evaluation(result)


@app.command()
def synth(
    out: Annotated[str, typer.Option(metavar="PATH", help="Folder for CLIP_ID.flac and captions.csv; other files in it stay.")],
    n: Annotated[int, typer.Option(help="How many clips: the first ones of the split.")],
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Clips of test ask for pairs of sounds that train and val lack.")] = "test",
    seed: Annotated[int, typer.Option(help="Another seed gives other clips.")] = 0,
) -> None:
    """Write SynthCaps clips: rendered sound events of 2.56 s at 16 kHz, with captions that are true of them."""
    from tta_bench.config import parse_settings
    from tta_bench.harness.synth_set import SynthSet, write_synth_set
    from tta_bench.terminal import progress_bars

    settings = parse_settings(SynthSet, {"out": out, "n": n, "split": split, "seed": seed}, "command line")
    with progress_bars() as progress:
        listing = write_synth_set(settings, progress)
    typer.echo(f"{n} clips of SynthCaps ({split}, seed {seed}) in {settings.out}; {listing} is a manifest for train and evaluate")


@app.command()
def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="TOML file, e.g. baselines/bundle.toml.")],
    only: Annotated[list[str] | None, typer.Option(metavar="PART", help="codec, embedder, teacher, guided or a weighting; may be repeated.")] = None,
    out: Annotated[str | None, typer.Option(metavar="PATH", help="Folder of results and checkpoints, instead of the file's.")] = None,
) -> None:
    """Train codec, embedder, teacher, guided student and students. The same command goes on where it was stopped."""
    from tta_bench.config import read_toml
    from tta_bench.harness.bundle import make_bundle
    from tta_bench.harness.recipe import parse_training
    from tta_bench.terminal import progress_bars

    values = read_toml(Path(config)) | ({} if out is None else {"out": out})
    settings = parse_training(values, config)
    with progress_bars() as progress:
        made = make_bundle(settings, only or (), progress)
    typer.echo(f"{', '.join(made)}: in {settings.out}; losses in {settings.out / 'training'}")


@app.command()
def distill(
    teacher: Annotated[str, typer.Option(metavar="PATH", help="Bundle's folder, a network's .safetensors in one, or diffusers:PIPELINE.")],
    weighting: Annotated[str, typer.Option(metavar="NAME", help="constant, snr, truncated_snr, snr_plus_one, min_snr, bsa, ...")],
    steps: Annotated[str, typer.Option(metavar="N,N,...", help="The teacher's steps, then each student's: 200,100,50,25.")],
    out: Annotated[str, typer.Option(metavar="PATH", help="Folder of students and checkpoints.")],
    data: Annotated[str | None, typer.Option(metavar="MANIFEST", help="CSV with clip_id, file, caption. Default: SynthCaps.")] = None,
    folder: Annotated[str | None, typer.Option(metavar="PATH", help="Folder of the manifest's audio; the CSV's own by default.")] = None,
    clips: Annotated[int | None, typer.Option(help="Clips of SynthCaps; 30000 by default.")] = None,
    updates: Annotated[str | None, typer.Option(metavar="N[,N...]", help="Of every stage, or one for each; 4000 by default.")] = None,
    guided_updates: Annotated[
        int | None, typer.Option(help="Of the stage that folds guidance in; without, the teacher's own is used, else 6000.")
    ] = None,
    guidance_scales: Annotated[str | None, typer.Option(metavar="LOW,HIGH", help="That stage's range, 1 being none; 1,6 by default.")] = None,
    batch: Annotated[int | None, typer.Option(help="Clips per update; 32 by default.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's, falling to 0 in every stage; 3e-4 by default.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Of weightings that have it; their own by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of data order and noise.")] = None,
    device: Annotated[Literal["auto", "cpu"] | None, typer.Option(help="auto takes a GPU where there is one.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; all by default.")] = None,
    clip_s: Annotated[float | None, typer.Option(help="Pipelines: seconds to which audio is cut or padded; their own by default.")] = None,
    export_guidance: Annotated[float | None, typer.Option(help="Pipelines: guidance scale folded into the students; 2.5 by default.")] = None,
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="Pipelines: less memory, a third more time.")] = False,
    precision: Annotated[Literal["no", "bf16"] | None, typer.Option(help="Pipelines: bf16 runs the student under autocast.")] = None,
) -> None:
    """Distil a teacher into students of fewer steps: guidance folded in first, then progressive distillation. Resumable."""
    from tta_bench.config import parse_settings
    from tta_bench.harness.distill_run import DistillConfig
    from tta_bench.harness.distill_run import distill as run
    from tta_bench.terminal import progress_bars

    flags = {"teacher": teacher, "weighting": weighting, "steps": _numbers("--steps", steps), "out": out, "data": data,
             "folder": folder, "clips": clips, "updates": updates and _numbers("--updates", updates), "guided_updates": guided_updates,
             "guidance_scales": guidance_scales and _numbers("--guidance-scales", guidance_scales, "1,4", float), "batch": batch,
             "learning_rate": learning_rate, "gamma": gamma, "seed": seed, "device": device, "threads": threads, "clip_s": clip_s,
             "export_guidance": export_guidance, "gradient_checkpointing": gradient_checkpointing or None, "precision": precision}  # fmt: skip
    settings = parse_settings(DistillConfig, {key: value for key, value in flags.items() if value is not None}, "command line")
    with progress_bars() as progress:
        made = run(settings, progress)
    typer.echo(f"{', '.join(made)}: in {settings.out}; losses in {settings.out / 'training'}")


@app.command()
def examine(
    out: Annotated[str, typer.Option(metavar="PATH", help="Folder of the tables, e.g. reports/bundle.")],
    bundle: Annotated[str | None, typer.Option(metavar="PATH", help="Folder of networks; the package's by default.")] = None,
    part: Annotated[list[str] | None, typer.Option(metavar="PART", help="embedder, codec, teacher, students or sheet; all by default.")] = None,
    clips: Annotated[int | None, typer.Option(help="Test clips, 512 by default.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N,N,...", help="Seeds of the noise; 0,1 by default.")] = None,
    student_steps: Annotated[str | None, typer.Option(metavar="N,N,...", help="Only students of these steps.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="1 is no guidance; 3 by default.")] = None,
    baseline: Annotated[str | None, typer.Option(metavar="NAME", help="Weighting that others are compared with; constant by default.")] = None,
    note_scores: Annotated[bool, typer.Option("--note-scores", help="Note the teacher's scores in its card, in the bundle's folder.")] = False,
) -> None:
    """Measure a bundle on unseen SynthCaps clips: embedder, codec, teacher's step curve, students; tables and spectrograms."""
    from tta_bench.config import parse_settings
    from tta_bench.harness.examine_report import ExamineConfig, examine_bundle
    from tta_bench.terminal import progress_bars

    flags = {"out": out, "bundle": bundle, "part": part, "clips": clips, "seeds": seeds and _numbers("--seeds", seeds, "0,1"), "baseline": baseline,
             "student_steps": student_steps and _numbers("--student-steps", student_steps), "guidance_scale": guidance_scale}  # fmt: skip
    flags["note_scores"] = note_scores
    settings = parse_settings(ExamineConfig, {key: value for key, value in flags.items() if value not in (None, [])}, "command line")
    with progress_bars() as progress:
        written = examine_bundle(settings, progress)
    typer.echo(f"{', '.join(map(str, written))}; shown in {settings.out / 'README.md'}")


for command in (run_commands.run, run_commands.report, run_commands.check, run_commands.baseline, setup_commands.audiocaps, setup_commands.doctor):
    app.command()(command)
app.add_typer(weights_commands.weights, name="weights")


def _numbers(flag: str, text: str, example: str = "200,100,50,25", kind: type[float] = int) -> list[float]:
    from tta_bench.errors import ConfigError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{flag} {text}: must be {'whole ' * (kind is int)}numbers with commas between them, e.g. {example}") from error


class _Stopped(BaseException):
    """A signal to stop; not an Exception, so that nothing on the way takes it for a failure."""

    def __init__(self, code: int) -> None:
        self.code = code


def _stop(signum: int, frame: FrameType | None) -> Any:
    raise _Stopped(128 + signum)


def main() -> None:
    """Entry point: turns errors for people into one sentence and an exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads that spin starve whatever shares the cores
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        code = app(prog_name="tta-bench", standalone_mode=False)
    except _USAGE_ERROR as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        if message:  # none where the help was shown for lack of a command
            print(f"tta-bench: {message}; see tta-bench {_command(error)}--help", file=sys.stderr)
        raise SystemExit(2) from None
    except TtaBenchError as error:
        print(f"tta-bench: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:  # a full disk, a closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered has nowhere to go
        what = f"{error.filename}: " if error.filename else ""
        print(f"tta-bench: {what}{error.strerror or error}; make room or choose another place for the output", file=sys.stderr)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort, _Stopped) as error:
        print("tta-bench: interrupted; the same command does what is left", file=sys.stderr)
        raise SystemExit(getattr(error, "code", 130)) from None
    raise SystemExit(code if isinstance(code, int) else 0)


def _command(error: Any) -> str:
    """Names of the commands whose usage is wrong, with a space behind them, if any was reached."""
    names = getattr(getattr(error, "ctx", None), "command_path", "").removeprefix("tta-bench").strip()
    return f"{names} " if names else ""


if __name__ == "__main__":
    main()
