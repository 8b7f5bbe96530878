"""Features of a cell's clips under an embedder: on disk beside the audio, computed when a score first asks for them."""

from __future__ import annotations

from collections.abc import Callable

from tta_bench.embedders.protocol import Embedder
from tta_bench.files import digest
from tta_bench.harness.cell_audio import CellAudio, clip_ids, clip_path
from tta_bench.harness.features import at_rate, embed_batch
from tta_bench.harness.scoring import Side, fingerprint
from tta_bench.harness.store import FeatureSet, Tensors, feature_key, feature_set, load_pack, pack

BATCH = 16  # as `evaluate` has it: batches of another size differ in the last bits
_NOT_KEPT = ("log_mel",)  # its rows are frames: 64 KiB a clip, made in a moment


def cell_side(name: str, made: CellAudio) -> Side:
    """The cell's clips as metrics see them."""
    return Side(name, made.generation.hashes, len(made.generation.failed), _features_of(made))


def _features_of(made: CellAudio) -> Callable[[Embedder], FeatureSet]:
    known: dict[str, FeatureSet] = {}

    def features(embedder: Embedder) -> FeatureSet:
        if embedder.name not in known:
            known[embedder.name] = _load_or_embed(made, embedder)
        return known[embedder.name]

    return features


def _load_or_embed(made: CellAudio, embedder: Embedder) -> FeatureSet:
    path = made.folder / "features" / f"{embedder.name}.safetensors"
    hashes = made.generation.hashes
    key = digest([feature_key(embedder), fingerprint(hashes, hashes)])
    kept = embedder.name not in _NOT_KEPT
    there = load_pack(path, key) if kept else None
    if there is not None:
        return there
    ids, audio = list(clip_ids(made)), made.read()
    parts: list[Tensors] = []
    for start in range(0, len(ids), BATCH):
        chunk = ids[start : start + BATCH]
        paths = [clip_path(made.folder, clip_id) for clip_id in chunk]
        samples = [at_rate(audio[clip_id], embedder, path) for clip_id, path in zip(chunk, paths, strict=True)]
        parts += embed_batch(samples, embedder, [str(path) for path in paths])
    return pack(path, ids, parts, key) if kept else feature_set(ids, parts)
