"""Named random generators: no global seed anywhere.

A stream is named by what it is for, e.g. `generator(seed, "noise", clip_id)`. The name is hashed, so that a clip
gets the same noise in every batch, order, process and system.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream_seed(seed: int, *names: str | int) -> int:
    """128-bit seed of the stream called `names` under `seed`; equal names give equal streams, nothing else does."""
    text = "\x1f".join([str(int(seed)), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """numpy generator (PCG64) of the stream called `names` under `seed`."""
    return np.random.Generator(np.random.PCG64(stream_seed(seed, *names)))
