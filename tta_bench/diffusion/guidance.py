"""Classifier-free guidance (Ho & Salimans 2022) in its two conventions, which differ by one.

`guidance_scale` s: v(null) + s (v(c) - v(null)), 1 means none; diffusers, Tango, ConsistencyTTA. `guidance_weight` w:
(1 + w) v(c) - w v(null), 0 means none; the paper. s = w + 1. Everything in this project stores s.
"""

from __future__ import annotations

from torch import Tensor


def guided(v_cond: Tensor, v_null: Tensor, guidance_scale: float | Tensor) -> Tensor:
    """v(null) + s (v(c) - v(null)); a tensor of scales must broadcast to v."""
    return v_null + guidance_scale * (v_cond - v_null)


def guided_by_weight(v_cond: Tensor, v_null: Tensor, guidance_weight: float | Tensor) -> Tensor:
    """(1 + w) v(c) - w v(null)."""
    return (1.0 + guidance_weight) * v_cond - guidance_weight * v_null


def scale_from_weight(guidance_weight: float) -> float:
    """s = w + 1."""
    return guidance_weight + 1.0


def weight_from_scale(guidance_scale: float) -> float:
    """w = s - 1."""
    return guidance_scale - 1.0
