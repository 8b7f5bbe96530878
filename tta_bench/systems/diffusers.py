"""Pretrained pipelines as systems: captions -> latents by the stock pipeline's own sampling -> audio by its decoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tta_bench.errors import ConfigError, InputError
from tta_bench.rng import generator, stream_seed
from tta_bench.systems.pipeline_files import pipeline_card, pipeline_folder
from tta_bench.systems.pipelines import Options, Pipeline, Request, load_pipeline
from tta_bench.systems.protocol import Clip
from tta_bench.systems.request import check_request, refuse_repeats
from tta_bench.systems.schedulers import denoiser_calls, scheduler_of
from tta_bench.systems.student import clip_length

_MOST_SEED = 2**63  # torch's generators take one of 64 bits


@dataclass(frozen=True)
class DiffusersSystem:
    """sampler: "own", "ddim" or "dpmpp_2m", `scheduler` its template. audio_s: length of every clip. card: of a student; the guidance scale
    that was folded into it is the only one that can be asked for, and costs one evaluation a step.

    Without a scheduler that draws noise of its own, the same clip starts from the same noise in every pipeline with latents of that shape, and
    its audio depends on neither batch nor order. `steps` are the pipeline's `num_inference_steps`.
    """

    name: str
    pipeline: Pipeline
    scheduler: Any
    audio_s: float
    sampler: str = "own"
    batch_size: int = 8
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sample_rate_hz(self) -> int:
        """Of the pipeline."""
        return self.pipeline.sample_rate_hz

    def evaluations(self, steps: int, guidance_scale: float) -> int:
        """Network evaluations (NFE) per clip. Raises ConfigError for what the scheduler refuses."""
        return pipeline_evaluations(self.name, self.scheduler, steps, guidance_scale, self.card)

    def generate(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """(clip_id, (T,) float32) in the clips' order. Raises ConfigError for steps, a scale or a seed that cannot be; InputError for clips."""
        refuse_repeats(clips)
        for start in range(0, len(clips), self.batch_size):
            part = clips[start : start + self.batch_size]
            audio = self.decode(self.latents(part, steps=steps, guidance_scale=guidance_scale, seed=seed))
            yield from zip((clip.clip_id for clip in part), audio.float().cpu().numpy(), strict=True)

    @torch.inference_mode()
    def latents(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Tensor:
        """(B, ...) of one batch. Raises as `generate` does."""
        check_request(self.name, steps, guidance_scale, seed)
        self.evaluations(steps, guidance_scale)
        for clip in clips:
            if not isinstance(clip.caption, str) or not clip.caption.strip():
                raise InputError(f"{self.name}: caption {clip.caption!r} of clip {clip.clip_id} is empty")
        noise = torch.from_numpy(np.stack([self.noise(clip.clip_id, seed) for clip in clips])).to(self.pipeline.device)
        drawn = [torch.Generator().manual_seed(stream_seed(seed, "sampling", clip.clip_id) % _MOST_SEED) for clip in clips]
        scale = 1.0 if "guidance_scale" in self.card else guidance_scale
        request = Request(steps, scale, self.audio_s, scheduler_of(self.scheduler, "own", self.name), drawn)
        return self.pipeline.sample([clip.caption for clip in clips], noise, request)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """(B, ...) -> (B, T)."""
        return self.pipeline.decode(latents, self.audio_s)

    def noise(self, clip_id: str, seed: int) -> npt.NDArray[np.float32]:
        """The initial noise of a clip, of unit variance, in the pipeline's latent shape."""
        return generator(seed, "noise", clip_id).standard_normal(self.pipeline.latent_shape(self.audio_s), dtype=np.float32)


def pipeline_evaluations(name: str, scheduler: Any, steps: int, guidance_scale: float, card: Mapping[str, Any]) -> int:
    """Network evaluations per clip: the scheduler's timesteps, twice under guidance that is not folded in.

    Raises ConfigError for steps that the scheduler refuses, for scales below 1, at which pipelines silently do not guide, and for another scale
    than a student was distilled for.
    """
    if (folded := card.get("guidance_scale")) is not None:
        if guidance_scale != folded:
            raise ConfigError(f"guidance_scales: {name} was distilled for {folded:g}, not {guidance_scale:g}; ask for that one")
        return denoiser_calls(scheduler, steps, name)
    if guidance_scale < 1.0:
        raise ConfigError(f"{name}: guidance_scales: pipelines guide above 1 only, and {guidance_scale:g} would be taken for 1; choose 1 or more")
    return denoiser_calls(scheduler, steps, name) * (2 if guidance_scale > 1.0 else 1)


def load_diffusers(
    place: str, *, name: str | None = None, sampler: str = "own", audio_s: float | None = None, options: Options | None = None, batch_size: int = 8
) -> DiffusersSystem:
    """The system of a pipeline's folder or hub name. Raises as `tta_bench.systems.pipelines.load_pipeline` does."""
    card = pipeline_card(pipeline_folder(place))
    return system_of(load_pipeline(place, options), name or place, sampler, audio_s, batch_size, card)


def system_of(
    pipeline: Pipeline,
    name: str,
    sampler: str = "own",
    audio_s: float | None = None,
    batch_size: int = 8,
    card: Mapping[str, Any] | None = None,
) -> DiffusersSystem:
    """A loaded pipeline as a system. Raises ConfigError for a sampler or a length that does not fit it."""
    asked = clip_length(name, card or {}, audio_s)
    seconds = pipeline.default_audio_s if asked is None else asked
    pipeline.latent_shape(seconds)
    return DiffusersSystem(name, pipeline, scheduler_of(pipeline.own_scheduler, sampler, name), seconds, sampler, batch_size, card or {})
