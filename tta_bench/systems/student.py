"""What a distilled network can be asked for: it was trained for one grid, and for clips of one length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tta_bench.errors import ConfigError


def check_student(name: str, card: Mapping[str, Any], steps: int, sampler: str) -> None:
    """Raises ConfigError for another number of steps than a student's, and for another sampler than DDIM, whose steps it learned to take.

    card: of any network; those without a weighting are no students of progressive distillation. name: for messages.
    """
    if "weighting" not in card:
        return
    if steps != card["steps"]:
        raise ConfigError(f"{name}: steps = {steps}: is a student of {card['steps']} steps; ask for those, or distil one of {steps}")
    if sampler not in ("own", "ddim"):
        raise ConfigError(f'{name}: sampler {sampler!r}: students learned the steps of DDIM; use samplers = ["ddim"]')


def clip_length(name: str, card: Mapping[str, Any], audio_s: float | None) -> float | None:
    """`audio_s`, or where it is None what the card of a student says. Raises ConfigError for another length than it was distilled on."""
    known = card.get("audio_s")
    if known is not None and audio_s is not None and audio_s != known:
        raise ConfigError(f"{name}: audio_s = {audio_s:g}: was distilled on clips of {known:g} s; remove the key")
    return known if audio_s is None else audio_s
