"""What a run was to do, beside its records: plan.json (cells, target, captions) and systems.json (what the systems' cards say)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tta_bench.diffusion.distill import Stage
from tta_bench.diffusion.schedule import CosineSchedule
from tta_bench.diffusion.weighting import WEIGHTINGS, v_weights
from tta_bench.errors import ConfigError
from tta_bench.files import digest, write_text
from tta_bench.harness.catalogue import Cell, target_source
from tta_bench.harness.material import Material
from tta_bench.harness.run_config import RunConfig
from tta_bench.harness.scoring import Identified
from tta_bench.metrics.suite import MetricSpec

PLAN_FORMAT = 1
_FROM_CARDS = (
    "name",
    "parameters",
    "sha256",
    "steps",
    "weighting",
    "gamma",
    "parent",
    "guidance_scales",
    "seed",
    "recipe",
    "loss_by_level",
    "schedule",
    "patch",
    "patches",
    "history",
    "temperature",
    "stop",
    "role",
    "data",
    "codec_sha256",
    "teacher_recipe",
)
_DECIDES_WEIGHTS = ("weighting", "steps", "gamma", "grid_log_snr", "schedule")


def write_plan(out: Path, config: RunConfig, material: Material, cells: Sequence[Cell], pairs: Iterable[tuple[MetricSpec, Identified]]) -> None:
    """Write both files; they hold for the configuration of the last call. pairs: metric and embedder of each score that it asks for."""
    pairs = list(pairs)
    one_seed = sorted({spec.name for spec, _ in pairs if spec.against == "seeds" and len(config.seeds) < 2})
    sources = [cell.source for cell in cells if cell.source.family != "reference"]
    target = target_source(sources, config)
    plan = {
        "format": PLAN_FORMAT,
        "run": out.name,
        "reference": {"name": material.name, "n": len(material.clips), "files": _listed(out, config, material)},
        "target": {"system": target.name, "sampler": target.sampler, "steps": target.steps},
        "baseline": baseline_of(cells, config),
        "weights": weight_curves(cells),
        "seeds": list(config.seeds),
        "batch_size": config.batch_size,
        "listening": [clip.clip_id for clip in material.clips[: config.listening]],
        "captions": {clip.clip_id: clip.caption for clip in material.clips},
        "scores": [[spec.name, embedder.name] for spec, embedder in pairs if spec.name not in one_seed],
        "notes": [f"{name} compares samples of different seeds, and this run has one seed: not computed." for name in one_seed],
        "cells": [_cell(cell) for cell in cells],
    }
    write_text(out / "plan.json", json.dumps(plan, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "systems.json", json.dumps(system_cards(cells), indent=1) + "\n")


def system_cards(cells: Sequence[Cell]) -> dict[str, Any]:
    """What is known of every source, under "NAME | STEPS"; under "NAME | STEPS | SAMPLER" where samplers of one name have other networks or
    temperatures, of which another run may have others.
    """
    known: dict[str, dict[str | None, dict[str, Any]]] = {}
    for source in (cell.source for cell in cells):
        card = {key: source.card[key] for key in _FROM_CARDS if key in source.card}
        known.setdefault(f"{source.name} | {source.steps}", {})[source.sampler] = {"checksum": source.checksum, "family": source.family, **card}
    found: dict[str, Any] = {}
    for name, cards in known.items():
        first = next(iter(cards.values()))
        same = all(card == first for card in cards.values()) and "temperature" not in first
        found |= {name: first} if same else {f"{name} | {sampler}": card for sampler, card in cards.items()}
    return found


def _listed(out: Path, config: RunConfig, material: Material) -> dict[str, str]:
    """Reference audio of the clips that are to be heard; below the run's folder where it lies there."""
    paths = {item.clip_id: item.path for item in material.files[: config.listening]}
    return {clip_id: str(path.relative_to(out) if path.is_relative_to(out) else path.absolute()) for clip_id, path in paths.items()}


def baseline_of(cells: Sequence[Cell], config: RunConfig) -> str:
    """The weighting that others are compared with. Raises ConfigError where the configuration names one that no system has."""
    weightings = list(dict.fromkeys(cell.source.weighting for cell in cells if cell.source.weighting))
    if config.baseline and config.baseline not in weightings:
        raise ConfigError(
            f"baseline = {config.baseline!r} is none of the weightings in this run: {', '.join(weightings) or 'none'}; name one of them"
        )
    return config.baseline or ("constant" if "constant" in weightings or not weightings else weightings[0])


def weight_curves(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Weight of the v-loss over log SNR of every student's stage, its mean over the stage's noise levels being 1.

    Students of the same weighting, gamma and noise levels share one; those of two teachers, whatever they are called, have one each.
    """
    curves: list[dict[str, Any]] = []
    students = [cell.source.card for cell in cells if cell.source.weighting and "steps" in cell.source.card]
    for card in {digest([card.get(key) for key in _DECIDES_WEIGHTS]): card for card in students}.values():
        if card["weighting"] not in WEIGHTINGS:
            continue
        levels = _grid(card)
        weights = v_weights(card["weighting"], levels, card.get("gamma"))
        curve = {"weighting": card["weighting"], "steps": card["steps"], "log_snr": levels.tolist(), "weight": weights.tolist()}
        curves += [curve] if curve not in curves else []
    return curves


def _grid(card: Mapping[str, Any]) -> torch.Tensor:
    """Log SNR at which each of a student's steps starts."""
    if "grid_log_snr" in card:
        return torch.tensor(card["grid_log_snr"], dtype=torch.float64)
    return Stage(CosineSchedule(**card["schedule"]), card["steps"], card["steps"]).log_snrs


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "cell": cell.cell_id, **cell.row._asdict(), "seed": cell.seed, "family": cell.source.family, "weighting": cell.source.weighting,
        "nfe": cell.nfe, "n": len(cell.clips),
    }  # fmt: skip
