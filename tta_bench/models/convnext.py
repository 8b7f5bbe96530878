"""ConvNeXt block in one dimension (Liu et al. 2022, arXiv 2201.03545), as neural vocoders use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CausalConv1d(nn.Conv1d):
    """(B, D, L) -> (B, D', L): padded on the left alone, so that a frame knows only those before it and itself."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, D, L) -> (B, D', L)."""
        return super().forward(nn.functional.pad(input, (self.kernel_size[0] - 1, 0)))


class ConvNeXt(nn.Module):
    """(B, D, L) -> (B, D, L): depthwise convolution over 7 frames, then a pointwise network with a residual connection.

    Normalises each frame by itself, so the receptive field is 3 frames to each side, or the 6 before where it is causal.
    """

    def __init__(self, dim: int, hidden: int, causal: bool = False) -> None:
        super().__init__()
        self.depthwise = CausalConv1d(dim, dim, 7, groups=dim) if causal else nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, L) -> (B, D, L)."""
        y = self.norm(self.depthwise(x).transpose(1, 2))
        y = self.contract(nn.functional.gelu(self.expand(y)))
        out: Tensor = x + (self.scale * y).transpose(1, 2)
        return out
