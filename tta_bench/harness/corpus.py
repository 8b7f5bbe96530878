"""What networks are trained on: audio of one length as 16-bit samples on disk, with captions, memory-mapped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tta_bench.audio import AUDIO_VERSION, quantise, read_audio, resample
from tta_bench.data.events import EVENT_CLASSES
from tta_bench.data.manifest import CaptionedClip, read_manifest
from tta_bench.data.scene import Split, draw_scene
from tta_bench.data.synth import CLIP_SAMPLES, event_labels, other_caption, synth_clip
from tta_bench.errors import AudioError, InputError
from tta_bench.files import atomic_write, digest, sha256_file
from tta_bench.harness.processes import start_worker, usable_cores
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.recipe import Data
from tta_bench.systems.anchors import synth_code
from tta_bench.weights import cache_folder

SAMPLE_RATE_HZ = 16_000
_CHUNK = 64
_SHORTEST_S = 0.1
_STALE_S = 86_400.0
T = TypeVar("T")


@dataclass(frozen=True)
class Corpus:
    """audio: (N, T) int16, memory-mapped, 16 kHz. audio_sha256: of its samples. captions: N tuples of variants.

    scenes: (N,) int; equal numbers for clips that the same captions describe. labels: (N, K) 0/1 by `classes`, None where unknown.
    """

    audio: npt.NDArray[np.int16]
    audio_sha256: str
    captions: list[tuple[str, ...]]
    scenes: npt.NDArray[np.int64]
    labels: npt.NDArray[np.float32] | None
    classes: tuple[str, ...]

    @property
    def key(self) -> str:
        """SHA-256 of audio and captions."""
        return corpus_key(self.audio_sha256, self.audio.shape, self.captions)

    def __len__(self) -> int:
        return len(self.captions)

    def samples(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """(B, T) float32 in [-1, 1]."""
        return self.audio[indices].astype(np.float32) / 32768.0


def audible_frames(audio: npt.NDArray[np.int16], samples: int) -> npt.NDArray[np.int64]:
    """(N,) frames of `samples` samples in each clip (N, T) up to the last that is not digital silence, as padding is; 1 at least."""
    whole = audio.shape[1] // samples * samples
    counts = [1]
    for start in range(0, len(audio), 256):
        sounding = (audio[start : start + 256, :whole] != 0).reshape(-1, whole // samples, samples).any(axis=2)
        counts += [int(np.flatnonzero(row).max(initial=0)) + 1 for row in sounding]
    return np.array(counts[1:], dtype=np.int64)


def load_corpus(data: Data, progress: Progress = silent) -> Corpus:
    """The corpus that `data` describes, rendered or decoded once and cached. Raises InputError for a manifest that cannot be used."""
    return _of_manifest(data, progress) if data.manifest else _of_synth(data, progress)


def _of_synth(data: Data, progress: Progress) -> Corpus:
    key = digest(["synthcaps", synth_code(), data.split, data.seed, data.clips, data.captions_per_clip])
    path = cache_folder() / "corpora" / f"{key}.npy"
    facts = path.with_suffix(".json")
    if not facts.exists():
        chunks = [(data.seed, data.split, range(a, min(a + _CHUNK, data.clips))) for a in range(0, data.clips, _CHUNK)]
        pool = ProcessPoolExecutor(usable_cores(), initializer=start_worker)
        try:
            rows = _watched(pool.map(_render, chunks), "rendering SynthCaps", len(chunks), progress)
            audio_sha256 = store_rows(path, rows, (data.clips, CLIP_SAMPLES))
        finally:
            pool.shutdown(cancel_futures=True)  # whoever interrupts does not wait for what is queued
        captions = [[other_caption(data.seed, data.split, i, v) for v in range(data.captions_per_clip)] for i in range(data.clips)]
        with atomic_write(facts) as file:
            file.write(json.dumps({"audio_sha256": audio_sha256, "captions": captions}).encode())
    found = json.loads(facts.read_text(encoding="utf-8"))
    scenes = [draw_scene(data.seed, data.split, i) for i in range(data.clips)]
    return Corpus(
        np.load(path, mmap_mode="r"),
        found["audio_sha256"],
        [tuple(variants) for variants in found["captions"]],
        _numbered([scene.key for scene in scenes]),
        np.stack([event_labels(scene) for scene in scenes]),
        tuple(EVENT_CLASSES),
    )


def _render(chunk: tuple[int, Split, range]) -> npt.NDArray[np.int16]:
    seed, split, indices = chunk
    return np.stack([quantise(synth_clip(seed, split, i).audio)[0] for i in indices])


def _of_manifest(data: Data, progress: Progress) -> Corpus:
    assert data.manifest is not None
    clips = read_manifest(data.manifest, data.folder)
    samples = round(data.clip_s * SAMPLE_RATE_HZ)
    key = _content_key(clips, samples)
    path = cache_folder() / "corpora" / f"{key}.npy"
    if not path.exists():
        rows = _watched((_decoded(clip.path, samples)[None] for clip in clips), "reading audio", len(clips), progress)
        store_rows(path, rows, (len(clips), samples))
    classes = tuple(sorted({clip.label for clip in clips if clip.label}))
    labels = np.array([[clip.label == name for name in classes] for clip in clips], dtype=np.float32) if classes else None
    captions: list[tuple[str, ...]] = [(clip.caption,) for clip in clips]
    return Corpus(np.load(path, mmap_mode="r"), key, captions, _numbered([clip.caption for clip in clips]), labels, classes)


def _content_key(clips: Sequence[CaptionedClip], samples: int) -> str:
    return digest(["manifest", AUDIO_VERSION, samples, [sha256_file(clip.path) for clip in clips]])


def manifest_key(data: Data) -> str:
    """`Corpus.key` of a manifest's audio, without decoding it. Raises InputError for a manifest that cannot be used."""
    assert data.manifest is not None
    clips = read_manifest(data.manifest, data.folder)
    samples = round(data.clip_s * SAMPLE_RATE_HZ)
    return corpus_key(_content_key(clips, samples), (len(clips), samples), [(clip.caption,) for clip in clips])


def corpus_key(audio_sha256: str, shape: tuple[int, ...], captions: Sequence[tuple[str, ...]]) -> str:
    """SHA-256 of audio and captions."""
    return digest([audio_sha256, shape, captions])


def _decoded(path: Path, samples: int) -> npt.NDArray[np.int16]:
    """(samples,) the beginning of a file, zero-padded. Raises InputError for a file that cannot be used, or is too short to be a clip."""
    try:
        audio = read_audio(path)
    except AudioError as error:
        raise InputError(f"{path}: {error.detail}; mend the file, or remove its line from the manifest") from error
    if audio.duration_s < _SHORTEST_S:
        raise InputError(
            f"{path}: lasts {audio.duration_s:.4f} s, less than {_SHORTEST_S:g} s; give a longer clip, or remove its line from the manifest"
        )
    mono = resample(audio.samples, audio.sample_rate_hz, SAMPLE_RATE_HZ)[:samples]
    return quantise(np.pad(mono, (0, samples - len(mono))))[0]


def _watched(rows: Iterable[T], task: str, total: int, progress: Progress) -> Iterable[T]:
    for done, row in enumerate(rows, 1):
        yield row
        progress(task, done, total)


def store_rows(path: Path, parts: Iterable[npt.NDArray[Any]], shape: tuple[int, ...], dtype: str = "<i2") -> str:
    """Write parts (n, ...) one after the other as one .npy file of `shape`; SHA-256 of the values. A corpus need not fit into memory."""
    state = hashlib.sha256()
    for left in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                left.unlink()
    with atomic_write(path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        for part in parts:
            content = np.ascontiguousarray(part, dtype=dtype).tobytes()
            state.update(content)
            file.write(content)
    return state.hexdigest()


def _numbered(keys: Sequence[str]) -> npt.NDArray[np.int64]:
    """Equal keys get equal numbers."""
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)
