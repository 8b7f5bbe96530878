"""`tta-bench distill`: one teacher, one weighting, a list of step counts; students land in a folder that `load_latent` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tta_bench.config import PathText, Settings, parse_settings
from tta_bench.errors import ConfigError, InputError
from tta_bench.files import atomic_write
from tta_bench.harness.bundle import Workshop, make_guided, make_students
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.recipe import TrainConfig
from tta_bench.models.bundle import read_card


class DistillConfig(Settings):
    """teacher: a bundle's folder (its network "teacher"), or a network's .safetensors or .json in one. steps: the teacher's, then each student's.

    updates: of every stage, or one number for each. guided_updates: of stage 1, which a teacher without guidance of its own needs first.
    data: a manifest; without it SynthCaps, `clips` clips.
    """

    teacher: PathText
    weighting: str
    steps: tuple[int, ...] = Field(min_length=2)
    out: PathText
    data: PathText | None = None
    clips: int = Field(default=30_000, ge=2)
    updates: tuple[int, ...] = (4000,)
    guided_updates: int = Field(default=6000, ge=1)
    batch: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0.0)
    gamma: float | None = Field(default=None, gt=0.0)
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    threads: int | None = Field(default=None, ge=1)

    def training(self) -> TrainConfig:
        """The sections of a training configuration that do it. Raises ConfigError for grids that do not divide or an unknown weighting."""
        common = {"batch": self.batch, "learning_rate": self.learning_rate}
        students = {
            "weightings": [self.weighting], "steps": self.steps[1:], "teacher_steps": self.steps[0], "gamma": self.gamma,
            "updates": self.updates * (len(self.steps) - 1) if len(self.updates) == 1 else self.updates,
            "stage": {**common, "updates": 1, "warm_up": 0, "decay": "linear", "autocast": False},
        }  # fmt: skip
        values = {
            "out": self.out, "seed": self.seed, "data": {"manifest": self.data, "clips": self.clips},
            "runtime": {"device": self.device, "threads": self.threads},
            "guided": {**common, "updates": self.guided_updates, "warm_up": 0, "decay": "linear", "autocast": False}, "students": students,
        }  # fmt: skip
        return parse_settings(TrainConfig, values, "distill")


def distill(config: DistillConfig, progress: Progress = silent) -> list[str]:
    """Distil; names of the students in config.out. Stages that are there are not made again; an interrupted one goes on.

    Raises WeightsError and ConfigError before any training where teacher, steps or weighting do not fit.
    """
    training = config.training()
    folder, name = _locate(config.teacher)
    card = read_card(folder, name)
    if card["kind"] != "denoiser" or "steps" not in card:
        raise InputError(f"--teacher {config.teacher}: {name} is a {card['kind']}, not a trained denoiser; name the teacher")
    if card["steps"] != config.steps[0]:
        raise ConfigError(f"--steps {config.steps[0]}: {name} takes {card['steps']} steps; the list starts with the teacher's own")
    for part in ("codec", "text", name):
        _copy(folder, config.out, part)
    shop = Workshop(training, progress)
    if "guidance_scales" not in card and not shop.is_done("guided", name):
        make_guided(shop, before=name)
    make_students(shop, config.weighting, before=name if "guidance_scales" in card else "guided")
    return [f"student-{config.weighting}-{steps}" for steps in config.steps[1:]]


def _locate(path: Path) -> tuple[Path, str]:
    """Folder and name of the network that --teacher names."""
    if path.is_dir():
        return path, "teacher"
    if not path.with_suffix(".json").is_file():
        raise InputError(f"--teacher {path}: is not there; name a bundle's folder, or a network's .safetensors with its .json beside it")
    return path.parent, path.stem


def _copy(source: Path, target: Path, name: str) -> None:
    """Put a network's two files into another folder, unless they are there."""
    if source.resolve() == target.resolve():
        return
    card = read_card(source, name)
    if (target / f"{name}.json").exists() and read_card(target, name)["sha256"] != card["sha256"]:
        raise InputError(f"{target / name}.json: belongs to another teacher; choose another --out")
    for suffix in (".safetensors", ".json"):
        path = source / f"{name}{suffix}"
        if not path.exists():
            raise InputError(f"{path}: is missing; keep a bundle's files together")
        with atomic_write(target / f"{name}{suffix}") as file:
            file.write(path.read_bytes())
