"""Sources of a sweep that are networks of a bundle: latent diffusion, and DiTAR."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from tta_bench.diffusion.temperature import evaluations_at, points_near
from tta_bench.errors import ConfigError, WeightsError
from tta_bench.files import digest
from tta_bench.harness.run_config import RunConfig, SystemConfig, sampler_label
from tta_bench.harness.source import Source
from tta_bench.models.bundle import assets, read_card
from tta_bench.systems.ditar import DitarSystem, load_ditar
from tta_bench.systems.latent import LatentSystem, load_latent
from tta_bench.systems.protocol import System
from tta_bench.systems.request import refuse_temperature

_COMPANIONS = {"denoiser": ("codec", "text"), "locdit": ("codec", "lm")}  # of a denoiser, by its kind
_FAMILIES = {"denoiser": "latent", "locdit": "ditar"}


def bundle_source(system: SystemConfig, sampler: str, temperature: float, steps: int, config: RunConfig) -> tuple[Source, Callable[[float], int]]:
    """A network of a bundle at one step count, and its evaluations by guidance scale.

    Raises ConfigError for what it cannot be asked for, WeightsError for a card that is missing or damaged.
    """
    folder, name = network_place(system, steps)
    card = read_card(folder, name)
    kind = card["kind"]
    if kind not in _COMPANIONS:
        raise ConfigError(f"systems: network {name!r} of {system.name} is of kind {kind}, not a denoiser; name another one")
    for key, given in (("temperatures", temperature != 1.0), ("stop", not system.stop)):
        if kind == "denoiser" and given:
            raise ConfigError(f"systems: {key} of {system.name}: network {name!r} is no DiTAR, to which alone it applies; remove the key")
    scales: Sequence[float] | None = card.get("guidance_scales")
    for scale in config.guidance_scales:
        if scales is None:
            break
        if not scales[0] <= scale <= scales[1]:
            raise ConfigError(f"guidance_scales: {name} was distilled for {scales[0]:g} to {scales[1]:g}, not {scale:g}; choose one of them")
    checksum = _checksum(name, folder, kind)
    changes: dict[str, Any] = {"sampler": sampler, "batch_size": config.batch_size}
    if kind == "locdit":
        points = points_near(sampler, steps, temperature)
        if len(points) > 1:
            grid = f"{steps} step{'s' * (steps != 1)} of {sampler}"
            raise ConfigError(f"systems: temperatures of {system.name}: {temperature:g} is no point of {grid}; take {points[0]:g} or {points[1]:g}")
        changes |= {"temperature": temperature, "stop": system.stop}
        card = {**card, **_patches(folder, card), **changes}
    load = partial(_load, name, folder, config.device, changes, checksum)
    calls = steps if kind == "denoiser" else evaluations_at(sampler, steps, temperature) * card["patches"]

    def evaluations(scale: float) -> int:
        return calls * (2 if scales is None and scale != 1.0 else 1)

    label = sampler_label(sampler, temperature)
    made_by = checksum if system.stop else digest([checksum, "never stops"])
    source = Source(system.name, _FAMILIES[kind], made_by, load, label, steps, card.get("weighting"), card.get("parent"), card, portable=True)
    return source, evaluations


def _patches(folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Latent frames of a patch, patches of the longest clip, patches of history that LocDiT sees; and how the language model was trained, and with
    it the teacher.
    """
    lm_card = read_card(folder, "lm")
    lm = lm_card["shape"]["lm"]
    sizes = {"patch": lm["patch"], "patches": lm["patches"], "history": card["shape"]["history"] // lm["patch"]}
    return {**sizes, "teacher_recipe": lm_card.get("recipe", {})}


def _checksum(name: str, folder: Path, kind: str) -> str:
    return digest([read_card(folder, part)["sha256"] for part in (name, *_COMPANIONS[kind])])


def _load(name: str, folder: Path, device: str, changes: Mapping[str, Any], checksum: str) -> System:
    """Raises WeightsError where the files are not those that were planned with."""
    return dataclasses.replace(_loaded(name, folder, device, checksum), **changes)


@cache
def _loaded(name: str, folder: Path, device: str, checksum: str) -> LatentSystem | DitarSystem:
    kind = read_card(folder, name)["kind"]
    system = load_system(name, folder, device=device)
    if _checksum(name, folder, kind) != checksum:
        raise WeightsError(f"{folder / name}.json: was replaced while the run was at work; run again")
    return system


def load_system(
    name: str, folder: Path | None = None, sampler: str = "ddim", device: str = "cpu", temperature: float = 1.0
) -> LatentSystem | DitarSystem:
    """The system of a network of a bundle's folder, of whichever family. Raises as `load_latent` and `load_ditar` do."""
    folder, name = located(name, folder)
    if read_card(folder, name)["kind"] == "locdit":
        return load_ditar(name, folder, sampler, device, temperature)
    refuse_temperature(name, temperature)
    return load_latent(name, folder, sampler, device)


def network_place(system: SystemConfig, steps: int) -> tuple[Path, str]:
    """Folder and name of a system's network at one step count."""
    assert system.network is not None
    return located(system.network.replace("{steps}", str(steps)), system.bundle)


def located(name: str, folder: Path | None = None) -> tuple[Path, str]:
    """Folder and name of a network; "ditar/teacher" lies in a folder of its own with what belongs to it. Without a folder, of the package."""
    place = (folder or assets()) / name
    return place.parent, place.name
