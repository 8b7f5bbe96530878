"""A system at one step count, before it is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tta_bench.systems.protocol import System
from tta_bench.systems.stochastic import OwnNoise


@dataclass(frozen=True)
class Source:
    """One system at one step count, before it is loaded. checksum: of all that decides its audio.

    portable: whether another process can load it. timed: whether making its audio takes time that says anything. content: of audio that is
    there already, the fingerprint by guidance scale and seed. own_noise: of a scheduler that draws noise while it samples, so that the same initial
    noise makes other audio every time.
    """

    name: str
    family: str
    checksum: str
    load: Callable[[], System]
    sampler: str | None = None
    steps: int | None = None
    weighting: str | None = None
    parent: str | None = None
    card: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    portable: bool = False
    timed: bool = True
    content: Callable[[float, int], str] | None = None
    own_noise: OwnNoise | None = None

    def starts_like(self, target: Source) -> bool:
        """Whether the same noise is to lead both to the same audio, so that the distance between them is fidelity. DiTAR and whole-clip diffusion
        share the noise, and are other processes.
        """
        return (self.family == "ditar") == (target.family == "ditar")

    @property
    def draws_noise(self) -> bool:
        """Whether the initial noise alone does not determine its audio."""
        return self.own_noise is not None
