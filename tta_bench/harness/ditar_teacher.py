"""DiTAR as a teacher of distillation: whole clips under teacher forcing, all patches at once, each by LocDiT at the clip's noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta_bench.diffusion.schedule import Schedule
from tta_bench.harness.teachers import Text
from tta_bench.models.ditar import LocDiT, PatchLM, frames_of, histories, patches_of


@dataclass(frozen=True)
class DitarTeacher:
    """See `tta_bench.harness.teachers.Teacher`. steps: per patch."""

    locdit: LocDiT
    lm: PatchLM
    sha256: str
    schedule: Schedule
    steps: int

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, L) of the longest clip."""
        return self.lm.shape.channels, self.lm.shape.patches * self.lm.shape.patch

    @property
    def patch(self) -> int:
        """See `Teacher`."""
        return self.lm.shape.patch

    def freeze(self, device: torch.device) -> None:
        """See `Teacher`."""
        for network in (self.locdit, self.lm):
            network.requires_grad_(False).eval().to(device)

    def student(self) -> nn.Module:
        """See `Teacher`: the language model is kept, LocDiT alone is distilled."""
        student = LocDiT(self.locdit.shape)
        student.load_state_dict(self.locdit.state_dict())
        return student

    def encode(self, captions: Sequence[str], x: Tensor) -> dict[str, Tensor]:
        """h (B, N, D) of every patch, and history (B, N, C, H)."""
        tokens = self.lm.tokenise(captions).to(x.device)
        h, _ = self.lm(tokens, patches_of(x, self.lm.shape.patch))
        history, _ = histories(x, self.lm.shape.patch, self.locdit.shape.history)
        return {"h": h, "history": history}

    def predict(self, z: Tensor, log_snr: Tensor, text: Text, guidance_scale: Tensor | None) -> Tensor:
        """See `Teacher`."""
        return patch_v(self.locdit, z, log_snr, text["h"], text["history"], guidance_scale)

    def predict_null(self, z: Tensor, log_snr: Tensor, text: Text) -> Tensor:
        """See `Teacher`: h is zero, history stays."""
        return patch_v(self.locdit, z, log_snr, torch.zeros_like(text["h"]), text["history"], None)

    def apply(self, network: nn.Module, z: Tensor, log_snr: Tensor, text: Text, guidance_scale: Tensor) -> Tensor:
        """See `Teacher`."""
        return patch_v(network, z, log_snr, text["h"], text["history"], guidance_scale)


def patch_v(network: nn.Module, z: Tensor, log_snr: Tensor, h: Tensor, history: Tensor, guidance_scale: Tensor | None) -> Tensor:
    """v (B, C, L) of z (B, C, L), patch by patch in one batch. log_snr (B,) or (B, N), h (B, N, D), history (B, N, C, H), guidance_scale (B,)."""
    batch, count = h.shape[:2]
    patches = patches_of(z, z.shape[2] // count)
    known = (torch.arange(count, device=z.device) * patches.shape[3]).clamp(max=history.shape[3])
    levels = log_snr if log_snr.dim() == 2 else log_snr[:, None].expand(-1, count)
    scale = None if guidance_scale is None else guidance_scale[:, None].expand(-1, count).flatten()
    v: Tensor = network(patches.flatten(0, 1), levels.flatten(), h.flatten(0, 1), history.flatten(0, 1), known.repeat(batch), scale)
    return frames_of(v.reshape(batch, count, *v.shape[1:]))
