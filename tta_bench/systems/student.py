"""What the card of a distilled pipeline decides about how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tta_bench.errors import ConfigError


def clip_length(name: str, card: Mapping[str, Any], audio_s: float | None) -> float | None:
    """`audio_s`, or where it is None what the card of a student says. Raises ConfigError for another length than it was distilled on."""
    known = card.get("audio_s")
    if known is not None and audio_s is not None and audio_s != known:
        raise ConfigError(f"{name}: audio_s = {audio_s:g}: was distilled on clips of {known:g} s; remove the key")
    return known if audio_s is None else audio_s
