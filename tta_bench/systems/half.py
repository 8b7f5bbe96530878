"""Networks in half precision inside a sampler that is not: z, guidance and the scheduler's steps stay in float32, as under autocast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def keep_float32_outside(denoiser: nn.Module) -> None:
    """Have a denoiser in half precision take float32 tensors and give float32 ones. A sampler's state in bfloat16 keeps 8 bits of z: every step
    would round it by more than small steps change it. Does nothing for a denoiser in float32.
    """
    if next(denoiser.parameters()).dtype != torch.float32:
        denoiser.register_forward_pre_hook(_inputs, with_kwargs=True)
        denoiser.register_forward_hook(_outputs)


def _inputs(denoiser: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """z and conditioning; timesteps, the second argument, are embedded in float32 by the network itself."""
    dtype = next(denoiser.parameters()).dtype
    cast = tuple(value if i == 1 else _cast(value, dtype) for i, value in enumerate(arguments))
    return cast, {name: value if name == "timestep" else _cast(value, dtype) for name, value in keywords.items()}


def _outputs(denoiser: nn.Module, arguments: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(_cast(value, torch.float32) for value in output)
    output.sample = _cast(output.sample, torch.float32)
    return output


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
