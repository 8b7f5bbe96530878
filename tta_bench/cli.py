"""Command line: one call each. Exit codes: 0 fine, 1 crash, 2 the user's or the environment's error, 130/143 interrupted."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer

from tta_bench import __version__
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
    embedder: Annotated[list[str] | None, typer.Option(metavar="NAME[:PATH]", help="mel (default), or yamnet:FILE; may be repeated.")] = None,
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
) -> None:
    """Score finished audio of any origin: FAD, KAD, KL, IS, CLAP, each with an interval."""
    from tta_bench.config import EvaluateConfig, parse_settings, read_toml
    from tta_bench.harness.evaluate import evaluate as run
    from tta_bench.terminal import print_evaluation, progress_bars

    flags = {"generated": generated, "reference": reference, "captions": captions, "embedder": embedder, "metric": metric,
             "skip_bad": skip_bad, "out": out, "batch_size": batch_size, "device": device}  # fmt: skip
    values = (read_toml(Path(config)) if config else {}) | {key: value for key, value in flags.items() if value not in (None, [])}
    settings = parse_settings(EvaluateConfig, values, config or "command line")
    with progress_bars() as progress:
        result = run(settings, progress=progress)
    print_evaluation(result)


def _stop(signum: int, frame: FrameType | None) -> Any:
    raise SystemExit(128 + signum)


def main() -> None:
    """Entry point: turns errors for people into one sentence and an exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads that spin starve whatever shares the cores
    signal.signal(signal.SIGTERM, _stop)
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
        print(f"tta-bench: {error.strerror or error}; make room or choose another place for the output", file=sys.stderr)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort):
        print("tta-bench: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    raise SystemExit(code if isinstance(code, int) else 0)


def _command(error: Any) -> str:
    """Name of the command whose usage is wrong, with a space behind it, if one was reached."""
    name = getattr(getattr(error, "ctx", None), "info_name", None)
    return "" if name in (None, "tta-bench") else f"{name} "


if __name__ == "__main__":
    main()
