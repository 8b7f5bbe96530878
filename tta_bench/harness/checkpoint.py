"""Checkpoints of a training: everything from which it goes on to the same weights, in one file that is whole or absent."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from tta_bench.errors import WeightsError
from tta_bench.files import atomic_write

State = dict[str, Tensor]


@dataclass
class Checkpoint:
    """step: updates done. network, average: weights and their moving average (empty without one). optimiser: torch's state.

    running: sums since the last line of the loss log. fingerprint: of what is trained: another one is another training.
    """

    fingerprint: str
    step: int
    network: State
    optimiser: dict[str, Any]
    average: State = field(default_factory=dict)
    running: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it atomically."""
    with atomic_write(path) as file:
        torch.save(vars(checkpoint), file)


def load_checkpoint(path: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint at `path`, None where there is none.

    Raises WeightsError where the file is damaged or belongs to another training.
    """
    if not path.exists():
        return None
    try:
        checkpoint = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, UnpicklingError, EOFError, TypeError, ValueError, LookupError, AttributeError, struct.error) as error:
        raise WeightsError(f"{path}: is damaged ({type(error).__name__}) and cannot be resumed from; delete it to start again") from error
    if checkpoint.fingerprint != fingerprint:
        raise WeightsError(f"{path}: belongs to a training with another configuration, data or code version; choose another folder or delete it")
    return checkpoint
