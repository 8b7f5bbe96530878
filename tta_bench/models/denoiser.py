"""The denoiser: a diffusion transformer (Peebles & Xie 2023, arXiv 2212.09748) over latent frames that predicts v.

Conditioned on log_snr and, once guided, on the guidance scale by adaptive layer norms that all blocks share but for a learned offset
(Chen et al. 2023, arXiv 2310.00426: adaLN-single), and on text by cross-attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tta_bench.models.attention import attend, split_heads


@dataclass(frozen=True)
class DenoiserShape:
    """Sizes. channels, frames: of the latent. text_dim: of the text encoder's states.

    log_snr_limit: noise levels are told apart within +- this only. Beyond it z is noise, or data, to 0.7 %, and training with uniform t meets
    so few of those levels (2e-5 of all beyond 19) that their embeddings would stay as they began: at t = 1, where every sampler starts.
    """

    channels: int = 16
    frames: int = 32
    dim: int = 128
    layers: int = 5
    heads: int = 4
    mlp_ratio: int = 2
    text_dim: int = 128
    log_snr_limit: float = 10.0


@dataclass(frozen=True)
class TextCondition:
    """states (B, S, D), mask (B, S) bool."""

    states: Tensor
    mask: Tensor


class Denoiser(nn.Module):
    """z (B, C, L) at log_snr (B,), with a text condition (None: unconditional) and guidance scale (B,) (None: not guided) -> v (B, C, L).

    A guided network emulates classifier-free guidance in one evaluation; its scale embedding starts at zero, so that a student copied from
    an unguided teacher starts as that teacher.
    """

    def __init__(self, shape: DenoiserShape | None = None) -> None:
        super().__init__()
        self.shape = shape or DenoiserShape()
        s = self.shape
        self.inward = nn.Linear(s.channels, s.dim)
        self.positions = nn.Parameter(0.02 * torch.randn(s.frames, s.dim))
        self.no_text = nn.Parameter(0.02 * torch.randn(1, 1, s.text_dim))
        self.noise_level = ScalarEmbedding(s.dim, lowest=0.05, highest=5.0)
        self.guidance = ScalarEmbedding(s.dim, lowest=0.5, highest=20.0)
        nn.init.zeros_(self.guidance.out.weight)
        nn.init.zeros_(self.guidance.out.bias)
        self.modulation = nn.Linear(s.dim, 6 * s.dim)
        self.blocks = nn.ModuleList(Block(s.dim, s.heads, s.mlp_ratio, s.text_dim) for _ in range(s.layers))
        self.last_offset = nn.Parameter(torch.zeros(2, s.dim))
        self.outward = nn.Linear(s.dim, s.channels)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, z: Tensor, log_snr: Tensor, text: TextCondition | None = None, guidance_scale: Tensor | None = None) -> Tensor:
        """See the class. v is in z's dtype, or what autocast makes of it."""
        condition = self.noise_level(log_snr.clamp(-self.shape.log_snr_limit, self.shape.log_snr_limit))
        if guidance_scale is not None:
            condition = condition + self.guidance(4.0 * torch.log(guidance_scale))
        text = text or TextCondition(self.no_text, torch.ones(1, 1, dtype=torch.bool, device=z.device))
        x = self.inward(z.transpose(1, 2)) + self.positions
        shared = self.modulation(functional.silu(condition)).reshape(len(condition), 6, -1)
        for block in self.blocks:
            x = block(x, shared, text)
        shift, scale = (condition[:, None] + self.last_offset).unbind(1)
        v: Tensor = self.outward(modulated(x, shift, scale))
        return v.transpose(1, 2)


class ScalarEmbedding(nn.Module):
    """(B,) -> (B, D): sines and cosines of 32 frequencies, geometric from lowest to highest radians per unit, then two layers."""

    frequencies: Tensor

    def __init__(self, dim: int, lowest: float, highest: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(math.log10(lowest), math.log10(highest), 32), persistent=False)
        self.hidden = nn.Linear(64, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, value: Tensor) -> Tensor:
        """(B,) -> (B, D)."""
        angles = value.float()[:, None] * self.frequencies
        features = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
        embedded: Tensor = self.out(functional.silu(self.hidden(features.to(self.hidden.weight.dtype))))
        return embedded


class Block(nn.Module):
    """Self-attention, cross-attention to the text (where there is a `text_dim`), MLP; (B, L, D) -> (B, L, D)."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int, text_dim: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.offset = nn.Parameter(torch.zeros(6, dim))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)
        if text_dim is not None:
            self.cross_norm = nn.LayerNorm(dim)
            self.query = nn.Linear(dim, dim)
            self.key_value = nn.Linear(text_dim, 2 * dim)
            self.cross_mix = nn.Linear(dim, dim)
        self.expand = nn.Linear(dim, mlp_ratio * dim)
        self.contract = nn.Linear(mlp_ratio * dim, dim)

    def forward(self, x: Tensor, shared: Tensor, text: TextCondition | None = None) -> Tensor:
        """x (B, L, D), shared modulation (B, 6, D)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (shared + self.offset).unbind(1)
        q, k, v = split_heads(self.qkv(modulated(x, shift1, scale1)), 3, self.heads)
        x = x + gate1[:, None] * self.mix(attend(q, k, v))
        if text is not None:
            (q,) = split_heads(self.query(self.cross_norm(x)), 1, self.heads)
            k, v = (part.expand(len(x), -1, -1, -1) for part in split_heads(self.key_value(text.states), 2, self.heads))
            x = x + self.cross_mix(attend(q, k, v, text.mask.expand(len(x), -1)))
        hidden = functional.gelu(self.expand(modulated(x, shift2, scale2)))
        out: Tensor = x + gate2[:, None] * self.contract(hidden)
        return out


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without parameters of its own, then x (1 + scale) + shift; shift, scale (B, D)."""
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1.0 + scale[:, None]) + shift[:, None]
