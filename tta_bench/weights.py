"""Weights from disk: safetensors only, checked by name and shape before anything runs; and where caches live."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tta_bench.errors import WeightsError


def load_weights(path: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, npt.NDArray[np.float32]]:
    """float32 tensors of a safetensors file, exactly those that `expected` names, in its shapes.

    Raises WeightsError naming the file and the first tensor that is missing, extra, misshapen or not finite.
    """
    return check_weights(path, _read(path), expected)


def check_weights(path: Path, tensors: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> dict[str, npt.NDArray[np.float32]]:
    """`tensors` of a file as float32, exactly those that `expected` names, in its shapes. Raises as `load_weights`."""
    for name, shape in expected.items():
        if name not in tensors:
            raise WeightsError(f"{path}: tensor {name} is missing; is this the right file?")
        if tensors[name].shape != shape:
            raise WeightsError(f"{path}: tensor {name} has shape {tensors[name].shape}, not {shape}; is this the right file?")
        if not np.isfinite(tensors[name]).all():
            raise WeightsError(f"{path}: tensor {name} holds NaN or infinity; fetch the file again")
    extra = sorted(set(tensors) - set(expected))
    if extra:
        raise WeightsError(f"{path}: holds tensors of another model, e.g. {extra[0]}; is this the right file?")
    return {name: np.asarray(tensors[name], dtype=np.float32) for name in expected}


def _read(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        if not path.exists():
            raise WeightsError(f"{path}: does not exist; check the path after the colon")
        if path.is_dir():
            raise WeightsError(f"{path}: is a folder; name the .safetensors file in it")
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: is not a readable safetensors file ({error}); fetch or convert it again") from error


def cache_folder() -> Path:
    """$TTA_BENCH_CACHE, or the user's cache folder: content-keyed, so it may be deleted at any time."""
    chosen = os.environ.get("TTA_BENCH_CACHE")
    if chosen:
        return Path(chosen)
    import pooch

    return Path(pooch.os_cache("tta-bench"))
