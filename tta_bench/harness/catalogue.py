"""From a configuration to systems that can be asked for audio, and to the cells of a sweep."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tta_bench.errors import ConfigError
from tta_bench.files import digest
from tta_bench.harness.bundled import bundle_source, network_place
from tta_bench.harness.generate import Setting
from tta_bench.harness.material import Material, clips_digest
from tta_bench.harness.pretrained import folder_source, pipeline_source
from tta_bench.harness.run_config import RunConfig, SystemConfig
from tta_bench.harness.source import Source
from tta_bench.metrics.suite import METRICS
from tta_bench.models.bundle import read_card
from tta_bench.rows import RowKey
from tta_bench.systems.anchors import RealAudio, Reconstruction
from tta_bench.systems.protocol import Clip, System
from tta_bench.systems.stochastic import own_noise

_HIGHEST_RATE_HZ = 655_350  # of FLAC
GENERATION_VERSION = 1  # part of every cell's id: raise it when the harness makes other audio of the same weights


@dataclass(frozen=True)
class Cell:
    """The unit of work: one source under one guidance scale and seed, and the clips that it is asked for."""

    source: Source
    clips: list[Clip]
    guidance_scale: float | None
    seed: int | None
    nfe: int
    device: str
    shortest_s: float = 0.0

    @property
    def row(self) -> RowKey:
        """What cells have in common that differ in their seed only."""
        return RowKey(self.source.name, self.source.sampler, self.source.steps, self.guidance_scale)

    @property
    def setting(self) -> Setting:
        """How the system is asked."""
        return Setting(self.source.steps or 1, 1.0 if self.guidance_scale is None else self.guidance_scale, self.seed or 0, self.shortest_s)

    @cached_property
    def cell_id(self) -> str:
        """Fingerprint of all that decides the audio."""
        clips = clips_digest(self.clips)
        facts = [GENERATION_VERSION, self.source.name, self.source.checksum, self.source.sampler, self.source.steps]
        if self.source.content:
            facts.append(self.source.content(self.setting.guidance_scale, self.setting.seed))
        return digest([*facts, self.guidance_scale, self.seed, clips, self.device])[:16]

    @property
    def label(self) -> str:
        """For people."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.row}{seed}"


def anchor_cells(material: Material, config: RunConfig) -> list[Cell]:
    """Rows to read the table against: other real audio, it through every codec that systems have, and the reference's own clips through each."""
    codecs = _codecs(config)
    wanted: list[tuple[System, list[Clip]]] = []
    if material.other:
        real, clips = material.other
        wanted += [(real, clips), *((system, clips) for system in _through(codecs, "reconstruction", real, config.device))]
    wanted += [(system, material.clips) for system in _through(codecs, "codec on the reference", material.own, config.device)]
    return [Cell(_anchor(system), clips, None, None, 0, config.device) for system, clips in wanted]


def _codecs(config: RunConfig) -> list[tuple[str, Path]]:
    """Folders of different codecs, each with the first system that has it, and its checksum where that system has several."""
    found: dict[str, tuple[str, Path]] = {}
    for system in config.systems:
        for steps in system.steps if system.network else ():
            folder, _ = network_place(system, steps)
            if (folder / "codec.json").exists():
                sha256 = read_card(folder, "codec")["sha256"]
                owner = f"{system.name}, {sha256[:8]}" if system.name in {name for name, _ in found.values()} else system.name
                found.setdefault(sha256, (owner, folder))
    return list(found.values())


def _through(codecs: Sequence[tuple[str, Path]], name: str, real: RealAudio, device: str) -> list[Reconstruction]:
    """`real` through each codec of its rate. All but the first of the run are named after their system."""
    return [
        Reconstruction(name if i == 0 else f"{name}, {owner}", real, folder, device)
        for i, (owner, folder) in enumerate(codecs)
        if read_card(folder, "codec")["shape"]["sample_rate_hz"] == real.sample_rate_hz
    ]


def _anchor(system: Any) -> Source:
    return Source(system.name, "reference", system.checksum, lambda: system)


def system_cells(material: Material, config: RunConfig, objects: Mapping[str, System], shortest_s: float = 0.0) -> list[Cell]:
    """Cells in the order of work: seed by seed and scale by scale, the target first. shortest_s: of audio that can be scored.

    Raises ConfigError or WeightsError for what is not there.
    """
    unused = sorted(set(objects) - {system.name for system in config.systems})
    if unused:
        raise ConfigError(f"systems: {unused[0]} was passed, and no entry of the configuration has that name; add one with its steps")
    rows = [source for system in config.systems for source in _sources(system, config, objects)]
    target = target_source([source for source, _ in rows], config)
    _check_fidelity(target, config)
    rows.sort(key=lambda row: row[0] is not target)
    return [
        Cell(source, material.clips, scale, seed, evaluations(scale), config.device, shortest_s)
        for seed in config.seeds
        for scale in config.guidance_scales
        for source, evaluations in rows
    ]


def target_source(sources: Sequence[Source], config: RunConfig) -> Source:
    """What fidelity and speed-up refer to: the target system with its first sampler at its longest step count."""
    system = config.target_system
    mine = [source for source in sources if source.name == system.name and source.sampler in (None, system.labels[0])]
    return max(mine, key=lambda source: source.steps or 0)


def _check_fidelity(target: Source, config: RunConfig) -> None:
    """Raises ConfigError for fidelity to audio that the noise which every system starts from does not determine."""
    asked = [name for name in config.metrics if METRICS[name].against == "teacher"]
    noise = target.own_noise
    if asked and noise:
        instead = 'put "ddim" first in its samplers' if target.sampler else 'load it with sampler "ddim"'
        instead = instead if noise.has_ddim else "name another target"
        sampler = f" with sampler {target.sampler!r}" if target.sampler else ""
        raise ConfigError(
            f"metrics: {asked[0]} compares with {target.name}{sampler}, whose {noise.scheduler} draws noise of its own: the noise that all systems "
            f"start from does not determine its audio; {instead}, or leave {', '.join(asked)} out of metrics"
        )


def _sources(system: SystemConfig, config: RunConfig, objects: Mapping[str, System]) -> list[tuple[Source, Callable[[float], int]]]:
    if system.name in objects:
        if system.kind:
            raise ConfigError(f"systems: {system.name} has {system.kind} and an object of that name was passed; rename one, or remove the key")
        return [_of_object(objects[system.name], system.name, steps) for steps in system.steps]
    if system.pipeline:
        return [pipeline_source(system, sampler, steps, config) for sampler in system.samplers for steps in system.steps]
    if system.audio:
        return [folder_source(system, sampler, steps, config) for sampler in system.samplers for steps in system.steps]
    if not system.network:
        raise ConfigError(f"systems: {system.name} has no network, pipeline or audio, and no object of that name was passed; set one, or pass one")
    return [
        bundle_source(system, sampler, temperature, steps, config)
        for sampler in system.samplers
        for temperature in system.temperatures
        for steps in system.steps
    ]


def _of_object(system: System, name: str, steps: int) -> tuple[Source, Callable[[float], int]]:
    """A system without a `checksum` is another one in every run: nothing tells whether it still makes the same audio."""
    if not isinstance(system, System):
        raise ConfigError(f"systems: {name} is no system; it needs name, sample_rate_hz and generate (see tta_bench.systems.protocol)")
    rate = system.sample_rate_hz
    if isinstance(rate, bool) or not isinstance(rate, int) or not 0 < rate <= _HIGHEST_RATE_HZ:
        raise ConfigError(f"systems: sample_rate_hz of {name} is {rate!r}; it must be a whole number of at most {_HIGHEST_RATE_HZ}")
    checksum = getattr(system, "checksum", None) or f"unknown {uuid.uuid4().hex}"
    weighting, parent = getattr(system, "weighting", None), getattr(system, "parent", None)
    scheduler = getattr(system, "scheduler", None)  # of one that `load_system` made of a pipeline
    noise = own_noise(scheduler) if type(scheduler).__module__.startswith("diffusers.") else None
    source = Source(name, "object", str(checksum), lambda: system, None, steps, weighting, parent, own_noise=noise)

    def evaluations(scale: float) -> int:
        count = getattr(system, "evaluations", None)
        return int(count(steps, scale)) if count else steps

    return source, evaluations
