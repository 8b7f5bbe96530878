"""What a system is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Clip:
    """What is to be generated. clip_id names its noise: the same clip gets the same noise in every system and batch."""

    clip_id: str
    caption: str


@runtime_checkable
class System(Protocol):
    """name: of the system. sample_rate_hz: of its audio."""

    @property
    def name(self) -> str: ...
    @property
    def sample_rate_hz(self) -> int: ...

    def generate(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """(clip_id, (T,) float32 mono) of every clip, in any order. guidance_scale: 1 is none (see `tta_bench.diffusion.guidance`)."""
        ...
