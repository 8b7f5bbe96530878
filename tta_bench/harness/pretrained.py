"""Sources of a sweep that were trained, or generated, elsewhere: pretrained pipelines, and folders of finished audio."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from tta_bench.errors import WeightsError
from tta_bench.files import digest
from tta_bench.harness.run_config import RunConfig, SystemConfig, pipeline_place
from tta_bench.harness.source import Source
from tta_bench.systems.folder import FolderSystem, refuse_shared
from tta_bench.systems.pipeline_files import pipeline_card, pipeline_checksum, pipeline_folder, pipeline_kind
from tta_bench.systems.protocol import System
from tta_bench.systems.student import clip_length

_VERSION = 1  # raise it when a pipeline makes other audio of the same files
_Planned = tuple[Source, Callable[[float], int]]


def pipeline_source(system: SystemConfig, sampler: str, steps: int, config: RunConfig) -> _Planned:
    """A pipeline at one step count, and its network evaluations by guidance scale; only its scheduler is loaded here.

    Raises ExtraMissing without diffusers, ConfigError for options, samplers, steps or scales that it cannot serve, WeightsError for its files.
    """
    from tta_bench.systems.pipelines import Options, load_scheduler  # these load torch
    from tta_bench.systems.schedulers import scheduler_of
    from tta_bench.systems.stochastic import own_noise

    place = pipeline_place(system, steps)
    options = Options(config.device, system.precision, system.compile, system.channels_last)
    options.check(f"systems: {system.name}")
    folder = pipeline_folder(place)
    content = pipeline_checksum(folder)
    scheduler = scheduler_of(load_scheduler(place), sampler, system.name)
    card = pipeline_card(folder)
    audio_s = clip_length(f"systems: {system.name}", card, system.audio_s)
    evaluations = partial(_evaluations, system.name, scheduler, steps, card)
    for scale in config.guidance_scales:
        evaluations(scale)
    checksum = digest([_VERSION, content, audio_s, dataclasses.asdict(options)])
    load = partial(_load, place, options, content, system.name, sampler, audio_s, config.batch_size)
    about = {**card, "name": card.get("name", system.name), "kind": pipeline_kind(folder)}
    student, noise = (card.get("weighting"), card.get("parent")), own_noise(scheduler)
    return Source(system.name, "diffusers", checksum, load, sampler, steps, *student, about, own_noise=noise), evaluations


def _evaluations(name: str, scheduler: Any, steps: int, card: dict[str, Any], scale: float) -> int:
    from tta_bench.systems.diffusers import pipeline_evaluations

    return pipeline_evaluations(f"systems: {name}", scheduler, steps, scale, card)


def _load(place: str, options: Any, content: str, name: str, sampler: str, audio_s: float | None, batch_size: int) -> System:
    from tta_bench.systems.diffusers import system_of

    return system_of(_loaded(place, options, content), name, sampler, audio_s, batch_size, pipeline_card(pipeline_folder(place)))


@lru_cache(maxsize=8)  # networks of a gigabyte or more each
def _loaded(place: str, options: Any, content: str) -> Any:
    """Raises WeightsError where the files are not those that were planned with."""
    from tta_bench.systems.pipelines import load_pipeline

    pipeline = load_pipeline(place, options)
    if pipeline_checksum(pipeline_folder(place)) != content:
        raise WeightsError(f"{place}: was replaced while the run was at work; run again")
    return pipeline


def folder_source(system: SystemConfig, sampler: str, steps: int, config: RunConfig) -> _Planned:
    """Finished audio at one step count. What it cost is what the configuration says: `evaluations_per_step` a step.

    Raises ConfigError where one folder would stand for several cells, InputError for a folder that is missing or empty.
    """
    assert system.audio is not None
    wanted = {"steps": system.steps, "guidance_scale": config.guidance_scales, "seed": config.seeds, "sampler": system.samplers}
    refuse_shared(system.audio, system.name, wanted)
    made = FolderSystem(system.name, system.audio, sampler, (steps, config.guidance_scales[0], config.seeds[0]))
    for scale in config.guidance_scales:
        for seed in config.seeds:
            made.files(steps, scale, seed)
    content = partial(made.content, steps)
    source = Source(system.name, "folder", digest([system.audio]), lambda: made, sampler, steps, timed=False, content=content)
    return source, partial(_as_declared, steps * system.evaluations_per_step)


def _as_declared(evaluations: int, scale: float) -> int:
    return evaluations
