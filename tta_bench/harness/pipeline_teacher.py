"""Teachers that are pretrained pipelines: their denoiser seen as a v-prediction network on its own noise schedule.

Students are networks of the same kind that also take a guidance scale, through the input that diffusers' UNets have for it
(time_cond_proj_dim, as in Luo et al. 2023, arXiv 2310.04378); `folded` builds one fixed scale into the weights, exactly.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tta_bench.diffusion.discrete import DiscreteSchedule
from tta_bench.diffusion.parameterization import v_from_eps, v_from_x
from tta_bench.diffusion.schedule import alpha_sigma
from tta_bench.errors import ConfigError
from tta_bench.harness.teachers import Text
from tta_bench.systems.pipeline import Pipeline
from tta_bench.systems.schedulers import plain_config

_FEATURES = 64
_INPUT = "time_embedding.cond_proj.weight"  # of the guidance scale
_NULL = "null."


@dataclass(frozen=True)
class PipelineTeacher:
    """See `tta_bench.harness.teachers.Teacher`. pipeline: whose text encoder and way of calling a denoiser are used.

    guided: a denoiser that predicts v and takes the guidance scale; None is the pipeline's own, which predicts what its scheduler says.
    checkpointing: students compute activations again instead of keeping them.
    """

    pipeline: Pipeline
    audio_s: float
    sha256: str
    schedule: DiscreteSchedule
    steps: int
    guided: nn.Module | None = None
    checkpointing: bool = False

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of one clip of `audio_s`."""
        return self.pipeline.latent_shape(self.audio_s)

    @property
    def patch(self) -> None:
        """See `Teacher`."""
        return

    def freeze(self, device: torch.device) -> None:
        """See `Teacher`."""
        self.pipeline.parts.to(device)
        for part in self.pipeline.parts.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
        if self.guided is not None:
            self.guided.requires_grad_(False).eval().to(device)

    def student(self) -> nn.Module:
        """See `Teacher`. In float32, whatever the pipeline runs in. With weights that were trained to predict eps or x it starts far from v, at
        a larger error than zeros would have, and stage 1 also has to teach it what to predict: v = (eps - sigma z) / alpha.
        """
        made = with_scale(self.pipeline.denoiser) if self.guided is None else copy.deepcopy(self.guided)
        made.float().requires_grad_(True).train()
        if self.checkpointing:
            made.enable_gradient_checkpointing()  # type: ignore[operator]
        return made

    def encode(self, captions: Sequence[str], x: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """The pipeline's conditioning; for its own denoiser also that of the empty prompt."""
        text = self.pipeline.conditioning(captions, self.audio_s)
        if self.guided is not None:
            return text
        null = self.pipeline.null_conditioning(captions, self.audio_s)
        return text | {f"{_NULL}{name}": value for name, value in null.items()}

    def predict(self, z: Tensor, log_snr: Tensor, text: Text, guidance_scale: Tensor | None) -> Tensor:
        """See `Teacher`."""
        if self.guided is None:
            return self._own(z, log_snr, {name: value for name, value in text.items() if not name.startswith(_NULL)})
        assert guidance_scale is not None  # a guided network is asked with one
        return self.apply(self.guided, z, log_snr, text, guidance_scale)

    def predict_null(self, z: Tensor, log_snr: Tensor, text: Text) -> Tensor:
        """See `Teacher`."""
        return self._own(z, log_snr, {name.removeprefix(_NULL): value for name, value in text.items() if name.startswith(_NULL)})

    def _own(self, z: Tensor, log_snr: Tensor, conditioning: dict[str, Tensor]) -> Tensor:
        """v of the pipeline's own denoiser, float32: dividing by alpha multiplies an error by up to 84."""
        output = self.pipeline.denoise(z.to(self.pipeline.dtype), self.schedule.timesteps(log_snr), conditioning).float()
        kind = self.pipeline.prediction_type
        if kind == "v_prediction":
            return output
        alpha, sigma = (part.view(-1, *[1] * (z.dim() - 1)) for part in alpha_sigma(log_snr))
        if kind == "epsilon":
            return v_from_eps(z.float(), output, alpha, sigma)
        return v_from_x(z.float(), output, alpha, sigma)

    def apply(self, network: nn.Module, z: Tensor, log_snr: Tensor, text: Text, guidance_scale: Tensor) -> Tensor:
        """See `Teacher`."""
        conditioning = {name: value for name, value in text.items() if not name.startswith(_NULL)}
        conditioning["timestep_cond"] = scale_features(guidance_scale).to(z.dtype)
        return self.pipeline.denoise(z, self.schedule.timesteps(log_snr), conditioning, network)


def schedule_of(pipeline: Pipeline) -> DiscreteSchedule:
    """The noise schedule that a pipeline was trained on. Raises ConfigError where it is not one of discrete timesteps, or predicts something else."""
    if pipeline.prediction_type not in ("epsilon", "v_prediction", "sample"):
        raise ConfigError(f"{pipeline.name}: predicts {pipeline.prediction_type!r}; only epsilon, v_prediction and sample can be distilled")
    return DiscreteSchedule(tuple(pipeline.alphas_cumprod.tolist()), pipeline.final_alpha_cumprod)


def with_scale(denoiser: Any) -> Any:
    """A copy of a UNet that takes a guidance scale, and at first ignores it. Raises ConfigError for a denoiser that cannot, or already does."""
    config = getattr(denoiser, "config", {})
    if "time_cond_proj_dim" not in config:
        raise ConfigError(f"{type(denoiser).__name__} has no input for a guidance scale; only UNets of diffusers can be distilled")
    if config["time_cond_proj_dim"] is not None:
        raise ConfigError(f"{type(denoiser).__name__} takes a guidance scale already; distil the teacher that it was made from")
    made = _with(denoiser, _FEATURES, denoiser.state_dict())
    nn.init.zeros_(made.get_parameter(_INPUT))
    return made


def folded(denoiser: Any, guidance_scale: float) -> Any:
    """The denoiser without the input for the guidance scale, which is `guidance_scale` from now on: W (t + P f) + b = W t + (W P f + b)."""
    state = {name: value.detach().cpu() for name, value in denoiser.state_dict().items()}
    features = scale_features(torch.tensor([guidance_scale]))[0].double()
    shift = state["time_embedding.linear_1.weight"].double() @ (state.pop(_INPUT).double() @ features)
    state["time_embedding.linear_1.bias"] = (state["time_embedding.linear_1.bias"].double() + shift).float()
    return _with(denoiser, None, state)


def _with(denoiser: Any, width: int | None, state: dict[str, Tensor]) -> Any:
    """A UNet of the same configuration but for the width of the guidance scale's input."""
    with torch.random.fork_rng(devices=[]):  # its initial weights are overwritten
        made = type(denoiser).from_config({**plain_config(denoiser), "time_cond_proj_dim": width})
    absent, extra = made.load_state_dict(state, strict=False)
    if extra or set(absent) - {_INPUT}:
        raise ConfigError(f"{type(denoiser).__name__} cannot be rebuilt from its configuration ({[*absent, *extra][0]}); is diffusers too old?")
    return made.eval()


def scale_features(guidance_scale: Tensor) -> Tensor:
    """(B,) -> (B, 64) float32: sines and cosines of 4 log s at 32 geometric frequencies from 0.5 to 20 radians."""
    frequencies = torch.logspace(math.log10(0.5), math.log10(20.0), _FEATURES // 2, device=guidance_scale.device)
    angles = 4.0 * torch.log(guidance_scale.float())[:, None] * frequencies
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
