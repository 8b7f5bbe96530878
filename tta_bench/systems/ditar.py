"""DiTAR as a system: captions -> patch after patch of latents, each by a sampler -> audio by the codec, at once or as it comes."""

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
from tta_bench.diffusion.temperature import entry_step, evaluations_at, sample_at
from tta_bench.errors import ConfigError
from tta_bench.models.bundle import check_companions, load_network
from tta_bench.models.codec import Codec
from tta_bench.models.ditar import LocDiT, PatchLM
from tta_bench.models.streaming import StreamingDecoder
from tta_bench.rng import generator
from tta_bench.systems.protocol import Clip
from tta_bench.systems.request import check_request, refuse_repeats, refuse_wordless


@dataclass(frozen=True)
class _Asked:
    """One request, checked."""

    steps: int
    guidance_scale: float
    seed: int


@dataclass(frozen=True)
class DitarSystem:
    """name: of the LocDiT. guidance_scales, sampler: see `tta_bench.systems.latent.LatentSystem`. steps: network evaluations of LocDiT per patch
    and guidance branch; the language model runs once a patch.

    temperature: see `tta_bench.diffusion.temperature`. stop: whether a clip ends where the language model says so, else at the longest it knows.
    """

    name: str
    codec: Codec
    lm: PatchLM
    locdit: LocDiT
    schedule: CosineSchedule
    guidance_scales: tuple[float, float] | None
    sampler: str = "ddim"
    temperature: float = 1.0
    stop: bool = True
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"{self.name}: unknown sampler {self.sampler!r}; known: {', '.join(SAMPLERS)}")
        entry_step(self.temperature, 1)

    @property
    def sample_rate_hz(self) -> int:
        """Of the codec."""
        return self.codec.shape.sample_rate_hz

    @property
    def frames(self) -> int:
        """Latent frames of the longest clip."""
        return self.lm.shape.patches * self.lm.shape.patch

    @property
    def samples(self) -> int:
        """Of the longest clip."""
        return self.frames * self.codec.shape.samples_per_latent

    def evaluations(self, steps: int, guidance_scale: float) -> int:
        """Evaluations of LocDiT (NFE) for the longest clip: of every patch, twice where a teacher is guided, once more at temperatures between."""
        branches = 2 if self.guidance_scales is None and guidance_scale != 1.0 else 1
        return self.lm.shape.patches * branches * evaluations_at(self.sampler, steps, self.temperature)

    def generate(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """(clip_id, (T,) float32) in the clips' order, each as long as it came out.

        Raises ConfigError for steps, a scale or a seed that cannot be; InputError for clips.
        """
        refuse_repeats(clips)
        for start in range(0, len(clips), self.batch_size):
            part = clips[start : start + self.batch_size]
            audio = self.decode(self.latents(part, steps=steps, guidance_scale=guidance_scale, seed=seed))
            yield from ((clip.clip_id, samples.float().cpu().numpy()) for clip, samples in zip(part, audio, strict=True))

    @torch.inference_mode()
    def latents(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> list[Tensor]:
        """(C, L) of each clip of one batch. Raises as `generate` does."""
        parts: list[list[Tensor]] = [[] for _ in clips]
        for rows, patch in self._walk(clips, self._checked(clips, steps, guidance_scale, seed)):
            if patch is not None:
                for row, latents in zip(rows, patch, strict=True):
                    parts[row].append(latents)
        return [torch.cat(part, dim=1) for part in parts]

    @torch.inference_mode()
    def decode(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Latents (C, L) -> (T,) each; clips of one length together."""
        audio: list[Tensor | None] = [None] * len(latents)
        for length in {part.shape[1] for part in latents}:
            rows = [i for i, part in enumerate(latents) if part.shape[1] == length]
            for i, samples in zip(rows, self.codec.decode(torch.stack([latents[i] for i in rows])), strict=True):
                audio[i] = samples
        return [samples for samples in audio if samples is not None]

    def stream(
        self, caption: str, *, steps: int = 10, guidance_scale: float = 1.0, seed: int = 0, clip_id: str = ""
    ) -> Iterator[npt.NDArray[np.float32]]:
        """The audio of one clip, (n,) float32 at a time, as soon as its patches are there: joined, it is what `generate` gives for (clip_id,
        caption). A part lacks what the next patches still change, which is the codec's look-ahead. Raises as `generate` does.
        """
        for parts in self.stream_together([Clip(clip_id, caption)], steps=steps, guidance_scale=guidance_scale, seed=seed):
            yield from parts.values()

    def stream_together(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        """The same for one batch: what is new of each clip, by its id, patch after patch. Raises as `generate` does."""
        refuse_repeats(clips)
        asked = self._checked(clips, steps, guidance_scale, seed)
        decoder, going = StreamingDecoder(self.codec), list(range(len(clips)))
        walk = self._walk(clips, asked)
        while True:
            with torch.inference_mode():  # never around a yield: it would hold for the caller too
                rows, patch = next(walk, ([], None))
                parts: dict[str, npt.NDArray[np.float32]] = {}
                if len(rows) < len(going):
                    on = torch.tensor([row in rows for row in going], device=decoder.device)
                    ended = [clips[row] for row in going if row not in rows]
                    parts |= _named(ended, decoder.keep(~on).finish())
                    decoder, going = decoder.keep(on), rows
                if patch is not None:
                    parts |= _named([clips[row] for row in rows], decoder.push(patch))
            if parts:
                yield parts
            if not rows:
                return

    def noise(self, clip_id: str, seed: int) -> npt.NDArray[np.float32]:
        """(C, frames): what the patches of a clip start from, the same as that of a latent diffusion system with latents of this shape."""
        return self._drawn("noise", clip_id, seed)

    def _drawn(self, name: str, clip_id: str, seed: int) -> npt.NDArray[np.float32]:
        return generator(seed, name, clip_id).standard_normal((self.lm.shape.channels, self.frames), dtype=np.float32)

    def _checked(self, clips: Sequence[Clip], steps: int, guidance_scale: float, seed: int) -> _Asked:
        check_request(self.name, steps, guidance_scale, seed)
        refuse_wordless(self.name, clips)
        if self.guidance_scales is not None and not self.guidance_scales[0] <= guidance_scale <= self.guidance_scales[1]:
            lowest, highest = self.guidance_scales
            raise ConfigError(f"{self.name}: was distilled for guidance scales {lowest:g} to {highest:g}, not {guidance_scale:g}; choose one of them")
        return _Asked(steps, guidance_scale, seed)

    def _walk(self, clips: Sequence[Clip], asked: _Asked) -> Iterator[tuple[list[int], Tensor | None]]:
        """Patch after patch: which clips have one, and their latents (A, C, P); and as soon as some have ended, which go on, without latents."""
        shape, device = self.lm.shape, next(self.locdit.parameters()).device
        noise, fresh = (
            torch.from_numpy(np.stack([self._drawn(name, clip.clip_id, asked.seed) for clip in clips])).to(device)
            for name in ("noise", "temperature")
        )
        state, h = self.lm.begin(self.lm.tokenise([clip.caption for clip in clips]).to(device))
        history = noise.new_zeros(len(clips), shape.channels, self.locdit.shape.history)
        rows = torch.arange(len(clips), device=device)
        for i in range(shape.patches):
            span = slice(i * shape.patch, (i + 1) * shape.patch)
            known = rows.new_full(rows.shape, min(i * shape.patch, self.locdit.shape.history))
            network = self.network(h, history, known, asked.guidance_scale)
            patch = sample_at(network, noise[rows, :, span], fresh[rows, :, span], self.schedule, self.sampler, asked.steps, self.temperature)
            yield rows.tolist(), patch
            if i + 1 == shape.patches:
                return
            state, h, ends = self.lm.advance(state, patch)
            history = torch.cat([history, patch], dim=2)[:, :, patch.shape[2] :]
            if self.stop and bool((on := ends <= 0.0).logical_not().any()):
                state, h, history, rows = state.keep(on), h[on], history[on], rows[on]
                yield rows.tolist(), None
                if not len(rows):
                    return

    def network(self, h: Tensor, history: Tensor, known: Tensor, guidance_scale: float) -> Network:
        """The guided LocDiT for one patch, (B, D), (B, C, H) and (B,), as the samplers want it. History stays in both branches of guidance."""
        if self.guidance_scales is not None:
            scale = torch.full((len(h),), guidance_scale, device=h.device)
            return lambda z, log_snr: self.locdit(z, log_snr, h, history, known, scale)
        if guidance_scale == 1.0:
            return lambda z, log_snr: self.locdit(z, log_snr, h, history, known)
        none = torch.zeros_like(h)
        return lambda z, log_snr: guided(self.locdit(z, log_snr, h, history, known), self.locdit(z, log_snr, none, history, known), guidance_scale)


def _named(clips: Sequence[Clip], audio: Tensor) -> dict[str, npt.NDArray[np.float32]]:
    """Rows of (B, n) by the id of their clip; nothing where there are no samples."""
    return {clip.clip_id: samples.float().cpu().numpy() for clip, samples in zip(clips, audio, strict=True)} if audio.shape[1] else {}


def load_ditar(name: str, folder: Path, sampler: str = "ddim", device: str = "cpu", temperature: float = 1.0, stop: bool = True) -> DitarSystem:
    """The system of LocDiT `name` of a bundle's folder.

    Raises WeightsError where a file is missing, damaged, or belongs to another codec or language model.
    """
    locdit, card = load_network(folder, name, LocDiT)
    codec, codec_card = load_network(folder, "codec", Codec)
    lm, lm_card = load_network(folder, "lm", PatchLM)
    check_companions(folder, name, card, {"codec": codec_card, "lm": lm_card})
    scales = card.get("guidance_scales")
    return DitarSystem(
        name, codec.to(device), lm.to(device), locdit.to(device), CosineSchedule(**card["schedule"]), tuple(scales) if scales else None,
        sampler, temperature, stop,
    )  # fmt: skip
