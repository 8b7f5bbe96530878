"""Configuration of a sweep, and the one that a run without a configuration has: the bundle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tta_bench.config import PathText, Settings, check_known, parse_settings
from tta_bench.data.manifest import read_manifest
from tta_bench.diffusion.samplers import SAMPLERS
from tta_bench.embedders.load import weights_file
from tta_bench.harness.bundle_systems import bundle_systems
from tta_bench.harness.plan import helper_embedders
from tta_bench.harness.stamp import default_folder
from tta_bench.metrics.suite import METRICS
from tta_bench.models.bundle import assets
from tta_bench.systems.folder import PLACEHOLDERS, placeholders
from tta_bench.systems.pipeline_files import pipeline_files, pipeline_folder
from tta_bench.systems.schedulers import PIPELINE_SAMPLERS

QUICK_CLIPS = 64
_SYNTH_CLIPS = 256
_KINDS = ("network", "pipeline", "audio")
_OF_PIPELINES = ("audio_s", "precision", "compile", "channels_last")
_BELONGS = {  # keys of one kind alone
    "bundle": "network",
    **dict.fromkeys(("temperatures", "stop", "streaming_batches"), "network"),
    **dict.fromkeys(("audio_s", "precision", "compile", "channels_last"), "pipeline"),
    "evaluations_per_step": "audio",
}
ANCHORS = ("real audio", "reconstruction", "codec on the reference")
_MOST_STEPS = 10_000
_METRICS = ("fad", "kad", "kl", "is", "clap", "fidelity_mel", "fidelity_cosine", "fidelity_kl")


def sampler_label(sampler: str, temperature: float) -> str:
    """What a row calls a sampler at a temperature."""
    return sampler if temperature == 1.0 else f"{sampler}, temperature {temperature:g}"


class Clips(Settings):
    """What is generated: `n` captions. Without a manifest, the first n clips (256 by default) of SynthCaps' `split`, drawn by `seed`.

    manifest: CSV as `tta_bench.data.manifest.read_manifest` reads it, `folder` its audio, which is the reference; all of it,
    or n clips in the order of their ids. list: only the clips that the manifest's column of this name marks with 1, e.g. "tango" in what
    `tta-bench audiocaps` writes. real: another such CSV, of other recordings of the same kind, for the row "real audio".
    """

    n: int | None = Field(default=None, ge=2, le=1_000_000)
    split: Literal["train", "val", "test"] = "test"
    seed: int = 0
    manifest: PathText | None = None
    folder: PathText | None = None
    list: str | None = Field(default=None, min_length=1)
    real: PathText | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_synthcaps(cls, values: Any) -> Any:
        return {"n": _SYNTH_CLIPS, **values} if isinstance(values, dict) and not values.get("manifest") else values


class SystemConfig(Settings):
    """One system of the sweep: exactly one of `network`, `pipeline` and `audio`, or none for an object that is passed to `tta_bench.sweep`.

    network: its name in the `bundle` folder (default: the package's), where {steps} stands for the step count. steps: network evaluations per
    guidance branch, up to 10,000; of DiTAR per patch, too. samplers: see `tta_bench.diffusion.samplers`. temperatures: of DiTAR, see
    `tta_bench.diffusion.temperature`. stop: whether DiTAR ends a clip where its language model says so, else at the longest it knows.
    streaming_batches: batch sizes at which time to first audio is measured, `timing_repeats` times each, but once at least; a system that cannot
    stream has its first when all is done.
    pipeline: folder or hub name of an AudioLDM, AudioLDM 2, Stable Audio or Tango pipeline, {steps} as above; steps are its
    `num_inference_steps`, samplers "own", "ddim", "dpmpp_2m". audio_s: length of a clip, by default the pipeline's. precision, compile,
    channels_last: how it runs; the last two and fp16 need device = "cuda".
    audio: folder of finished audio, files named by clip id; {steps}, {guidance_scale}, {seed} and {sampler} stand for a cell's own. samplers:
    whatever made it, a label. evaluations_per_step: of the network, for a clip, at every guidance scale of the run; 2 for audio that was guided.
    """

    name: str = Field(min_length=1)
    network: str | None = None
    bundle: PathText | None = None
    pipeline: str | None = Field(default=None, min_length=1)
    audio: str | None = Field(default=None, min_length=1)
    audio_s: float | None = Field(default=None, gt=0.0, le=600.0)
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    compile: bool = False
    channels_last: bool = False
    evaluations_per_step: int = Field(default=1, ge=1, le=16)
    steps: tuple[int, ...] = Field(min_length=1)
    samplers: tuple[str, ...] = Field(default=("ddim",), min_length=1)
    temperatures: tuple[Annotated[float, Field(ge=0.0, le=1.0)], ...] = Field(default=(1.0,), min_length=1)
    stop: bool = True
    streaming_batches: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _own_sampler(cls, values: Any) -> Any:
        """Pipelines and finished audio come with a sampler of their own."""
        return {"samplers": ("own",), **values} if isinstance(values, dict) and (values.get("pipeline") or values.get("audio")) else values

    @model_validator(mode="after")
    def _one_kind(self) -> SystemConfig:
        kinds = [key for key in _KINDS if getattr(self, key) is not None]
        if len(kinds) > 1:
            raise ValueError(f"{kinds[0]} and {kinds[1]} exclude each other; a system has one of them")
        for key, needs in _BELONGS.items():
            if getattr(self, key) != SystemConfig.model_fields[key].default and self.kind != needs:
                raise ValueError(f"{key} goes with {needs}, which {self.name} does not have; remove it")
        return self

    @property
    def labels(self) -> list[str]:
        """Samplers as rows name them: with their temperature, where it is not 1."""
        return [sampler_label(sampler, temperature) for sampler in self.samplers for temperature in self.temperatures]

    @property
    def kind(self) -> str | None:
        """Which of `network`, `pipeline` and `audio` it has; None for an object."""
        return next((key for key in _KINDS if getattr(self, key) is not None), None)

    @field_validator("audio")
    @classmethod
    def _fits(cls, audio: str | None) -> str | None:
        if audio:
            placeholders(audio)
        return audio

    @field_validator("steps")
    @classmethod
    def _positive(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= count <= _MOST_STEPS for count in steps) or len(set(steps)) != len(steps):
            raise ValueError(f"steps must lie between 1 and {_MOST_STEPS:,}, each given once")
        return steps

    @field_validator("samplers")
    @classmethod
    def _known(cls, samplers: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("audio") is None:
            check_known(samplers, PIPELINE_SAMPLERS if info.data.get("pipeline") else SAMPLERS, "sampler")
        elif not all(re.fullmatch(r"[\w.+-]{1,40}", sampler) for sampler in samplers):
            raise ValueError("a label must consist of letters, digits, '.', '_', '+' and '-'")
        return samplers

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable() or "|" in name or "/" in name or len(name) > 60:
            raise ValueError("a name must be printable, of at most 60 characters, and hold neither '|' nor '/'")
        if name.split(",")[0] in ANCHORS:
            raise ValueError(f"{name!r} is what a row of real audio is called; choose another name")
        return name


class RunConfig(Settings):
    """`tta-bench run`. systems: none is the bundle's. target: the system that fidelity and speed-up refer to, at its longest step count; the
    one called "teacher", or else the first. baseline: the weighting that others are compared with, pair by pair; "constant", or else the first.
    timing_repeats: 0 takes times from the generation itself. listening: captions in the report that can be listened to. threads: cores that a
    run on a CPU uses; all by default.
    """

    out: PathText
    clips: Clips = Clips()
    systems: tuple[SystemConfig, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    guidance_scales: tuple[float, ...] = Field(default=(3.0,), min_length=1)
    embedders: tuple[str, ...] = Field(default=("bundled",), min_length=1)
    metrics: tuple[str, ...] = Field(default=_METRICS, min_length=1)
    target: str = ""
    baseline: str = ""
    anchors: bool = True
    batch_size: int = Field(default=32, ge=1, le=4096)
    timing_repeats: int = Field(default=5, ge=0, le=1000)
    listening: int = Field(default=6, ge=0, le=64)
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = Field(default=None, ge=1)

    @field_validator("seeds", mode="before")
    @classmethod
    def _whole(cls, seeds: Any) -> Any:
        for seed in seeds if isinstance(seeds, list | tuple) else ():
            if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
                raise ValueError(f"{seed!r} is no seed; seeds are whole numbers from 0 on")
        return seeds

    @field_validator("seeds", "guidance_scales", "embedders", "metrics")
    @classmethod
    def _once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) != len(values):
            raise ValueError("each may be given once")
        return values

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        check_known(metrics, METRICS, "metric")
        return metrics

    @field_validator("guidance_scales")
    @classmethod
    def _finite(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0.0 <= scale < 1000.0 for scale in scales):
            raise ValueError("guidance scales must lie in [0, 1000); 1 is no guidance")
        return scales

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        keys = [(system.name, sampler, steps) for system in self.systems for sampler in system.labels for steps in system.steps]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"systems: {twice[0][0]} with {twice[0][1]} at {twice[0][2]} steps is there twice; give systems different names")
        if self.target and self.target not in {system.name for system in self.systems}:
            raise ValueError(f"target {self.target!r} is none of the systems: {', '.join(sorted({system.name for system in self.systems}))}")
        return self

    @property
    def target_system(self) -> SystemConfig:
        """See `target`; where several entries have its name, the one with the most steps."""
        names = [system.name for system in self.systems]
        wanted = self.target or ("teacher" if "teacher" in names else names[0])
        return max((system for system in self.systems if system.name == wanted), key=lambda system: max(system.steps))


def resolve_run(values: Mapping[str, Any], source: str, name: str, quick: bool = False) -> RunConfig:
    """The settings of a run: `values`, the bundle's systems where they name none, `quick` in place of clips, seeds and timing.

    name: of the folder below runs/ where `out` is not given. Raises ConfigError naming the key that is wrong.
    """
    filled = {"out": default_folder(name, quick), **values}
    if "systems" not in filled:
        filled["systems"] = bundle_systems(quick=quick)
    config = parse_settings(RunConfig, filled, source)
    return quickened(config) if quick else config


def quickened(config: RunConfig) -> RunConfig:
    """At most 64 clips, one seed, times from the generation's own batches."""
    asked = config.clips
    there = asked.n or (len(read_manifest(asked.manifest, asked.folder, asked.list)) if asked.manifest else QUICK_CLIPS)
    clips = asked.model_copy(update={"n": min(there, QUICK_CLIPS)})
    return config.model_copy(update={"clips": clips, "seeds": config.seeds[:1], "timing_repeats": 0})


def input_files(config: RunConfig) -> list[Path]:
    """Files and folders that a configuration names: bundles, pipelines, finished audio, weights of embedders, lists of clips."""
    named = {((system.bundle or assets()) / system.network).parent for system in config.systems if system.network}
    named |= {assets()} if {"bundled", "events"} & {*config.embedders, *helper_embedders(config.metrics, config.embedders)} else set()
    bundles = [path for folder in sorted(named) for path in sorted(folder.glob("*")) if path.suffix in (".json", ".safetensors")]
    weights = [path for spec in config.embedders if (path := weights_file(spec))]
    lists = [path for path in (config.clips.manifest, config.clips.real) if path]
    pipelines = [path for system in config.systems if system.pipeline for path in _pipeline_inputs(system)]
    audio = [_fixed_part(system.audio) for system in config.systems if system.audio]
    return [*bundles, *pipelines, *audio, *weights, *lists]


def pipeline_place(system: SystemConfig, steps: int) -> str:
    """The folder or hub name of a pipeline at one step count."""
    assert system.pipeline is not None
    return system.pipeline.replace("{steps}", str(steps))


def _pipeline_inputs(system: SystemConfig) -> list[Path]:
    return [path for place in sorted({pipeline_place(system, steps) for steps in system.steps}) for path in pipeline_files(pipeline_folder(place))]


def _fixed_part(template: str) -> Path:
    """The folder above the first part of a path that differs from cell to cell."""
    parts = Path(template).parts
    differing = [i for i, part in enumerate(parts) if any(f"{{{name}}}" in part for name in PLACEHOLDERS)]
    return Path(*parts[: differing[0]]) if differing else Path(template)
