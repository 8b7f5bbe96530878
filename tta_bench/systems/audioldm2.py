"""AudioLDM 2: AudioLDM's latents, with a UNet that attends to FLAN-T5 states and to states that a GPT-2 makes of CLAP and T5 (Liu et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from tta_bench.systems.audioldm import MelPipeline
from tta_bench.systems.hf import quiet
from tta_bench.systems.pipeline import Conditioning, Request


class AudioLDM2(MelPipeline):
    """AudioLDM2Pipeline of diffusers.

    Captions are encoded one by one, as the stock pipeline encodes a single prompt: in a batch, the padding of shorter captions would move the
    positions at which its GPT-2 writes, and a clip would depend on its neighbours.
    """

    kind: ClassVar[str] = "audioldm2"

    def conditioning(self, captions: Sequence[str], audio_s: float) -> Conditioning:
        """encoder_hidden_states (B, 8, D) of GPT-2, encoder_hidden_states_1 (B, S, E) of T5, encoder_attention_mask_1 (B, S)."""
        return _stacked([self._encoded(caption, guided=False) for caption in captions])

    def null_conditioning(self, captions: Sequence[str], audio_s: float) -> Conditioning:
        """The same for the empty text, padded to each caption's own length as the stock pipeline does."""
        return _stacked([self._encoded(caption, guided=True)[:1] for caption in captions])

    @torch.no_grad()
    def _encoded(self, caption: str, guided: bool) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(GPT-2 states, T5 states, mask) of the caption, after those of the empty text where `guided`."""
        with quiet():
            states, mask, generated = self.parts.encode_prompt([caption], self.device, 1, guided)
        return list(zip(generated, states, mask, strict=True))

    def denoise(self, z: Tensor, timestep: Tensor, conditioning: Conditioning, denoiser: nn.Module | None = None) -> Tensor:
        """(B, C, L, F)"""
        output: Tensor = (denoiser or self.denoiser)(z, timestep, **conditioning).sample
        return output

    def sample(self, captions: Sequence[str], noise: Tensor, request: Request) -> Tensor:
        """(B, C, L, F) by the stock pipeline's `__call__`."""
        self.parts.scheduler = request.scheduler
        texts = self._texts(captions, request.guidance_scale > 1.0)
        with quiet():
            made: Tensor = self.parts(
                audio_length_in_s=request.audio_s,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance_scale,
                latents=noise,
                generator=request.generators,
                output_type="latent",
                **texts,
            ).audios
        return made

    def _texts(self, captions: Sequence[str], guided: bool) -> dict[str, Tensor]:
        """What the stock pipeline takes in place of prompts."""
        encoded = [self._encoded(caption, guided) for caption in captions]
        texts: dict[str, Tensor] = {}
        for prefix, of_one in {"": -1, "negative_": 0}.items() if guided else {"": -1}.items():
            found = _stacked([[item[of_one]] for item in encoded])
            texts[f"{prefix}generated_prompt_embeds"] = found["encoder_hidden_states"]
            texts[f"{prefix}prompt_embeds"] = found["encoder_hidden_states_1"]
            texts[f"{prefix}attention_mask"] = found["encoder_attention_mask_1"]
        return texts


def _stacked(encoded: Sequence[list[tuple[Tensor, Tensor, Tensor]]]) -> Conditioning:
    """One entry a caption, states and mask padded with zeros to the longest."""
    rows = [entry[0] for entry in encoded]
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "encoder_hidden_states": torch.stack([generated for generated, _, _ in rows]),
        "encoder_hidden_states_1": pad([states for _, states, _ in rows], batch_first=True),
        "encoder_attention_mask_1": pad([mask for _, _, mask in rows], batch_first=True),
    }
