"""Weights of published networks in the cache folder."""

from __future__ import annotations

from pathlib import Path

from tta_bench.errors import WeightsError
from tta_bench.weights import cache_folder


def find(name: str) -> Path | None:
    """Where the weights called `name` lie, None where they are not there."""
    path = cache_folder() / "weights" / name
    return path if path.exists() else None


def checkpoint(name: str) -> Path:
    """As `find`; raises WeightsError saying how to get what is not there."""
    path = find(name)
    if path is None:
        raise WeightsError(f"{name}: its weights are not there; fetch them with: tta-bench weights pull {name}")
    return path
