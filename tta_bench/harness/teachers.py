"""Teachers of distillation: what a distillation asks of them, and those of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from tta_bench.diffusion.schedule import Schedule
from tta_bench.models.denoiser import Denoiser, TextCondition
from tta_bench.models.text import TextEncoder

Text = Mapping[str, Tensor]
"""what captions have become, (B, ...) each"""


class Teacher(Protocol):
    """sha256: of its weights. schedule: it was trained on. steps: on whose grid it samples. latent_shape: of one clip. patch: latent frames that
    are made together, clips ending with a whole number of them; None where a clip is made at once, its padding too.
    """

    @property
    def sha256(self) -> str: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def steps(self) -> int: ...
    @property
    def latent_shape(self) -> tuple[int, ...]: ...
    @property
    def patch(self) -> int | None: ...

    def freeze(self, device: torch.device) -> None:
        """Put its networks on the device, to be trained no more."""
        ...

    def student(self) -> nn.Module:
        """A network that starts with the teacher's weights, for `apply`: as the teacher itself where that predicts v."""
        ...

    def encode(self, captions: Sequence[str], x: Tensor) -> dict[str, Tensor]:
        """Captions as `predict` and `apply` take them. x: the clean latents (B, ...), of which an autoregressive teacher sees what came before."""
        ...

    def predict(self, z: Tensor, log_snr: Tensor, text: Text, guidance_scale: Tensor | None) -> Tensor:
        """The teacher's v (B, ...) for z (B, ...) at log_snr (B,). guidance_scale (B,): where guidance is folded in."""
        ...

    def predict_null(self, z: Tensor, log_snr: Tensor, text: Text) -> Tensor:
        """The same without the captions of `text`: what classifier-free guidance sets against `predict`."""
        ...

    def apply(self, network: nn.Module, z: Tensor, log_snr: Tensor, text: Text, guidance_scale: Tensor) -> Tensor:
        """A student's v."""
        ...


@dataclass(frozen=True)
class BundleTeacher:
    """A trained denoiser with its text encoder. See `Teacher`."""

    denoiser: Denoiser
    text: TextEncoder
    sha256: str
    schedule: Schedule
    steps: int

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, L)"""
        return self.denoiser.shape.channels, self.denoiser.shape.frames

    @property
    def patch(self) -> None:
        """See `Teacher`."""
        return

    def freeze(self, device: torch.device) -> None:
        """See `Teacher`."""
        for network in (self.denoiser, self.text):
            network.requires_grad_(False).eval().to(device)

    def student(self) -> nn.Module:
        """See `Teacher`."""
        student = Denoiser(self.denoiser.shape)
        student.load_state_dict(self.denoiser.state_dict())
        return student

    def encode(self, captions: Sequence[str], x: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """states (B, S, D), mask (B, S)."""
        states, mask = self.text(self.text.tokenise(captions).to(next(self.text.parameters()).device))
        return {"states": states, "mask": mask}

    def predict(self, z: Tensor, log_snr: Tensor, text: Text, guidance_scale: Tensor | None) -> Tensor:
        """See `Teacher`."""
        return _v(self.denoiser, z, log_snr, text, guidance_scale)

    def predict_null(self, z: Tensor, log_snr: Tensor, text: Text) -> Tensor:  # noqa: ARG002
        """See `Teacher`: the denoiser has a token of its own for no text."""
        return _v(self.denoiser, z, log_snr, None, None)

    def apply(self, network: nn.Module, z: Tensor, log_snr: Tensor, text: Text, guidance_scale: Tensor) -> Tensor:
        """See `Teacher`."""
        return _v(network, z, log_snr, text, guidance_scale)


def _v(network: nn.Module, z: Tensor, log_snr: Tensor, text: Text | None, guidance_scale: Tensor | None) -> Tensor:
    condition = TextCondition(text["states"], text["mask"]) if text is not None else None
    v: Tensor = network(z, log_snr, condition, guidance_scale)
    return v
