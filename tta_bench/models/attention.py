"""Attention, and the plain pre-norm transformer block of text encoder and audio tower."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

KeyValues = tuple[Tensor, Tensor]
"""keys and values of a layer, (B, heads, S, d) each"""


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, L, parts D) -> parts of (B, heads, L, D / heads)."""
    batch, length, width = x.shape
    return x.reshape(batch, length, parts, heads, width // (parts * heads)).permute(2, 0, 3, 1, 4).unbind(0)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """q (B, heads, L, d), k, v (B, heads, S, d), mask (B, S) or (B, L, S) bool of what may be looked at -> (B, L, heads d)."""
    allowed = None if mask is None else (mask[:, None, None, :] if mask.dim() == 2 else mask[:, None]).expand(-1, 1, q.shape[2], -1)
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":  # the bfloat16 kernel's backward is 15 times slower there
        q, k, v = q.float(), k.float(), v.float()
    with torch.autocast(q.device.type, enabled=False):
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2)


class TransformerBlock(nn.Module):
    """(B, L, D) -> (B, L, D): self-attention, then an MLP of four times the width, layer norm before each."""

    def __init__(self, dim: int, heads: int, ratio: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, ratio * dim)
        self.contract = nn.Linear(ratio * dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask (B, L) bool, True where there is something; or (B, L, L), True where a position may look."""
        q, k, v = split_heads(self.qkv(self.norm1(x)), 3, self.heads)
        return self._after(x, attend(q, k, v, mask))

    def extend(self, x: Tensor, mask: Tensor, cache: KeyValues | None = None) -> tuple[Tensor, KeyValues]:
        """The same for positions x (B, L, D) that follow those of `cache`, S - L of them; mask (B, L, S). Keys and values of all S come back."""
        q, k, v = split_heads(self.qkv(self.norm1(x)), 3, self.heads)
        if cache is not None:
            k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)
        return self._after(x, attend(q, k, v, mask)), (k, v)

    def _after(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.mix(attended)
        y: Tensor = x + self.contract(functional.gelu(self.expand(self.norm2(x))))
        return y
