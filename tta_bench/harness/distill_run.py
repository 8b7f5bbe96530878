"""`tta-bench distill`: one teacher, one weighting, a list of step counts; students land in a folder that `load_latent` reads."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tta_bench.config import PathText, Settings, parse_settings
from tta_bench.diffusion.schedule import steps_ratio
from tta_bench.diffusion.weighting import default_gamma
from tta_bench.errors import ConfigError, InputError, WeightsError
from tta_bench.files import atomic_write, sha256_file
from tta_bench.harness.bundle import COMPANIONS, Workshop, make_guided, make_students
from tta_bench.harness.distill_pipeline import PipelineJob, distill_pipeline
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.recipe import CLIP_S, GuidedRecipe, TrainConfig
from tta_bench.models.bundle import read_card
from tta_bench.systems.pipeline_files import pipeline_card, pipeline_checksum, pipeline_folder
from tta_bench.systems.pipelines import load_pipeline

_GUIDED_UPDATES = 6000
_PIPELINE = "diffusers:"
_EXPORT_GUIDANCE = 2.5  # of AudioLDM's and AudioLDM 2's stock pipelines, about


def _text(value: Any) -> Any:
    """A teacher may be given as a path."""
    text = str(value) if isinstance(value, Path) else value
    if isinstance(text, str) and (not text.strip() or "\0" in text):
        raise ValueError("a path must not be empty")
    return text


class DistillConfig(Settings):
    """teacher: a bundle's folder (its network "teacher"), a network's .safetensors or .json in one, or `diffusers:` and a pipeline's folder or
    hub name. steps: the teacher's, then each student's.

    updates: of every stage, or one number for each. guided_updates, guidance_scales: of stage 1, which a teacher without guidance needs first;
    without both, the guided student that lies beside the teacher is taken where there is one. data: a manifest, its audio in `folder`;
    without it SynthCaps, `clips` clips, by default those that the teacher was trained on.

    Of pipelines only: clip_s, to which audio is cut or padded (the pipeline's own length by default); export_guidance, the guidance scale that is
    folded into the students (2.5 by default; guidance_scales is that one scale, unless it is given, and must hold it); gradient_checkpointing;
    precision, bf16 running the student under autocast while its targets stay in float32.
    """

    teacher: Annotated[str, BeforeValidator(_text)]
    weighting: str
    steps: tuple[int, ...] = Field(min_length=1)
    out: PathText
    data: PathText | None = None
    folder: PathText | None = None
    clips: int | None = Field(default=None, ge=2)
    updates: tuple[Annotated[int, Field(ge=1)], ...] = (4000,)
    guided_updates: int | None = Field(default=None, ge=1)
    guidance_scales: tuple[float, float] | None = None
    batch: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0.0)
    gamma: float | None = Field(default=None, gt=0.0)
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    clip_s: float | None = Field(default=None, ge=0.2, le=600.0)
    export_guidance: float | None = Field(default=None, gt=0.0, le=100.0)
    gradient_checkpointing: bool = False
    precision: Literal["no", "bf16"] = "no"

    @property
    def pipeline(self) -> str | None:
        """Folder or hub name of a teacher that is a pipeline."""
        return self.teacher.removeprefix(_PIPELINE) if self.teacher.startswith(_PIPELINE) else None

    @field_validator("weighting")
    @classmethod
    def _known(cls, name: str) -> str:
        default_gamma(name)
        return name

    @model_validator(mode="after")
    def _fits(self) -> DistillConfig:
        if len(self.steps) < 2:
            raise ValueError(f"steps = {self.steps[0]}: the list holds the teacher's steps and at least one student's, e.g. 200,100")
        for before, after in itertools.pairwise(self.steps):
            steps_ratio(before, after)
        if self.data and self.clips:
            raise ValueError("clips counts clips of SynthCaps, and data is given; leave one of them out")
        if self.folder and not self.data:
            raise ValueError("folder holds the audio of data, which is not given; add it, or leave folder out")
        idle = [name for name in ("clip_s", "export_guidance", "gradient_checkpointing", "precision") if name in self.model_fields_set]
        if idle and self.pipeline is None:
            raise ValueError(f"{idle[0]} is for teachers that are pipelines (--teacher diffusers:PATH); leave it out")
        if self.clip_s and not self.data:
            raise ValueError("clip_s cuts the audio of data, which is not given; leave it out")
        return self

    def training(self, clip_s: float, synth: Mapping[str, Any] | None = None) -> TrainConfig:
        """The sections of a training configuration that do it, on clips of the teacher's length. synth: by default, which clips of SynthCaps."""
        common = {"batch": self.batch, "learning_rate": self.learning_rate, "warm_up": 0, "decay": "linear", "autocast": self.precision != "no"}
        lowest, highest = self.guidance_scales or (GuidedRecipe.model_fields[name].default for name in ("lowest_scale", "highest_scale"))
        synth = {"clips": self.clips} if self.clips else (synth or {})
        values = {
            "out": self.out, "seed": self.seed,
            "data": {"manifest": self.data, "folder": self.folder, "clip_s": clip_s} if self.data else synth,
            "runtime": {"device": self.device, "threads": self.threads, "precision": self.precision},
            "guided": {**common, "updates": self.guided_updates or _GUIDED_UPDATES, "lowest_scale": lowest, "highest_scale": highest},
            "students": {
                "weightings": [self.weighting], "steps": self.steps[1:], "teacher_steps": self.steps[0], "gamma": self.gamma,
                "updates": self.updates, "stage": common,
            },
        }  # fmt: skip
        return parse_settings(TrainConfig, values, "distill")


def distill(config: DistillConfig, progress: Progress = silent) -> list[str]:
    """Distil; names of the students in config.out. Stages that are there are not made again; an interrupted one goes on.

    Raises WeightsError and ConfigError before any training where teacher, steps or weighting do not fit.
    """
    if config.pipeline is not None:
        return distill_pipeline(_pipeline_job(config, config.pipeline), progress)
    folder, name = _locate(Path(config.teacher))
    card = read_card(folder, name)
    if card["kind"] not in ("denoiser", "locdit") or "steps" not in card:
        raise InputError(f"--teacher {config.teacher}: {name} is a {card['kind']}, not a trained denoiser; name the teacher")
    if card["steps"] != config.steps[0]:
        own = ",".join(map(str, (card["steps"], *(count for count in config.steps if count < card["steps"]))))
        raise ConfigError(f"--steps {config.steps[0]}: {name} takes {card['steps']} steps; the list starts with the teacher's own, e.g. {own}")
    theirs = card.get("data", {})
    if theirs.get("manifest") and not (config.data or config.clips):
        raise ConfigError(
            f"--data is missing: {name} was trained on {theirs['manifest']}; name that or another manifest, or give --clips for SynthCaps"
        )
    training = config.training(theirs.get("clip_s", CLIP_S), theirs)
    assert training.guided is not None
    shop = Workshop(training, progress)
    has_guidance = "guidance_scales" in card
    ready = not has_guidance and not config.guided_updates and not config.guidance_scales and _guided_of(folder, card)
    for part in (*(kind for kind in COMPANIONS if f"{kind}_sha256" in card), name, *(["guided"] if ready else [])):
        _copy(folder, config.out, part)
    if not has_guidance and not ready and not shop.is_done("guided", training.guided, name):
        make_guided(shop, before=name)
    make_students(shop, config.weighting, before=name if has_guidance else "guided")
    return [f"student-{config.weighting}-{steps}" for steps in config.steps[1:]]


def _pipeline_job(config: DistillConfig, place: str) -> PipelineJob:
    """Raises ConfigError for settings that do not fit the pipeline."""
    if not place.strip():
        raise ConfigError(f"--teacher {config.teacher}: names no pipeline; write {_PIPELINE}PATH or {_PIPELINE}OWNER/NAME")
    folder = pipeline_folder(place)
    if "guidance_scale" in pipeline_card(folder):
        raise ConfigError(
            f"--teacher {config.teacher}: is a student already, with guidance folded in; distil its teacher further: a longer --steps list"
        )
    checksum = pipeline_checksum(folder)
    scale = _EXPORT_GUIDANCE if config.export_guidance is None else config.export_guidance
    lowest, highest = config.guidance_scales or (scale, scale)
    if not lowest <= scale <= highest:
        raise ConfigError(f"--export-guidance {scale:g}: lies outside --guidance-scales {lowest:g},{highest:g}; choose a scale in it")
    audio_s = CLIP_S if config.data is None else config.clip_s or load_pipeline(place).default_audio_s
    settings = config.model_copy(update={"guidance_scales": (lowest, highest)})
    return PipelineJob(place, checksum, audio_s, scale, config.gradient_checkpointing, settings.training(audio_s))


def _guided_of(folder: Path, teacher: Mapping[str, Any]) -> bool:
    """Whether the guided student of this very teacher lies beside it."""
    return (folder / "guided.json").exists() and read_card(folder, "guided").get("parent_sha256") == teacher["sha256"]


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
    weights = source / f"{name}.safetensors"
    if not weights.exists() or sha256_file(weights) != card["sha256"]:
        raise WeightsError(f"{weights}: is missing or is not the file that its card describes (SHA-256 differs); keep a bundle's files together")
    if (target / f"{name}.json").exists() and read_card(target, name)["sha256"] != card["sha256"]:
        raise InputError(f"{target / name}.json: belongs to another teacher; choose another --out")
    for suffix in (".safetensors", ".json"):
        with atomic_write(target / f"{name}{suffix}") as file:
            file.write((source / f"{name}{suffix}").read_bytes())
