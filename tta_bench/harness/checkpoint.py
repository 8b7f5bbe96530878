"""Checkpoints of a training: everything from which it goes on to the same weights, in one file that is whole or absent."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from tta_bench.errors import WeightsError
from tta_bench.files import atomic_write

State = dict[str, Tensor]
_DAMAGE = (OSError, RuntimeError, UnpicklingError, EOFError, TypeError, ValueError, LookupError, AttributeError, struct.error)


@dataclass
class Checkpoint:
    """step: updates done. network, average: weights and their moving average (empty without one). optimiser: torch's state.

    running: sums since the last line of the loss log. fingerprint: of what is trained (`facts`): another one is another training.
    """

    fingerprint: str
    step: int
    network: State
    optimiser: dict[str, Any]
    average: State = field(default_factory=dict)
    running: dict[str, Any] = field(default_factory=dict)
    facts: str = "{}"


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it atomically."""
    with atomic_write(path) as file:
        torch.save(vars(checkpoint), file)


def load_checkpoint(path: Path, fingerprint: str, facts: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint at `path`, None where there is none. facts: what `fingerprint` is of, to say what differs.

    Raises WeightsError where the file is damaged or belongs to another training.
    """
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums of what it loads
            if archive.testzip() is not None:
                raise ValueError("checksum")
        checkpoint = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(f"{path}: is damaged ({type(error).__name__}) and cannot be resumed from; delete it to start again") from error
    if checkpoint.fingerprint != fingerprint:
        differing = first_difference(json.loads(checkpoint.facts), facts)
        what = f" ({differing})" if differing else ""
        raise WeightsError(f"{path}: belongs to a training with another configuration or data{what}; choose another folder or delete it")
    return checkpoint


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Of two nested mappings, among the keys that both have: "key = 1 there, 2 wanted"; empty where nothing differs."""
    for key in (key for key in old if key in new):
        a, b = old[key], new[key]
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            inner = first_difference(a, b)
            if inner:
                return f"{key}.{inner}"
        elif json.loads(json.dumps(a)) != json.loads(json.dumps(b)):
            return f"{key} = {_short(a)} there, {_short(b)} wanted"
    return ""


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
