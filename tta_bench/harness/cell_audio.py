"""The audio of a cell on disk: 16-bit FLAC, and generation.json, written last, which says what is there and how long it took."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tta_bench.audio import Audio, encode, quantise, read_audio
from tta_bench.errors import AudioError
from tta_bench.files import cannot_write, write_text
from tta_bench.harness.catalogue import Cell
from tta_bench.harness.environment import describe_host
from tta_bench.harness.generate import generate_batches
from tta_bench.harness.progress import Progress
from tta_bench.records import now
from tta_bench.systems.protocol import System

FORMAT = 1


@dataclass
class Generation:
    """What a system made for a cell. hashes: SHA-256 of each clip's file. clipped: samples beyond full scale, by clip. failed: reasons by clip.

    batches: clips, sampling_s and decoding_s of each batch, on the machine `host`.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    clipped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    batches: list[dict[str, Any]] = field(default_factory=list)
    sample_rate_hz: int = 0
    device: str = "cpu"
    host: dict[str, Any] = field(default_factory=dict)
    audio_s: float = 0.0
    created: str = ""


@dataclass
class CellAudio:
    """A cell's folder, and the samples as they will be read back from it."""

    folder: Path
    generation: Generation
    samples: dict[str, Audio] = field(default_factory=dict)

    def read(self) -> dict[str, Audio]:
        """Audio by clip id. Raises AudioError where a file is gone or another than was written."""
        for clip_id, sha256 in self.generation.hashes.items():
            if clip_id not in self.samples:
                path = clip_path(self.folder, clip_id)
                if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                    raise AudioError("missing", path, "is gone or was changed since it was generated")
                self.samples[clip_id] = read_audio(path)
        return self.samples


def clip_path(folder: Path, clip_id: str) -> Path:
    """Where a clip's audio lies in a cell's folder."""
    return folder / "audio" / f"{clip_id}.flac"


def load_generation(cell: Cell, folder: Path) -> CellAudio | None:
    """The audio that is there whole, else None. Clips that failed are tried again: they are not whole."""
    try:
        known = json.loads((folder / "generation.json").read_text(encoding="utf-8"))
        if known.pop("format") != FORMAT:
            return None
        generation = Generation(**known)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = set(generation.hashes) == {clip.clip_id for clip in cell.clips} and all(clip_path(folder, i).exists() for i in generation.hashes)
    return CellAudio(folder, generation) if whole else None


def generate_cell(cell: Cell, system: System, folder: Path, batch_size: int, progress: Progress, load: Mapping[str, Any] | None = None) -> CellAudio:
    """Generate, write and return the audio of all clips of a cell; those that fail are named in the result.

    load: what else than the machine the times depend on, noted beside it.
    """
    host = describe_host(cell.device) | dict(load or {})
    made = CellAudio(folder, Generation(sample_rate_hz=system.sample_rate_hz, device=cell.device, host=host))
    done = 0
    for batch in generate_batches(system, cell.clips, cell.setting, batch_size, cell.device):
        made.generation.failed |= batch.failed
        for clip_id, samples in batch.audio.items():
            _write(made, clip_id, samples)
        if batch.audio and cell.source.timed:
            seconds = {"sampling_s": batch.sampling_s, "decoding_s": batch.decoding_s}
            made.generation.batches.append({"clips": len(batch.audio) + len(batch.failed), **seconds})
        done += len(batch.audio) + len(batch.failed)
        progress("generating", done, len(cell.clips), cell.label)
    save_generation(made)
    return made


def _write(made: CellAudio, clip_id: str, samples: Any) -> None:
    """Not synced: generation.json names the checksum of every file, and a file that differs is made again."""
    integers, clipped = quantise(samples)
    rate = made.generation.sample_rate_hz
    data = encode(integers, rate)
    path = clip_path(made.folder, clip_id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise cannot_write(path, error) from error
    made.generation.hashes[clip_id] = hashlib.sha256(data).hexdigest()
    made.generation.audio_s += len(integers) / rate
    if clipped:
        made.generation.clipped[clip_id] = clipped
    made.samples[clip_id] = Audio((integers / 32768.0).astype(np.float32), rate, 1)


def save_generation(made: CellAudio) -> None:
    """Write generation.json: from now on the audio counts as there."""
    made.generation.created = now()
    write_text(made.folder / "generation.json", json.dumps({"format": FORMAT, **vars(made.generation)}, indent=1) + "\n")


def clip_ids(made: CellAudio) -> Sequence[str]:
    """Clips that are there, in order."""
    return sorted(made.generation.hashes)
