"""What a pretrained text-to-audio pipeline consists of, whatever library wrote it: the parts that generation and distillation need."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tta_bench.errors import ConfigError

Conditioning = dict[str, Tensor]


@dataclass(frozen=True)
class Pipeline(ABC):
    """parts: the stock pipeline of diffusers, or what holds its parts under the same names. name: for messages, a folder or a hub name.

    kind: a word for the family. ranges: captions are texts, latents are as the denoiser sees them (scaled), audio is in [-1, 1], mono.
    """

    parts: Any
    name: str
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        _ = self.own_scheduler  # before anything is sampled with another one

    @cached_property
    def own_scheduler(self) -> Any:
        """That which the pipeline came with; `parts.scheduler` is the one that it last sampled with."""
        return copy.deepcopy(self.parts.scheduler)

    @property
    @abstractmethod
    def denoiser(self) -> nn.Module:
        """The network that sampling calls at every step."""

    @property
    @abstractmethod
    def sample_rate_hz(self) -> int:
        """Of the audio."""

    @property
    @abstractmethod
    def default_audio_s(self) -> float:
        """Length of a clip if nothing is said, as in the stock pipeline."""

    @abstractmethod
    def latent_shape(self, audio_s: float) -> tuple[int, ...]:
        """Of one clip, without the batch. Raises ConfigError for a length that the pipeline cannot make."""

    @abstractmethod
    def conditioning(self, captions: Sequence[str], audio_s: float) -> Conditioning:
        """What `denoise` takes for captions: tensors (B, ...)."""

    @abstractmethod
    def null_conditioning(self, captions: Sequence[str], audio_s: float) -> Conditioning:
        """What stock guidance sets against `conditioning` of the same captions: the empty prompt, in the same shapes."""

    @abstractmethod
    def denoise(self, z: Tensor, timestep: Tensor, conditioning: Conditioning, denoiser: nn.Module | None = None) -> Tensor:
        """Output (float32) of the denoiser, or of another one of its kind, for z (B, *latent_shape) at timestep () or (B,); see `prediction_type`."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """(B, T) at `sample_rate_hz` -> latents, the mean of the encoder's distribution."""

    @abstractmethod
    def decode(self, latents: Tensor, audio_s: float) -> Tensor:
        """Latents -> (B, int(audio_s * sample_rate_hz)) float32."""

    @abstractmethod
    def sample(self, captions: Sequence[str], noise: Tensor, request: Request) -> Tensor:
        """Latents as the stock pipeline samples them from unit noise (B, *latent_shape)."""

    def save(self, folder: Path, denoiser: nn.Module, scheduler: Any) -> None:
        """Write a pipeline's folder with all parts, `denoiser` and `scheduler` being in place of its own; safetensors only."""
        before = {name: self.parts.components[name] for name in ("unet", "scheduler")}
        try:
            self.parts.register_modules(unet=denoiser, scheduler=scheduler)
            self.parts.save_pretrained(folder, safe_serialization=True)
        finally:
            self.parts.register_modules(**before)

    def level_of_training(self, audio: Tensor) -> Tensor:
        """(B, T) at the level that clips had when the pipeline was trained."""
        return audio

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the denoiser's weights and of conditioning; z is float32 whatever it is."""
        return next(self.denoiser.parameters()).dtype

    @property
    def alphas_cumprod(self) -> Tensor:
        """(N,) float64: alpha^2 of every training timestep 0..N-1, as the stock schedulers have it. Raises ConfigError where there is none."""
        alphas = getattr(self.own_scheduler, "alphas_cumprod", None)
        if not isinstance(alphas, Tensor):
            raise ConfigError(f"{self.name}: {type(self.own_scheduler).__name__} has no variance-preserving noise schedule with timesteps")
        return alphas.detach().cpu().double()

    @property
    def final_alpha_cumprod(self) -> float:
        """alpha^2 at which sampling ends: 1, or that of timestep 0 (`set_alpha_to_one`)."""
        to_one = self.own_scheduler.config.get("set_alpha_to_one", True)
        return 1.0 if to_one else float(self.alphas_cumprod[0])

    @property
    def prediction_type(self) -> str:
        """ "epsilon", "v_prediction" or "sample"."""
        return str(self.own_scheduler.config.get("prediction_type", "epsilon"))


@dataclass(frozen=True)
class Request:
    """steps, guidance_scale: as the stock pipeline takes them. scheduler: see `tta_bench.systems.schedulers`. generators: one a clip, for
    whatever a scheduler draws beside the initial noise."""

    steps: int
    guidance_scale: float
    audio_s: float
    scheduler: Any
    generators: list[torch.Generator]
