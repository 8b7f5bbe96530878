"""Features on disk: a content-keyed cache of clips, and packed sets that are memory-mapped."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tta_bench.audio import AUDIO_VERSION
from tta_bench.embedders.protocol import Embedder
from tta_bench.errors import InputError
from tta_bench.files import atomic_write, digest
from tta_bench.metrics.clips import ClipRows

_TENSORS = ("embeddings", "logits", "joint")
Tensors = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class ClipFacts:
    """What is known of a clip's audio besides its features. peak: largest magnitude, 1 is full scale."""

    duration_s: float
    sample_rate_hz: int
    channels: int
    silent_share: float
    peak: float


def feature_key(embedder: Embedder) -> str:
    """Fingerprint of everything but the audio that features depend on."""
    return digest([embedder.name, embedder.checksum, embedder.sample_rate_hz, AUDIO_VERSION])


@dataclass(frozen=True)
class FeatureCache:
    """A folder of features by (embedder's fingerprint, SHA-256 of the audio file's bytes): never by path or time.

    A file edited in place is another key; a touched or copied one is the same. An entry that cannot be read counts as absent.
    """

    folder: Path

    def path(self, embedder: Embedder, audio_sha256: str) -> Path:
        """Where the features of one clip are, or would be."""
        return self.folder / "features" / f"{embedder.name}-{feature_key(embedder)[:16]}" / audio_sha256[:2] / f"{audio_sha256}.safetensors"

    def facts(self, embedder: Embedder, audio_sha256: str) -> ClipFacts | None:
        """Facts of a clip whose features are there and whole, else None."""
        try:
            tensors, info = read_tensors(self.path(embedder, audio_sha256))
            facts = ClipFacts(**json.loads(info["facts"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return facts if set(tensors) == set(embedder.provides) else None

    def add(self, embedder: Embedder, audio_sha256: str, tensors: Tensors, facts: ClipFacts) -> None:
        """Store the features of one clip, atomically."""
        write_tensors(self.path(embedder, audio_sha256), [tensors], {"facts": json.dumps(asdict(facts))})


def write_tensors(path: Path, parts: Sequence[Tensors] | Sequence[Path], info: Mapping[str, str]) -> None:
    """A safetensors file whose tensors are those of `parts` stacked along the first axis; parts on disk are read one at a time."""
    shapes: dict[str, list[int]] = {}
    for part in parts:
        for name, tensor in _tensors(part).items():
            rows, *rest = tensor.shape
            known = shapes.setdefault(name, [0, *rest])
            if known[1:] != rest:
                raise InputError(f"{name} of one embedder have different lengths, {known[1:]} and {rest}; an embedder must give all clips the same")
            known[0] += rows
    state = hashlib.sha256()
    with atomic_write(path) as file:
        file.write(_header(shapes, {**info, "content_sha256": state.hexdigest()}))
        for name in shapes:
            for part in parts:
                data = np.ascontiguousarray(_tensors(part)[name], dtype="<f4").tobytes()
                state.update(data)
                file.write(data)
        file.seek(0)  # the checksum is known now, and as long as the one that stood for it
        file.write(_header(shapes, {**info, "content_sha256": state.hexdigest()}))


def _header(shapes: Mapping[str, list[int]], info: Mapping[str, str]) -> bytes:
    """What precedes the content of a safetensors file: length of the description, description padded to 8 bytes."""
    header: dict[str, Any] = {"__metadata__": dict(info)}
    offset = 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded


def _tensors(part: Tensors | Path) -> Tensors:
    return read_tensors(part)[0] if isinstance(part, Path) else part


def read_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Memory-mapped float32 tensors and the metadata of a file that `write_tensors` wrote; OSError or ValueError where it is not whole.

    numpy maps the file itself: the safetensors package copies every tensor into memory. The content is checked against its SHA-256.
    """
    try:
        return _read_tensors(path)
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError, struct.error) as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def _read_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    (length,) = struct.unpack("<Q", mapped[:8].tobytes())
    header = json.loads(mapped[8 : 8 + length].tobytes())
    info = header.pop("__metadata__")
    content = mapped[8 + length :]
    if hashlib.sha256(content.data).hexdigest() != info["content_sha256"]:
        raise ValueError(f"{path} is damaged (its content has another checksum)")
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        tensors[name] = content[start:end].view("<f4").reshape(entry["shape"])
    if "embeddings" not in tensors:
        raise ValueError(f"{path} is damaged (it holds no embeddings)")
    return tensors, info


@dataclass(frozen=True)
class FeatureSet:
    """Features of a set of clips under one embedder, memory-mapped; `ClipRows` views of each kind, None where the embedder has none."""

    embeddings: ClipRows
    logits: ClipRows | None
    joint: ClipRows | None

    def of(self, source: str) -> ClipRows | None:
        """By the name of a metric's source."""
        rows: ClipRows | None = getattr(self, source)
        return rows


def pack(path: Path, clip_ids: Sequence[str], parts: Sequence[Tensors] | Sequence[Path], key: str) -> FeatureSet:
    """Put clips' features (in memory, or cache entries) into one file, unless it already holds exactly them (`key`), and map it."""
    packed = load_pack(path, key)
    if packed is None:
        counts = [len(_tensors(part)["embeddings"]) for part in parts]
        write_tensors(path, parts, {"key": key, "clip_ids": json.dumps(list(clip_ids)), "counts": json.dumps(counts)})
        packed = load_pack(path, key)
    if packed is None:
        raise InputError(f"{path}: was changed while it was in use; run again")
    return packed


def load_pack(path: Path, key: str) -> FeatureSet | None:
    """The features that `pack` put there under `key`; None where they are not there or the file is damaged."""
    try:
        tensors, info = read_tensors(path)
        ids, counts = json.loads(info["clip_ids"]), json.loads(info["counts"])
    except (OSError, ValueError, KeyError):
        return None
    if info.get("key") != key or len(ids) != len(counts) or sum(counts) != len(tensors["embeddings"]):
        return None
    starts = np.cumsum([0, *counts])
    parts = [tensors["embeddings"][a:b] for a, b in itertools.pairwise(starts)]
    rows = {name: ClipRows.of(ids, list(tensors[name])) for name in _TENSORS[1:] if name in tensors}
    return FeatureSet(ClipRows.of(ids, parts), rows.get("logits"), rows.get("joint"))


def feature_set(clip_ids: Sequence[str], parts: Sequence[Tensors]) -> FeatureSet:
    """Features in memory."""
    rows = {name: ClipRows.of(clip_ids, [part[name][0] for part in parts]) for name in _TENSORS[1:] if parts and name in parts[0]}
    return FeatureSet(ClipRows.of(clip_ids, [part["embeddings"] for part in parts]), rows.get("logits"), rows.get("joint"))
