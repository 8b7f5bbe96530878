"""What a system may be asked for, checked before any network runs."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from tta_bench.errors import ConfigError, InputError
from tta_bench.models.text import has_words
from tta_bench.systems.protocol import Clip

HIGHEST_SCALE = 1000.0


def refuse_repeats(clips: Sequence[Clip]) -> None:
    """Raises InputError for a clip id that is there twice."""
    ids = [clip.clip_id for clip in clips]
    if len(set(ids)) != len(ids):
        raise InputError(f"clip id {next(item for item in ids if ids.count(item) > 1)!r} is there twice; ids name a clip's noise, give each its own")


def refuse_wordless(name: str, clips: Sequence[Clip]) -> None:
    """Raises InputError for a caption that our text encoders read nothing of. name: of the system, for messages."""
    for clip in clips:
        if not isinstance(clip.caption, str) or not has_words(clip.caption):
            raise InputError(f"{name}: caption {clip.caption!r} of clip {clip.clip_id} has no words (a to z, 0 to 9)")


def check_request(name: str, steps: object, guidance_scale: float, seed: object) -> None:
    """Raises ConfigError for steps, a scale or a seed that cannot be. name: of the system, for messages."""
    for key, value in (("steps", steps), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ConfigError(f"{name}: {key} = {value!r} must be a whole number")
    if not 0.0 <= guidance_scale <= HIGHEST_SCALE:
        raise ConfigError(f"{name}: guidance_scale = {guidance_scale!r} must lie between 0 and {HIGHEST_SCALE:g}; 1 is none")


def refuse_temperature(name: str, temperature: float) -> None:
    """Raises ConfigError for another temperature than 1 of a system that is no DiTAR."""
    if temperature != 1.0:
        raise ConfigError(f"{name}: temperature is of DiTAR alone; leave it out")
