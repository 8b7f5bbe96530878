from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.unit.embedders.yamnet_files import random_tensors, variables, write_h5
from tta_bench import weights_store
from tta_bench.checkpoints import tensors_digest
from tta_bench.embedders.load import load_embedder
from tta_bench.embedders.protocol import pad_batch
from tta_bench.embedders.yamnet import YamnetEmbedder
from tta_bench.embedders.yamnet_h5 import read_yamnet_h5
from tta_bench.errors import WeightsError
from tta_bench.files import sha256_file
from tta_bench.spectrum import VGGISH

FRONT_END = {"frontend.window": VGGISH.hann.astype(np.float32), "frontend.mel": VGGISH.matrix.astype(np.float32)}


@pytest.fixture
def tensors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return random_tensors(rng)


@pytest.fixture
def clips(rng: np.random.Generator) -> list[np.ndarray]:
    return [0.2 * rng.standard_normal(n).astype(np.float32) for n in (16_000, 40_000)]


def _embed(path: Path, clips: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    features = load_embedder(f"yamnet:{path}").embed(*pad_batch(clips))
    assert features.logits is not None
    return np.concatenate(features.embeddings), features.logits


@pytest.mark.parametrize("inside", ["", "model_weights"])
def test_official_layout_gives_the_network_that_was_unfolded(
    tmp_path: Path, tensors: dict[str, np.ndarray], clips: list[np.ndarray], rng: np.random.Generator, inside: str
) -> None:
    write_h5(tmp_path / "yamnet.h5", variables(tensors, rng), inside)
    save_file(tensors | FRONT_END, tmp_path / "yamnet.safetensors")
    for ours, expected in zip(_embed(tmp_path / "yamnet.h5", clips), _embed(tmp_path / "yamnet.safetensors", clips), strict=True):
        assert np.ptp(expected) > 1.0
        np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("rename", [lambda n: n.removesuffix(":0"), lambda n: n.replace("logits", "dense"), lambda n: n.replace("logits", "dense_3")])
def test_names_of_other_keras_versions(tmp_path: Path, tensors: dict[str, np.ndarray], rng: np.random.Generator, rename: object) -> None:
    values = variables(tensors, rng)
    write_h5(tmp_path / "a.h5", values)
    write_h5(tmp_path / "b.h5", {rename(name): data for name, data in values.items()})  # type: ignore[operator]
    one, other = read_yamnet_h5(tmp_path / "a.h5"), read_yamnet_h5(tmp_path / "b.h5")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_one_network_has_one_checksum_whatever_its_file(tmp_path: Path, tensors: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    write_h5(tmp_path / "yamnet.h5", variables(tensors, rng))
    converted = {name: values.numpy() for name, values in read_yamnet_h5(tmp_path / "yamnet.h5").items()}
    save_file(converted, tmp_path / "converted.safetensors")
    save_file(converted | {"dense.bias": converted["dense.bias"] + 1.0}, tmp_path / "other.safetensors")
    official, same, other = (YamnetEmbedder(tmp_path / name).checksum for name in ("yamnet.h5", "converted.safetensors", "other.safetensors"))
    assert official == same != other
    assert official != tensors_digest(read_yamnet_h5(tmp_path / "yamnet.h5")), "what is made of the tensors counts too"


def test_the_store_converts_it_once(tmp_path: Path, cache: Path, tensors: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    path = tmp_path / "yamnet.h5"
    write_h5(path, variables(tensors, rng))
    with pytest.raises(WeightsError, match="weights pull yamnet"):
        load_embedder("yamnet")
    weights_store.add(path, sha256=sha256_file(path), readers={"hdf5": read_yamnet_h5})
    direct = load_embedder(f"yamnet:{path}").checksum
    path.unlink()
    assert load_embedder("yamnet").checksum == direct


@pytest.mark.shared
def test_real_weights_survive_the_official_layout(tmp_path: Path, shared: Path, rng: np.random.Generator) -> None:
    """1e-5 with one front end; its own is exact where the stored one was computed in float32: 1e-4 between those."""
    stored = load_file(shared / "weights" / "yamnet" / "yamnet.safetensors")
    write_h5(tmp_path / "yamnet.h5", variables({name: value for name, value in stored.items() if not name.startswith("frontend")}, rng))
    save_file(stored | FRONT_END, tmp_path / "exact.safetensors")
    golden = np.load(shared / "weights" / "yamnet" / "golden.npz")
    clips = [golden[f"{name}.waveform"] for name in ("dog", "rain", "short")]
    ours, exact = _embed(tmp_path / "yamnet.h5", clips), _embed(tmp_path / "exact.safetensors", clips)
    np.testing.assert_allclose(ours[0], exact[0], atol=1e-5, rtol=0)
    np.testing.assert_allclose(ours[1], exact[1], atol=1e-5, rtol=1e-5)  # logits reach -85
    own = _embed(shared / "weights" / "yamnet" / "yamnet.safetensors", clips)
    np.testing.assert_allclose(ours[0], own[0], atol=1e-4, rtol=0)
    np.testing.assert_allclose(ours[1], own[1], atol=1e-4, rtol=1e-4)
    read = read_yamnet_h5(tmp_path / "yamnet.h5")
    assert set(read) == set(stored)
    np.testing.assert_allclose(read["frontend.window"], stored["frontend.window"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(read["frontend.mel"], stored["frontend.mel"], atol=1e-5, rtol=0)


def _lacks(values: dict[str, np.ndarray]) -> None:
    del values["layer7/pointwise_conv/bn/moving_mean:0"]


def _has_scale(values: dict[str, np.ndarray]) -> None:
    values["layer1/conv/bn/gamma:0"] = np.ones(32, np.float32)


def _holds_another_models(values: dict[str, np.ndarray]) -> None:
    values["conv2d/kernel:0"] = np.ones(3, np.float32)


def _misshapen(values: dict[str, np.ndarray]) -> None:
    values["layer3/pointwise_conv/kernel:0"] = np.zeros((1, 1, 9, 128), np.float32)


def _flat(values: dict[str, np.ndarray]) -> None:
    values["layer3/pointwise_conv/kernel:0"] = np.zeros(9, np.float32)


def _unequal(values: dict[str, np.ndarray]) -> None:
    values["layer3/pointwise_conv/bn/beta:0"] = np.zeros(9, np.float32)


def _not_finite(values: dict[str, np.ndarray]) -> None:
    values["logits/bias:0"] = np.full(521, np.nan, np.float32)


def _beyond_float32(values: dict[str, np.ndarray]) -> None:
    values["logits/bias:0"] = np.full(521, 1e300)


def _negative_variance(values: dict[str, np.ndarray]) -> None:
    values["layer2/depthwise_conv/bn/moving_variance:0"] = np.full(32, -1.0, np.float32)


def _text(values: dict[str, np.ndarray]) -> None:
    values["logits/bias:0"] = np.array([b"text"] * 521)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_lacks, "layer7/pointwise_conv/bn/moving_mean is missing"),
        (_has_scale, "another model, e.g. layer1/conv/bn/gamma"),
        (_holds_another_models, "another model, e.g. conv2d/conv2d/kernel:0"),
        (_misshapen, r"layer3.pointwise.weight has shape \(128, 9, 1, 1\)"),
        (_flat, r"layer3/pointwise_conv/kernel has shape \(9,\)"),
        (_unequal, "differ in their number of channels"),
        (_not_finite, "dense.bias holds NaN"),
        (_beyond_float32, "dense.bias holds NaN or infinity"),
        (_negative_variance, "moving_variance holds negative values"),
        (_text, r"logits/logits/bias:0 has shape \(521,\) and type"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, tensors: dict[str, np.ndarray], rng: np.random.Generator, spoil: object, says: str) -> None:
    values = variables(tensors, rng)
    spoil(values)  # type: ignore[operator]
    write_h5(tmp_path / "yamnet.h5", values)
    with pytest.raises(WeightsError, match=says):
        read_yamnet_h5(tmp_path / "yamnet.h5")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html>no such object</html>", "begins with '<!DOCTYPE html><"),
        (b"", "is not an HDF5 file"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 90, "damaged"),
    ],
)
def test_files_that_are_no_hdf5(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "yamnet.h5"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=says):
        read_yamnet_h5(path)


@pytest.mark.parametrize("kept", [0.1, 0.6, 0.999])
def test_truncated(tmp_path: Path, tensors: dict[str, np.ndarray], rng: np.random.Generator, kept: float) -> None:
    path = tmp_path / "yamnet.h5"
    write_h5(path, variables(tensors, rng))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(WeightsError, match="damaged"):
        read_yamnet_h5(path)


def test_absent_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        YamnetEmbedder(tmp_path / "absent.h5")
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(WeightsError, match="is a folder"):
        YamnetEmbedder(tmp_path / "folder.h5")


def _external_link(file: h5py.File, other: Path) -> None:
    file["layer1/conv/layer1/conv/kernel:0"] = h5py.ExternalLink(str(other), "/secret")


def _soft_link(file: h5py.File, other: Path) -> None:
    file["layer1/conv/layer1/conv/kernel:0"] = h5py.SoftLink("/elsewhere")


def _external_values(file: h5py.File, other: Path) -> None:
    file.create_dataset("layer1/conv/layer1/conv/kernel:0", (3, 3, 1, 32), "f4", external=[(str(other), 0, 3 * 3 * 32 * 4)])


def _virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((3, 3, 1, 32), "f4")
    layout[:] = h5py.VirtualSource(str(other), "secret", (3, 3, 1, 32))
    file.create_virtual_dataset("layer1/conv/layer1/conv/kernel:0", layout)


def _huge(file: h5py.File, other: Path) -> None:
    file.create_dataset("layer1/conv/layer1/conv/kernel:0", (1 << 40, 3, 1, 32), "f4", chunks=(1, 3, 1, 32))


def _round(file: h5py.File, other: Path) -> None:
    file["layer1/loop"] = file["layer1"]
    file["layer1/again"] = file["layer1"]


@pytest.mark.parametrize(
    ("lure", "says"),
    [
        (_external_link, "is a link"), (_soft_link, "is a link"), (_external_values, "in another file"),
        (_virtual, "in another file"), (_huge, "has shape"), (_round, "more groups"),
    ],
)  # fmt: skip
def test_nothing_leads_out_of_the_file(tmp_path: Path, tensors: dict[str, np.ndarray], rng: np.random.Generator, lure: object, says: str) -> None:
    other = tmp_path / "secret.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = variables(tensors, rng)["layer1/conv/kernel:0"]
    write_h5(tmp_path / "yamnet.h5", variables(tensors, rng))
    with h5py.File(tmp_path / "yamnet.h5", "r+") as file:
        del file["layer1/conv/layer1/conv/kernel:0"]
        lure(file, other)  # type: ignore[operator]
    with pytest.raises(WeightsError, match=says):
        read_yamnet_h5(tmp_path / "yamnet.h5")


def test_without_h5py_the_sentence_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "yamnet.h5").write_bytes(b"")
    code = (
        "import sys; sys.modules['h5py'] = None\nfrom tta_bench.api import load_embedder\n"
        f"try: load_embedder('yamnet:{tmp_path / 'yamnet.h5'}')\nexcept Exception as error: print(type(error).__name__, error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("ExtraMissing h5py cannot be used"), said
    assert "pip install 'tta-bench[yamnet]'" in said
