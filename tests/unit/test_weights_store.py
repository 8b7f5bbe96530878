from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.served import Server, file, redirect, serving
from tta_bench import weights_store as store
from tta_bench import weights_table
from tta_bench.checkpoints import read_checkpoint, tensors_digest
from tta_bench.embedders.load import load_embedder, weights_file
from tta_bench.errors import StorageError, UntrustedPickle, WeightsError
from tta_bench.files import sha256_file
from tta_bench.weights_table import TABLE, Entry, Published

TENSORS = {"fc.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3), "fc.bias": torch.tensor([0.5, -1.0]), "n": torch.tensor(7)}
DATA = b"a file of text\n" * 1000


class Marks:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def vggish(tmp_path: Path) -> Path:
    path = tmp_path / "vggish-10086976.pth"
    torch.save({"model": {f"module.{name}": tensor for name, tensor in TENSORS.items()}}, path)
    return path


@pytest.fixture
def official(vggish: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if the small file were the published one."""
    _publish(monkeypatch, "vggish", "torch", vggish)
    return vggish


def _publish(monkeypatch: pytest.MonkeyPatch, name: str, kind: weights_table.Kind, *paths: Path, known: bool = True, host: str = "http://x") -> None:
    files = tuple(Published(f"{host}/{p.name}", *((sha256_file(p), p.stat().st_size) if known else ())) for p in paths)
    monkeypatch.setitem(TABLE, name, Entry(name, kind, "MIT", (name,), files))


def _files() -> set[str]:
    folder = store.store_folder()
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_the_table_is_whole() -> None:
    assert len(TABLE) == 9
    for name, item in TABLE.items():
        assert name == item.name
        assert item.licence
        assert item.needed_by
        for published in item.files:
            assert published.address.startswith("https://")
            assert published.sha256 is None or (len(published.sha256) == 64 and int(published.sha256, 16))
            assert published.md5 is None or (len(published.md5) == 32 and int(published.md5, 16))
    assert TABLE["panns-cnn14-16k"].files[0].file == "Cnn14_16k_mAP=0.438.pth"
    assert TABLE["vggish"].files[0].sha256[:8] == "10086976", "the file's name says so"
    hashes = [published.sha256 for item in TABLE.values() for published in item.files if published.sha256]
    assert len(set(hashes)) == len(hashes)
    with pytest.raises(WeightsError, match="vgish: no weights are called that; known: vggish"):
        weights_table.entry("vgish")


def test_what_is_not_there(tmp_path: Path) -> None:
    assert store.find("vggish") is None
    assert weights_file("vggish") is None
    for ask in (lambda: store.checkpoint("vggish"), lambda: load_embedder("vggish"), lambda: store.verify(["vggish"])):
        with pytest.raises(WeightsError, match="tta-bench weights pull vggish"):
            ask()
    assert store.verify() == {}
    assert {state.status for state in store.states()} == {"absent"}
    assert not store.remove("vggish")


def test_a_file_is_converted_once_under_its_own_names(official: Path, cache: Path) -> None:
    before = official.read_bytes()
    added = store.add(official)
    path = store.checkpoint("vggish")
    assert (added.name, added.path, added.notes) == ("vggish", path, ())
    assert path == store.find("vggish") == weights_file("vggish") == cache / "weights" / "vggish" / "vggish.safetensors"
    assert load_file(path).keys() == TENSORS.keys()
    assert tensors_digest(read_checkpoint(path)) == tensors_digest(read_checkpoint(official)) == tensors_digest(TENSORS)
    note = json.loads((cache / "weights" / "vggish.json").read_text())
    source, stored = note["sources"][official.name], note["stored"][path.name]
    assert source["sha256"] == hashlib.sha256(before).hexdigest()
    assert source["official"] is True
    assert stored == {"sha256": sha256_file(path), "size": path.stat().st_size, "tensors_sha256": tensors_digest(TENSORS)}
    assert note["licence"] == "MIT"
    assert official.read_bytes() == before
    assert _files() == {"vggish.json", "vggish/vggish.safetensors"}
    times = path.stat().st_mtime_ns
    assert "here already" in store.add(official).notes[0]
    assert path.stat().st_mtime_ns == times, "not written a second time"
    assert store.verify() == store.verify(["vggish"]) == {"vggish": path}
    assert store.state("vggish").official


@pytest.mark.parametrize("name", ["weights.bin", "Cnn14_mAP=0.431.pth"])
def test_a_file_is_known_by_its_hash_whatever_it_is_called(official: Path, tmp_path: Path, name: str) -> None:
    official.rename(tmp_path / name)
    assert store.add(tmp_path / name).name == "vggish"


def test_a_file_is_known_by_its_name(vggish: Path, tmp_path: Path) -> None:
    """As torch.hub keeps PANNs: the address's own %3D in the file name."""
    path = vggish.rename(tmp_path / "Cnn14_16k_mAP%3D0.438.pth")
    with pytest.raises(WeightsError, match=r"but Cnn14_16k_mAP=0\.438\.pth as published has e2ee543a") as caught:
        store.add(path)
    assert f"--sha256 {sha256_file(path)}" in str(caught.value)
    assert store.add(path, sha256=sha256_file(path)).name == "panns-cnn14-16k"
    assert not store.state("panns-cnn14-16k").official


def test_an_unknown_file_needs_a_name(vggish: Path, tmp_path: Path) -> None:
    path = vggish.rename(tmp_path / "model.bin")
    with pytest.raises(WeightsError, match=r"model\.bin: is not known by its name or its hash"):
        store.add(path)
    with pytest.raises(WeightsError, match="no weights are called that"):
        store.add(path, "vgish")
    assert store.add(path, "vggish", sha256=sha256_file(path)).name == "vggish"
    assert not (tmp_path / "cache" / "weights" / "downloads").exists()


def test_a_hash_that_is_meant_must_be_the_files(vggish: Path) -> None:
    with pytest.raises(WeightsError, match=r"not 000.*; it is another file than the one you mean"):
        store.add(vggish, sha256="0" * 64)
    assert _files() == set()


def test_md5_is_looked_at_where_it_is_all_that_is_published(vggish: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(md5: str) -> None:
        published = Published(f"http://x/{vggish.name}", None, None, md5)
        monkeypatch.setitem(TABLE, "vggish", Entry("vggish", "torch", "MIT", ("vggish",), (published,)))

    publish("0" * 32)
    with pytest.raises(WeightsError, match="has the MD5"):
        store.add(vggish)
    publish(hashlib.md5(vggish.read_bytes(), usedforsecurity=False).hexdigest())
    assert store.add(vggish).notes == ()


def test_the_first_use_is_trusted_and_said_and_another_file_refused(tmp_path: Path) -> None:
    path = tmp_path / "630k-best.pt"
    torch.save(TENSORS, path)
    first = sha256_file(path)
    assert first in store.add(path).notes[0]
    stored = store.checkpoint("clap-630k-best").read_bytes()
    torch.save({"fc.bias": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=f"taken from a file with {first}; for the other one, run `tta-bench weights remove clap-630k-best` first"):
        store.add(path)
    assert store.checkpoint("clap-630k-best").read_bytes() == stored
    assert store.remove("clap-630k-best")
    assert store.find("clap-630k-best") is None
    assert store.add(path).path.read_bytes() != stored


def test_tied_and_sliced_tensors_are_stored_whole(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    tensors = {"a": base, "b": base, "c": base[2:4], "d": base.reshape(3, 4).T, "e": torch.zeros(0)}
    torch.save(tensors, tmp_path / "630k-best.pt")
    assert tensors_digest(load_file(store.add(tmp_path / "630k-best.pt").path)) == tensors_digest(tensors)


def _shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(("damage", "seen_at_once"), [(_shortened, True), (lambda path: path.unlink(), True), (_flipped, False)])
def test_damage_is_found_and_mended(official: Path, damage: Callable[[Path], None], seen_at_once: bool) -> None:
    path = store.add(official).path
    damage(path)
    with pytest.raises(WeightsError, match=r"vggish\.safetensors: is not as it was when it was added; run `tta-bench weights remove vggish`"):
        store.verify()
    assert (store.state("vggish").status == "damaged") is seen_at_once
    if seen_at_once:
        assert store.find("vggish") is None
        with pytest.raises(WeightsError, match="is not as it was"):
            store.checkpoint("vggish")
    else:
        store.remove("vggish")
    store.add(official)
    assert store.verify() == {"vggish": path}


NO_NOTES = [b"", b"[]", b"{}", b'{"schema": 2}', b'{"schema": 1, "name": "vggish", "sources": {}, "stored": {"x": 1}}', b"\xff\xfe"]


@pytest.mark.parametrize("data", NO_NOTES)
def test_a_note_that_cannot_be_used(official: Path, cache: Path, data: bytes) -> None:
    store.add(official)
    (cache / "weights" / "vggish.json").write_bytes(data)
    assert store.state("vggish").status == "damaged"
    for ask in (store.verify, lambda: store.checkpoint("vggish")):
        with pytest.raises(WeightsError, match="is not as it was"):
            ask()
    store.add(official)
    assert store.state("vggish").status == "there"


def test_a_note_leads_to_no_file_elsewhere(official: Path, cache: Path, tmp_path: Path) -> None:
    stored = store.add(official).path
    stored.rename(tmp_path / "copy")
    note = cache / "weights" / "vggish.json"
    note.write_text(note.read_text().replace('"vggish.safetensors"', '"../../../copy"'))
    assert (stored.parent / "../../../copy").exists()
    assert store.state("vggish").status == "damaged"
    assert store.remove("vggish")
    assert (tmp_path / "copy").exists()


def test_without_a_note_nothing_is_there(official: Path, cache: Path) -> None:
    store.add(official)
    (cache / "weights" / "vggish.json").unlink()
    assert store.find("vggish") is None


def test_a_full_disk_loses_nothing(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError, torch as module  # noqa: I001

    def full(*args: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(StorageError, match=r"vggish\.safetensors: cannot be written .*No space left"):
        store.add(official)
    assert _files() == set()


def test_the_reader_of_another_kind_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "yamnet.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    _publish(monkeypatch, "yamnet", "hdf5", path)
    with pytest.raises(WeightsError, match="needs a reader; run `tta-bench weights add"):
        store.add(path)
    store.add(path, readers={"hdf5": lambda path: TENSORS})
    assert tensors_digest(load_file(store.checkpoint("yamnet"))) == tensors_digest(TENSORS)


def test_two_files_make_one_set_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vocab, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    vocab.write_text('{"a": 0}')
    merges.write_text("a b\n")
    _publish(monkeypatch, "roberta-base", "text", vocab, merges)
    assert store.add(vocab).notes == ("roberta-base still needs merges.txt",)
    with pytest.raises(WeightsError, match="tta-bench weights pull roberta-base"):
        store.checkpoint("roberta-base")
    assert store.add(merges).notes == ()
    folder = store.checkpoint("roberta-base")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {path.name: path.read_bytes() for path in (vocab, merges)}
    other = tmp_path / "other.bin"
    other.write_text("x")
    with pytest.raises(WeightsError, match=r"which file of roberta-base is it\? Give it its own name: vocab\.json, merges\.txt"):
        store.add(other, "roberta-base")


@pytest.mark.parametrize(("data", "message"), [(b"", "is empty"), (b"<html>", "is a web page"), (b"\xff\xfe\x00", "is not text")])
def test_text_that_is_none(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "vocab.json"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=message):
        store.add(path, sha256=sha256_file(path))
    assert _files() == set()


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.pt", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(WeightsError, match=message):
            store.add(path)


def _published_at(server: Server, monkeypatch: pytest.MonkeyPatch, path: Path, **options: Any) -> None:
    _publish(monkeypatch, "vggish", "torch", path, host=server.url("").rstrip("/"))
    server.answers[f"/{path.name}"] = file(path.read_bytes(), **options)


def test_pull(vggish: Path, server: Server, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    _published_at(server, monkeypatch, vggish)
    said: list[str] = []
    added = store.pull("vggish", progress=lambda task, *rest: said.append(task))
    assert added.path == store.checkpoint("vggish")
    assert set(said) == {vggish.name}
    assert _files() == {"vggish.json", "vggish/vggish.safetensors"}, "what was downloaded is gone once it is converted"
    assert json.loads((cache / "weights" / "vggish.json").read_text())["sources"][vggish.name]["address"] == server.url(f"/{vggish.name}")
    assert "is here already" in store.pull("vggish").notes[0]
    assert len(server.seen) == 1


def test_pull_from_another_address(vggish: Path, server: Server) -> None:
    server.answers |= {"/mirror/x": file(vggish.read_bytes()), "/folder/vggish-10086976.pth": redirect("/mirror/x")}
    with pytest.raises(WeightsError, match=f"--sha256 {sha256_file(vggish)}"):
        store.pull("vggish", server.url("/mirror/x"))
    assert _files() == set()
    store.pull("vggish", server.url("/folder/"), sha256=sha256_file(vggish))
    assert store.find("vggish") is not None
    assert not store.state("vggish").official
    with pytest.raises(WeightsError, match="tta-bench weights remove vggish"):
        store.pull("vggish", server.url("/mirror/x"), sha256="0" * 64)


def test_pull_goes_on(vggish: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": torch.arange(200_000.0)}, vggish)
    _published_at(server, monkeypatch, vggish, cut_at=500_000)
    with pytest.raises(WeightsError, match="the same command goes on"):
        store.pull("vggish")
    assert _files() == {"downloads/vggish/vggish-10086976.pth.part", "downloads/vggish/vggish-10086976.pth.part.json"}
    store.pull("vggish")
    assert server.seen[1][1] is not None
    assert _files() == {"vggish.json", "vggish/vggish.safetensors"}


def test_pull_of_two_files(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes(DATA + name.encode())
        server.answers[f"/r/{name}"] = file(DATA + name.encode())
    _publish(monkeypatch, "roberta-base", "text", tmp_path / "vocab.json", tmp_path / "merges.txt")
    with pytest.raises(WeightsError, match="is 2 files; give the address of their folder"):
        store.pull("roberta-base", server.url("/r"))
    with pytest.raises(WeightsError, match="is 2 files, which one SHA-256 cannot name"):
        store.pull("roberta-base", server.url("/r/"), sha256="0" * 64)
    folder = store.pull("roberta-base", server.url("/r/")).path
    assert {path.name for path in folder.iterdir()} == {"vocab.json", "merges.txt"}
    (folder / "merges.txt").unlink()
    store.pull("roberta-base", server.url("/r/"))
    assert set(store.verify()) == {"roberta-base"}


def test_a_pull_that_is_no_checkpoint_leaves_nothing(tmp_path: Path, server: Server) -> None:
    server.answers["/630k-best.pt"] = file(b"neither one nor the other")
    with pytest.raises(WeightsError, match="neither a safetensors file"):
        store.pull("clap-630k-best", server.url("/"))
    assert _files() == set()


def test_a_pull_that_needs_trust_is_not_fetched_twice(tmp_path: Path, server: Server) -> None:
    path = tmp_path / "630k-best.pt"
    torch.save({"state_dict": TENSORS, "mark": Marks(tmp_path / "mark")}, path, pickle_protocol=4)
    server.answers["/630k-best.pt"] = file(path.read_bytes())
    kept = store.store_folder() / "downloads" / "clap-630k-best" / "630k-best.pt"
    with pytest.raises(UntrustedPickle) as caught:
        store.pull("clap-630k-best", server.url("/"))
    assert f"tta-bench weights add {kept} --trust-pickle {sha256_file(path)} --name clap-630k-best" in str(caught.value)
    assert kept.read_bytes() == path.read_bytes()
    assert not (tmp_path / "mark").exists()
    store.pull("clap-630k-best", server.url("/"), trust_pickle=sha256_file(path))
    assert len(server.seen) == 1
    assert (tmp_path / "mark").is_dir()
    assert store.find("clap-630k-best") is not None
    assert not kept.exists()
