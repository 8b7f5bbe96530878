"""Our latent diffusion: captions -> latents by a sampler -> audio by the codec; teacher, guided student and distilled students."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tta_bench.diffusion.guidance import guided
from tta_bench.diffusion.samplers import SAMPLERS, Network
from tta_bench.diffusion.schedule import CosineSchedule
from tta_bench.errors import ConfigError
from tta_bench.models.bundle import assets, check_companions, load_network
from tta_bench.models.codec import Codec
from tta_bench.models.denoiser import Denoiser, TextCondition
from tta_bench.models.text import TextEncoder
from tta_bench.rng import generator
from tta_bench.systems.protocol import Clip
from tta_bench.systems.request import check_request, refuse_repeats, refuse_wordless


@dataclass(frozen=True)
class LatentSystem:
    """name: of the denoiser. guidance_scales: (lowest, highest) that a guided denoiser was trained for; None for a teacher, which spends
    two evaluations a step on guidance. sampler: a key of SAMPLERS. steps: what `generate` takes as `steps` are its network evaluations per branch.
    """

    name: str
    codec: Codec
    text: TextEncoder
    denoiser: Denoiser
    schedule: CosineSchedule
    guidance_scales: tuple[float, float] | None
    sampler: str = "ddim"
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"{self.name}: unknown sampler {self.sampler!r}; known: {', '.join(SAMPLERS)}")

    @property
    def sample_rate_hz(self) -> int:
        """Of the codec."""
        return self.codec.shape.sample_rate_hz

    @property
    def samples(self) -> int:
        """Of every generated clip."""
        return self.denoiser.shape.frames * self.codec.shape.samples_per_latent

    def evaluations(self, steps: int, guidance_scale: float) -> int:
        """Network evaluations (NFE) per clip: a teacher under guidance takes two a step."""
        return steps * (2 if self.guidance_scales is None and guidance_scale != 1.0 else 1)

    def generate(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """(clip_id, (T,) float32) in the clips' order. Raises ConfigError for steps, a scale or a seed that cannot be; InputError for clips."""
        refuse_repeats(clips)
        for start in range(0, len(clips), self.batch_size):
            part = clips[start : start + self.batch_size]
            audio = self.decode(self.latents(part, steps=steps, guidance_scale=guidance_scale, seed=seed))
            yield from zip((clip.clip_id for clip in part), audio.float().cpu().numpy(), strict=True)

    @torch.inference_mode()
    def latents(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Tensor:
        """(B, C, L) of one batch. Raises as `generate` does."""
        self._check(clips, steps, guidance_scale, seed)
        device = next(self.denoiser.parameters()).device
        tokens = self.text.tokenise([clip.caption for clip in clips]).to(device)
        network = self.network(TextCondition(*self.text(tokens)), guidance_scale, len(clips))
        z = torch.from_numpy(np.stack([self.noise(clip.clip_id, seed) for clip in clips])).to(device)
        return SAMPLERS[self.sampler](network, z, self.schedule, steps)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, L) -> (B, T)."""
        return self.codec.decode(latents)

    def _check(self, clips: Sequence[Clip], steps: int, guidance_scale: float, seed: int) -> None:
        check_request(self.name, steps, guidance_scale, seed)
        refuse_wordless(self.name, clips)

    def noise(self, clip_id: str, seed: int) -> npt.NDArray[np.float32]:
        """(C, L) the initial noise of a clip."""
        shape = self.denoiser.shape
        return generator(seed, "noise", clip_id).standard_normal((shape.channels, shape.frames), dtype=np.float32)

    def network(self, text: TextCondition, guidance_scale: float, batch: int) -> Network:
        """The guided denoiser as the samplers want it. Raises ConfigError for a scale that it was not trained for."""
        if self.guidance_scales is None:
            if guidance_scale == 1.0:
                return lambda z, log_snr: self.denoiser(z, log_snr, text)
            return lambda z, log_snr: guided(self.denoiser(z, log_snr, text), self.denoiser(z, log_snr), guidance_scale)
        lowest, highest = self.guidance_scales
        if not lowest <= guidance_scale <= highest:
            raise ConfigError(f"{self.name}: was distilled for guidance scales {lowest:g} to {highest:g}, not {guidance_scale:g}; choose one of them")
        scale = torch.full((batch,), guidance_scale, device=text.states.device)
        return lambda z, log_snr: self.denoiser(z, log_snr, text, scale)


def load_latent(name: str, folder: Path | None = None, sampler: str = "ddim", device: str = "cpu") -> LatentSystem:
    """The system of denoiser `name` ("teacher", "guided", "student-bsa-25", ...) of a bundle's folder; without one, of the package's assets.

    Raises WeightsError where a file is missing, damaged, or belongs to another codec or text encoder.
    """
    folder = folder or assets()
    denoiser, card = load_network(folder, name, Denoiser)
    codec, codec_card = load_network(folder, "codec", Codec)
    text, text_card = load_network(folder, "text", TextEncoder)
    check_companions(folder, name, card, {"codec": codec_card, "text": text_card})
    scales = card.get("guidance_scales")
    return LatentSystem(
        name, codec.to(device), text.to(device), denoiser.to(device), CosineSchedule(**card["schedule"]), tuple(scales) if scales else None, sampler
    )
