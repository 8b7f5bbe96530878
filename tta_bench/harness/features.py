"""From audio files to cached features: hash, decode once, resample, embed in batches. Decoding runs ahead of the networks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tta_bench.audio import Audio, decode, read_bytes, resample, silent_share
from tta_bench.data.manifest import ClipFile
from tta_bench.embedders.protocol import Embedder, Features, Floats, pad_batch
from tta_bench.errors import AudioError, InputError
from tta_bench.harness.progress import Progress
from tta_bench.harness.store import ClipFacts, FeatureCache, Tensors


@dataclass(frozen=True)
class EmbeddedClip:
    """A clip whose features under every embedder are in the cache."""

    clip_id: str
    audio_sha256: str
    facts: ClipFacts


@dataclass
class EmbeddedSet:
    """clips: usable ones sorted by id. excluded: files that could not be used, by clip id. embedded: how many were not in the cache."""

    clips: list[EmbeddedClip] = field(default_factory=list)
    excluded: dict[str, AudioError] = field(default_factory=dict)
    embedded: int = 0


@dataclass(frozen=True)
class EmbedOptions:
    """skip_bad: leave bad files out instead of stopping. batch_size: clips. progress, task: who is told, under which name."""

    skip_bad: bool
    batch_size: int
    progress: Progress
    task: str


@dataclass(frozen=True)
class _Loaded:
    clip: ClipFile
    sha256: str
    facts: ClipFacts
    audio: dict[str, Floats]  # resampled, by name of the embedders whose features are missing


def embed_clips(
    clips: Sequence[ClipFile],
    embedders: Sequence[Embedder],
    cache: FeatureCache,
    options: EmbedOptions,
) -> EmbeddedSet:
    """Put features of all clips under all embedders into the cache.

    A file that cannot be used raises its AudioError, or, with `options.skip_bad`, is left out under every embedder alike and listed.
    """
    result = EmbeddedSet()
    done = 0
    options.progress(options.task, 0, len(clips))
    for batch in _loaded_batches(clips, embedders, cache, options.batch_size):
        good: list[_Loaded] = []
        for clip, loaded in batch:
            if isinstance(loaded, AudioError):
                if not options.skip_bad:
                    raise loaded
                result.excluded[clip.clip_id] = loaded
            else:
                good.append(loaded)
        for embedder in embedders:
            _embed_missing([item for item in good if embedder.name in item.audio], embedder, cache)
        result.clips += [EmbeddedClip(item.clip.clip_id, item.sha256, item.facts) for item in good]
        result.embedded += sum(bool(item.audio) for item in good)
        done += len(batch)
        options.progress(options.task, done, len(clips))
    return result


def _loaded_batches(
    clips: Sequence[ClipFile], embedders: Sequence[Embedder], cache: FeatureCache, batch_size: int
) -> Iterator[list[tuple[ClipFile, _Loaded | AudioError]]]:
    """Batches in order; one batch is decoded in the background while the one before it is embedded, so memory is two batches."""
    chunks = [clips[i : i + batch_size] for i in range(0, len(clips), batch_size)]
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode") as pool:

        def start(chunk: Sequence[ClipFile]) -> list[Future[_Loaded | AudioError]]:
            return [pool.submit(_load, clip, embedders, cache) for clip in chunk]

        ahead = start(chunks[0]) if chunks else []
        try:
            for i, chunk in enumerate(chunks):
                current, ahead = ahead, start(chunks[i + 1]) if i + 1 < len(chunks) else []
                yield [(clip, future.result()) for clip, future in zip(chunk, current, strict=True)]
        finally:
            for future in ahead:
                future.cancel()


def _load(clip: ClipFile, embedders: Sequence[Embedder], cache: FeatureCache) -> _Loaded | AudioError:
    try:
        data = read_bytes(clip.path)
        sha256 = hashlib.sha256(data).hexdigest()
        known = {embedder.name: cache.facts(embedder, sha256) for embedder in embedders}
        missing = [embedder for embedder in embedders if known[embedder.name] is None]
        facts = next((facts for facts in known.values() if facts), None)
        if not missing and facts:
            return _Loaded(clip, sha256, facts, {})
        audio = decode(data, clip.path)
        return _Loaded(clip, sha256, facts_of(audio), {embedder.name: at_rate(audio, embedder, clip.path) for embedder in missing})
    except AudioError as error:
        return error


def facts_of(audio: Audio) -> ClipFacts:
    """What is known of a clip's audio besides its features."""
    return ClipFacts(audio.duration_s, audio.sample_rate_hz, audio.channels, silent_share(audio.samples), float(np.abs(audio.samples).max()))


def at_rate(audio: Audio, embedder: Embedder, path: Path) -> Floats:
    """(T,) at the embedder's rate. Raises AudioError `too_short`, naming `path`."""
    samples = resample(audio.samples, audio.sample_rate_hz, embedder.sample_rate_hz)
    if len(samples) < embedder.min_samples:
        least = embedder.min_samples / embedder.sample_rate_hz
        raise AudioError("too_short", path, f"lasts {audio.duration_s:.3f} s, embedder {embedder.name} needs {least:.3f} s")
    return samples


def _embed_missing(items: Sequence[_Loaded], embedder: Embedder, cache: FeatureCache) -> None:
    tensors = embed_batch([item.audio[embedder.name] for item in items], embedder, [str(item.clip.path) for item in items])
    for item, found in zip(items, tensors, strict=True):
        cache.add(embedder, item.sha256, found, item.facts)


def embed_batch(audio: Sequence[Floats], embedder: Embedder, names: Sequence[str]) -> list[Tensors]:
    """Features of each clip, checked. audio: B arrays (T,) at the embedder's rate. Raises InputError for what no embedder may return."""
    if not audio:
        return []
    features = embedder.embed(*pad_batch(audio))
    _check(features, len(audio), embedder)
    _check_shapes(features, embedder)
    found = []
    for i, name in enumerate(names):
        tensors: Tensors = {"embeddings": features.embeddings[i]}
        if features.logits is not None:
            tensors["logits"] = features.logits[i : i + 1]
        if features.joint is not None:
            tensors["joint"] = features.joint[i : i + 1]
        for source, values in tensors.items():
            if not np.isfinite(values).all():
                raise InputError(f"embedder {embedder.name} made NaN or infinity in the {source} of {name}; check its weights")
        found.append(tensors)
    return found


def _check_shapes(features: Features, embedder: Embedder) -> None:
    if not all(isinstance(rows, np.ndarray) and rows.ndim == 2 and len(rows) for rows in features.embeddings):
        raise InputError(f"embedder {embedder.name} must return embeddings as one array (P, D) with P >= 1 for each clip")


def _check(features: Features, batch: int, embedder: Embedder) -> None:
    parts = {"embeddings": features.embeddings, "logits": features.logits, "joint": features.joint}
    given = {name: len(part) for name, part in parts.items() if part is not None}
    if set(given) != set(embedder.provides) or set(given.values()) != {batch}:
        raise InputError(
            f"embedder {embedder.name} returned {given} for a batch of {batch} clips; "
            f"it must return {sorted(embedder.provides)}, one of each for every clip"
        )
