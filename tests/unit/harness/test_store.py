from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.unit.harness.toys import ToyEmbedder
from tta_bench.harness.store import ClipFacts, FeatureCache, feature_key, pack, read_tensors, write_tensors

FACTS = ClipFacts(1.0, 8000, 1, 0.0, 0.5)


def _tensors(seed: int, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "embeddings": rng.standard_normal((rows, 5)).astype(np.float32),
        "logits": rng.standard_normal((1, 3)).astype(np.float32),
        "joint": rng.standard_normal((1, 2)).astype(np.float32),
    }


def test_files_are_valid_safetensors_and_read_back_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    parts = [_tensors(0, 2), _tensors(1, 4)]
    write_tensors(path, parts, {"note": "x"})
    by_library = load_file(path)
    mapped, info = read_tensors(path)
    assert info["note"] == "x"
    for name, tensor in mapped.items():
        np.testing.assert_array_equal(tensor, np.concatenate([part[name] for part in parts]))
        np.testing.assert_array_equal(tensor, by_library[name])
        assert tensor.dtype == np.float32
        assert isinstance(tensor, np.memmap)


def test_cache_is_keyed_by_content_and_embedder(tmp_path: Path) -> None:
    cache, toy = FeatureCache(tmp_path), ToyEmbedder()
    cache.add(toy, "ab" * 32, _tensors(0, 2), FACTS)
    assert cache.facts(toy, "ab" * 32) == FACTS
    assert cache.facts(toy, "cd" * 32) is None
    assert cache.facts(ToyEmbedder(checksum="toy-2"), "ab" * 32) is None
    assert feature_key(toy) != feature_key(ToyEmbedder(checksum="toy-2"))


@pytest.mark.parametrize(
    "header",
    [
        b"null",
        b"[]",
        b"1",
        b'{"__metadata__": 5}',
        b'{"embeddings": 3, "__metadata__": {}}',
        b'{"__metadata__": {"content_sha256": 1}}',
        b"[" * 99_999,
    ],
)
def test_a_strange_header_counts_as_absent(tmp_path: Path, header: bytes) -> None:
    cache, toy = FeatureCache(tmp_path), ToyEmbedder()
    cache.add(toy, "ab" * 32, _tensors(0, 2), FACTS)
    cache.path(toy, "ab" * 32).write_bytes(len(header).to_bytes(8, "little") + header)
    assert cache.facts(toy, "ab" * 32) is None


def test_a_flipped_bit_in_the_content_is_noticed(tmp_path: Path) -> None:
    cache, toy = FeatureCache(tmp_path), ToyEmbedder()
    cache.add(toy, "ab" * 32, _tensors(0, 2), FACTS)
    path = cache.path(toy, "ab" * 32)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert cache.facts(toy, "ab" * 32) is None


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[:5], lambda data: b"", lambda data: b"\xff" * len(data)])
def test_a_damaged_entry_counts_as_absent(tmp_path: Path, damage: object) -> None:
    cache, toy = FeatureCache(tmp_path), ToyEmbedder()
    cache.add(toy, "ab" * 32, _tensors(0, 2), FACTS)
    path = cache.path(toy, "ab" * 32)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert cache.facts(toy, "ab" * 32) is None


def test_packing_keeps_clips_apart_and_is_redone_only_for_another_key(tmp_path: Path) -> None:
    cache, toy = FeatureCache(tmp_path / "cache"), ToyEmbedder()
    for i in range(3):
        cache.add(toy, f"{i:064d}", _tensors(i, i + 1), FACTS)
    entries = [cache.path(toy, f"{i:064d}") for i in range(3)]
    path = tmp_path / "set.safetensors"
    features = pack(path, ["a", "b", "c"], entries, "key")
    assert features.embeddings.counts.tolist() == [1, 2, 3]
    assert features.joint is not None
    np.testing.assert_array_equal(features.embeddings.matrix(), np.concatenate([_tensors(i, i + 1)["embeddings"] for i in range(3)]))
    assert features.logits is not None
    np.testing.assert_array_equal(features.logits.matrix(), np.concatenate([_tensors(i, 1 + i)["logits"] for i in range(3)]))
    written = path.stat().st_mtime_ns
    pack(path, ["a", "b", "c"], entries, "key")
    assert path.stat().st_mtime_ns == written
    assert pack(path, ["a", "b"], entries[:2], "other").embeddings.clip_ids == ("a", "b")
