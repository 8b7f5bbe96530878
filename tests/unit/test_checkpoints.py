from __future__ import annotations

import collections
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tta_bench.checkpoints import fitted, read_checkpoint, tensors_digest
from tta_bench.errors import WeightsError
from tta_bench.files import sha256_file

TENSORS = {"fc.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3), "fc.bias": torch.tensor([0.5, -1.0]), "n": torch.tensor(7)}


class Writes:
    """What a hostile pickle does: loading it runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) and left[name].dtype == right[name].dtype for name in left)


def _saved(content: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path, **options)


@pytest.mark.parametrize(
    "write",
    [
        _saved(TENSORS),
        _saved(collections.OrderedDict(TENSORS)),
        _saved(TENSORS, _use_new_zipfile_serialization=False),
        _saved({"epoch": 3, "model": TENSORS}),
        _saved({"state_dict": {f"module.{name}": tensor for name, tensor in TENSORS.items()}, "name": "x"}),
        _saved({"model": {"state_dict": {name: torch.nn.Parameter(t, requires_grad=False) for name, t in TENSORS.items()}}}),
        _saved(TENSORS | {"comment": "no tensor", "accuracy": 0.4}),
        lambda path: save_file(TENSORS, path),
        lambda path: save_file({f"module.{name}": tensor for name, tensor in TENSORS.items()}, path),
    ],
)
def test_all_published_kinds_give_the_same_tensors(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "w")
    read = read_checkpoint(tmp_path / "w")
    assert same(read, TENSORS)
    assert tensors_digest(read) == tensors_digest(TENSORS)


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_values_beside_the_tensors_do_no_harm(tmp_path: Path, zipped: bool) -> None:
    beside = {"best": np.float64(0.4), "sampler": {"indexes": np.arange(5), "flags": np.zeros(3, bool), "x": np.ones((2, 2), np.float32)}}
    torch.save(beside | {"model": TENSORS}, tmp_path / "w", _use_new_zipfile_serialization=zipped)
    assert same(read_checkpoint(tmp_path / "w"), TENSORS)


def test_numpy_by_its_older_name(tmp_path: Path) -> None:
    torch.save({"best": np.float64(0.4), "model": TENSORS}, tmp_path / "w", _use_new_zipfile_serialization=False)
    old = (tmp_path / "w").read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "w").write_bytes(old)
    assert b"cnumpy.core.multiarray\nscalar\n" in old
    assert same(read_checkpoint(tmp_path / "w"), TENSORS)


def test_a_compressed_archive_is_not_mapped(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(5000.0)}, tmp_path / "stored")
    with zipfile.ZipFile(tmp_path / "stored") as source, zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert same(read_checkpoint(tmp_path / "packed"), {"w": torch.arange(5000.0)})


def _put(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def _cut(write: Callable[[Path], None], share: float) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return cut


def _archive(*names: str) -> Callable[[Path], None]:
    def archive(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, b"x")

    return archive


def _script(path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


LEGACY = {"_use_new_zipfile_serialization": False}
NO_CHECKPOINTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (_put(b""), "is empty"),
    "web page": (_put(b"\n <!DOCTYPE html><html><body>Sign in</body></html>"), "is a web page"),
    "xml": (_put(b"<?xml version='1.0'?><Error>NoSuchKey</Error>"), "is a web page"),
    "pointer": (_put(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"), "pointer of Git LFS"),
    "hdf5": (_put(b"\x89HDF\r\n\x1a\n" + bytes(100)), "is an HDF5 file"),
    "text": (_put(b"hello, I am no checkpoint at all"), "neither a safetensors file nor"),
    "cut safetensors": (_cut(lambda path: save_file(TENSORS, path), 0.95), "cut off or damaged"),
    "cut header": (_cut(lambda path: save_file(TENSORS, path), 0.1), "cut off or damaged"),
    "cut zip": (_cut(_saved(TENSORS), 0.5), "cut off or damaged"),
    "cut end": (_cut(_saved(TENSORS), 0.99), "cut off or damaged"),
    **{f"cut legacy {share}": (_cut(_saved(TENSORS, **LEGACY), share), "cut off or damaged") for share in (0.005, 0.1, 0.3, 0.5, 0.6, 0.99)},
    "up": (_archive("w/data.pkl", "w/../../up"), r"'w/../../up', outside"),
    "absolute": (_archive("w/data.pkl", "/etc/up"), "'/etc/up', outside"),
    "windows": (_archive("w/data.pkl", "w\\..\\..\\up"), "outside"),
    "drive": (_archive("w/data.pkl", "C:/up"), "'C:/up', outside"),
    "zip": (_archive("notes.txt"), "is a zip archive, not a checkpoint"),
    "nonsense": (_archive("w/data.pkl", "w/version"), "cut off or damaged"),
    "script": (_script, "is a TorchScript program"),
    "list": (_saved([torch.ones(2)]), "holds no tensors by name"),
    "no tensors": (_saved({"model": {"a": 1}}), "holds no tensors by name"),
    "twice": (_saved({"a": torch.ones(1), "module.a": torch.ones(1)}), "with and without 'module.'"),
    "meta": (_saved({"a": torch.ones(2, device="meta")}), "tensor a is not a plain one"),
    "sparse": (_saved({"a": torch.eye(3).to_sparse()}), "tensor a is not a plain one"),
}


@pytest.mark.parametrize("kind", NO_CHECKPOINTS)
def test_files_that_are_no_checkpoints(tmp_path: Path, kind: str) -> None:
    write, message = NO_CHECKPOINTS[kind]
    path = tmp_path / "w.pt"
    write(path)
    before = path.read_bytes()
    with pytest.raises(WeightsError, match=message) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "weights_only" not in str(caught.value), "torch's advice is to switch safety off"
    assert path.read_bytes() == before
    assert set(tmp_path.iterdir()) == {path}, "nothing was written"


def test_absent_files_and_folders(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(WeightsError, match=message):
            read_checkpoint(path)


def _pickled(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content, protocol=4))


@pytest.mark.parametrize(
    "save",
    [
        lambda path, content: torch.save(content, path),
        lambda path, content: torch.save(content, path, pickle_protocol=4),
        lambda path, content: torch.save(content, path, **LEGACY),
        lambda path, content: torch.save(content, path, pickle_protocol=4, **LEGACY),
        _pickled,
    ],
    ids=["zip", "zip 4", "legacy", "legacy 4", "pickle"],
)
def test_code_in_a_pickle_does_not_run(tmp_path: Path, save: Callable[[Path, Any], None]) -> None:
    path = tmp_path / "w.pt"
    save(path, {"model": TENSORS, "x": Writes(tmp_path / "trace")})
    line = f"tta-bench weights add {path} --trust-pickle {sha256_file(path)}"
    with pytest.raises(WeightsError, match="can run code") as caught:
        read_checkpoint(path)
    assert str(caught.value).endswith(line)
    with pytest.raises(WeightsError, match="not the trusted"):
        read_checkpoint(path, trusted_sha256="0" * 64)
    assert set(tmp_path.iterdir()) == {path}


def test_code_hidden_behind_numpy_does_not_run(tmp_path: Path) -> None:
    """dtype's and ndarray's own __setstate__ follow pointers; here nothing of numpy is made, whatever its state says."""
    torch.save({"model": TENSORS, "x": np.array([Writes(tmp_path / "trace")], dtype=object)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="can run code"):
        read_checkpoint(tmp_path / "w.pt")
    assert set(tmp_path.iterdir()) == {tmp_path / "w.pt"}


def test_a_trusted_pickle_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"state_dict": TENSORS, "x": Writes(tmp_path / "trace")}, path, pickle_protocol=4)
    assert same(read_checkpoint(path, trusted_sha256=sha256_file(path).upper()), TENSORS)
    assert (tmp_path / "trace").is_dir(), "so the refusals above are no accident: the code works"


def test_a_trusted_pickle_whose_code_fails(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"state_dict": TENSORS, "x": Writes(tmp_path / "absent" / "trace")}, path, pickle_protocol=4)
    with pytest.raises(WeightsError, match="cannot be loaded"):
        read_checkpoint(path, trusted_sha256=sha256_file(path))


def test_fitted_gives_exactly_what_is_expected(tmp_path: Path) -> None:
    expected = {"fc.weight": (2, 3), "fc.bias": (2,)}
    result = fitted(tmp_path, TENSORS | {"fc.weight": TENSORS["fc.weight"].double()}, expected, ignorable=("n",))
    assert {name: tuple(tensor.shape) for name, tensor in result.items()} == expected
    assert {tensor.dtype for tensor in result.values()} == {torch.float32}
    assert list(fitted(tmp_path, {"bn.num_batches_tracked": torch.tensor(1), "a": torch.ones(1)}, {"a": (1,)}, ["*.num_batches_tracked"])) == ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, "tensor fc.bias is missing"),
        ({"fc.bias": torch.ones(3)}, r"tensor fc.bias has shape \(3,\), not \(2,\)"),
        ({"fc.bias": torch.tensor([0.0, float("nan")])}, "tensor fc.bias holds NaN"),
        ({"fc.bias": torch.tensor([0.0, 1e300], dtype=torch.float64)}, "tensor fc.bias holds NaN or infinity"),
        ({"other": torch.ones(1)}, "another model, e.g. other"),
    ],
)
def test_fitted_names_file_and_tensor(tmp_path: Path, change: dict[str, torch.Tensor | None], message: str) -> None:
    tensors = {name: tensor for name, tensor in (TENSORS | change).items() if tensor is not None and name != "n"}
    with pytest.raises(WeightsError, match=rf"w\.pt: .*{message}"):
        fitted(Path("w.pt"), tensors, {"fc.weight": (2, 3), "fc.bias": (2,)})


def test_the_digest_sees_names_types_shapes_and_values() -> None:
    base = {"a": torch.ones(2, 3), "b": torch.zeros(4)}
    others = [
        {"a": torch.ones(2, 3), "c": torch.zeros(4)},
        {"a": torch.ones(3, 2), "b": torch.zeros(4)},
        {"a": torch.ones(2, 3).double(), "b": torch.zeros(4)},
        {"a": torch.ones(2, 3), "b": torch.full((4,), -0.0)},
        {"a": torch.ones(2, 3)},
        {},
    ]
    assert len({tensors_digest(tensors) for tensors in (base, *others)}) == 7
    assert tensors_digest(dict(reversed(base.items()))) == tensors_digest(base)
    assert tensors_digest({"a": torch.ones(3, 2).T, "b": torch.zeros(4)}) == tensors_digest(base), "memory layout does not matter"
    assert tensors_digest({"h": torch.ones(2, dtype=torch.bfloat16)}) != tensors_digest({"h": torch.ones(2, dtype=torch.float16)})
