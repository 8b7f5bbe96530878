"""Contributions of clips on disk: arrays of a cell (clips.npz), or of a whole run in few arrays (values.npz, a baseline's .npz)."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from tta_bench.errors import InputError


def read_packed(path: Path) -> dict[str, npt.NDArray[Any]]:
    """What `tta_bench.rows.packed` made, by score again. Raises InputError for a file that is not there or is damaged."""
    if not path.exists():
        raise InputError(f"{path}: is missing; it belongs beside the records, restore it")
    arrays = load_arrays(path)
    found: dict[str, npt.NDArray[Any]] = {}
    try:
        for i in range(sum(name.endswith("/names") for name in arrays)):
            for name, row in zip(arrays[f"{i}/names"], arrays[f"{i}/values"], strict=True):
                found |= {f"{name}/clip_ids": arrays[f"{i}/clip_ids"], f"{name}/values": row}
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: is not a file of per-clip values ({error}); restore it") from error
    return found


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an .npz file, none where it does not exist. Raises InputError where it cannot be read."""
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); restore it, or delete it and run again") from error
