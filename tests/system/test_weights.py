"""The weights' command line: what is fetched or added is checked, converted once and verified; what is hostile is refused and does nothing."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.system.refusal import Shell
from tests.unit.served import Server, file, redirect, serving
from tta_bench.checkpoints import tensors_digest
from tta_bench.files import sha256_file

TENSORS = {"fc.weight": torch.arange(60_000, dtype=torch.float32).reshape(200, 300), "fc.bias": torch.tensor([0.5, -1.0])}
VGGISH = "vggish-10086976.pth"


class Marks:
    """Loading it makes a folder: code that must not run unasked."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, monkeypatch, capfd)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def vggish(tmp_path: Path) -> Path:
    torch.save(TENSORS, tmp_path / VGGISH)
    return tmp_path / VGGISH


def _runs(shell: Shell, arguments: str) -> str:
    code, out, err = shell(arguments)
    assert (code, err) == (0, ""), (out, err)
    return out


def _row(out: str, name: str) -> str:
    return next(line for line in out.splitlines() if line.startswith(f"{name} "))


def _stored(shell: Shell) -> Path:
    return shell.folder / "cache" / "weights" / "vggish" / "vggish.safetensors"


def test_list_pull_verify_remove(shell: Shell, server: Server, vggish: Path) -> None:
    server.answers["/w.pth"] = file(vggish.read_bytes())
    listed = _runs(shell, "weights list")
    assert "absent" in _row(listed, "vggish")
    assert "CC-BY-4.0" in _row(listed, "panns-cnn14-16k")
    assert "not known" in _row(listed, "clap-630k-best")
    assert "vggish, for vggish: https://github.com/harritaylor/" in listed
    assert "no weights are here" in _runs(shell, "weights verify")

    pulled = _runs(shell, f"weights pull vggish --address {server.url('/w.pth')} --sha256 {sha256_file(vggish)}")
    assert pulled == f"vggish: {_stored(shell)}\n"
    assert tensors_digest(load_file(_stored(shell))) == tensors_digest(TENSORS)
    assert "there, not as published" in _row(_runs(shell, "weights list"), "vggish")
    assert _runs(shell, "weights verify") == _runs(shell, "weights verify vggish") == f"vggish: as it was added, {_stored(shell)}\n"
    assert "here already" in _runs(shell, "weights pull vggish")
    assert _runs(shell, "weights remove vggish yamnet") == "vggish: removed\nyamnet: was not here\n"
    assert not _stored(shell).exists()
    assert "absent" in _row(_runs(shell, "weights list"), "vggish")


def test_the_first_use_is_said(shell: Shell) -> None:
    torch.save(TENSORS, shell.folder / "630k-best.pt")
    out = _runs(shell, "weights add 630k-best.pt")
    assert f"note: no official SHA-256 of 630k-best.pt is known: this file's was recorded, {sha256_file(shell.folder / '630k-best.pt')}" in out
    torch.save({"other": torch.ones(2)}, shell.folder / "630k-best.pt")
    shell.refuses("weights add 630k-best.pt", ["630k-best.pt", "tta-bench weights remove clap-630k-best"])


def test_yamnet_in_its_own_format(shell: Shell) -> None:
    """A file of HDF5 goes to YAMNet's reader, whose refusal comes through."""
    h5py = pytest.importorskip("h5py")
    path = shell.folder / "yamnet.h5"
    with h5py.File(path, "w") as made:
        made["layer1/conv/kernel"] = np.zeros((3, 3, 1, 32), np.float32)
    shell.refuses(f"weights add yamnet.h5 --sha256 {sha256_file(path)}", ["yamnet.h5: layer1/conv/bn/beta is missing"])


def test_a_tampered_copy_is_noticed(shell: Shell, vggish: Path) -> None:
    _runs(shell, f"weights add {VGGISH} --sha256 {sha256_file(vggish)}")
    data = bytearray(_stored(shell).read_bytes())
    data[-1] ^= 1
    _stored(shell).write_bytes(bytes(data))
    for names in ("", "vggish"):
        shell.refuses(f"weights verify {names}", ["vggish.safetensors: is not as it was when it was added", "tta-bench weights remove vggish"])


@pytest.mark.parametrize("name", ["w.pt", VGGISH, "630k-best.pt"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_pickle_runs_only_where_this_very_file_is_trusted(shell: Shell, name: str, protocol: int) -> None:
    path, mark = shell.folder / name, shell.folder / "mark"
    torch.save({"state_dict": TENSORS, "mark": Marks(mark)}, path, pickle_protocol=protocol)
    sha256 = sha256_file(path)
    own = f"weights add {name} --name vggish --sha256 {sha256}" if name != "630k-best.pt" else f"weights add {name}"
    shell.refuses(own, [f"{name}: is a pickle that can run code", f"tta-bench weights add {name} --trust-pickle {sha256}"])
    shell.refuses(f"{own} --trust-pickle {'0' * 64}", [f"has the SHA-256 {sha256}, not the trusted {'0' * 64}"])
    assert not mark.exists(), "nothing ran"
    out = _runs(shell, f"{own} --trust-pickle {sha256}")
    assert mark.is_dir()
    stored = Path(out.splitlines()[-1].partition(": ")[2])
    assert tensors_digest(load_file(stored)) == tensors_digest(TENSORS)
    mark.rmdir()
    assert "as it was added" in _runs(shell, "weights verify")
    assert not mark.exists(), "what is kept holds no code"


def _put(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def _cut_safetensors(path: Path) -> None:
    from safetensors.torch import save_file

    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-1000])


def _cut_zip(path: Path) -> None:
    torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:10_000])


def _climbing_zip(path: Path) -> None:
    torch.save(TENSORS, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../climbed", b"x")


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (_put(b""), "is empty"),
        (_put(b"<!DOCTYPE html><html>Sign in</html>"), "is a web page"),
        (_put(b"no checkpoint"), "is neither a safetensors file nor one that torch.save wrote"),
        (_cut_safetensors, "is cut off or damaged"),
        (_cut_zip, "is cut off or damaged"),
        (_climbing_zip, "holds a file named '../../climbed', outside"),
    ],
)
def test_files_that_are_no_checkpoints(shell: Shell, make: Callable[[Path], None], part: str) -> None:
    make(shell.folder / "630k-best.pt")
    shell.refuses("weights add 630k-best.pt", ["630k-best.pt: ", part])
    assert not [path for path in shell.folder.rglob("*") if path.is_file() and path.name not in (".lock", "630k-best.pt")]
    assert not (shell.folder.parent / "climbed").exists()


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (None, "answers 404"),
        (file(b"<html><title>Too many requests"), "is a web page"),
        (file(b"some other file"), "is 15 bytes long, not 358668570"),
        (redirect("file:///etc/passwd"), "leads to file:///etc/passwd"),
        (redirect("/w"), "without end"),
    ],
)
def test_answers_that_are_no_weights(shell: Shell, server: Server, answer: Any, part: str) -> None:
    if answer:
        server.answers["/w"] = answer
    shell.refuses(f"weights pull panns-cnn14-16k --address {server.url('/w')}", [server.url("/w"), part])
    assert not [path for path in shell.folder.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("weights pull vgish", ["vgish", "known: vggish"]),
        ("weights pull vggish vgish", ["vgish"]),
        ("weights pull vggish yamnet --address http://127.0.0.1:1/x", ["--address", "one by one"]),
        ("weights pull vggish --address file:///etc/passwd", ["file:///etc/passwd: is no http or https address"]),
        ("weights pull roberta-base --address http://127.0.0.1:1/x", ["is 2 files", "with / at its end"]),
        ("weights pull", ["Missing argument", "tta-bench weights pull --help"]),
        ("weights add none.pth", ["none.pth: does not exist"]),
        ("weights add .", ["is a folder"]),
        (f"weights add {VGGISH}", [VGGISH, "as published has 10086976", "--sha256 "]),
        (f"weights add {VGGISH} --name yamnet --sha256 {'0' * 64}", ["is another file than the one you mean"]),
        (f"weights add {VGGISH} --name vgish", ["known: vggish"]),
        ("weights verify vggish", ["vggish: not here", "tta-bench weights pull vggish"]),
        ("weights verify vgish", ["known: vggish"]),
        ("weights remove vgish", ["known: vggish"]),
        ("weights lst", ["lst", "see tta-bench weights --help"]),
    ],
)
def test_what_cannot_be_asked(shell: Shell, vggish: Path, arguments: str, parts: list[str]) -> None:
    shell.refuses(arguments, parts)


def test_a_cache_that_cannot_be_written(shell: Shell, vggish: Path) -> None:
    (shell.folder / "cache").write_text("a file")
    shell.refuses(f"weights add {VGGISH} --sha256 {sha256_file(vggish)}", [str(shell.folder / "cache"), "cannot be written"])
