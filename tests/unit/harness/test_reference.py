"""What of the reference backend needs none of its packages: where weights are found, how they are put together, what is missing."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch

import tta_bench
from tests.unit.harness.toys import ToyEmbedder, make_folder
from tta_bench.errors import ConfigError, ExtraMissing, InputError, WeightsError
from tta_bench.harness import reference_weights
from tta_bench.harness.reference_packages import load_packages, offline, on_device
from tta_bench.harness.reference_weights import Network, find_network, staged

CODE = "harritaylor_torchvggish_master"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder, with files that are there but hold nothing."""
    folder = tmp_path / "torch" / "hub"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / CODE).mkdir()
    for name in ("checkpoints/vggish-10086976.pth", f"{CODE}/hubconf.py", "Cnn14_16k_mAP%3D0.438.pth", "630k-audioset-best.pt"):
        (folder / name).touch()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    return folder


def test_networks_are_found_where_the_packages_look(hub: Path, tmp_path: Path) -> None:
    vggish = find_network("vggish")
    assert (vggish.file, vggish.code) == (hub / "checkpoints" / "vggish-10086976.pth", hub / CODE)
    assert find_network("panns-cnn14-16k").file == hub / "Cnn14_16k_mAP%3D0.438.pth"
    clap = find_network("clap-laion")
    assert (clap.name, clap.file) == ("clap-laion-630k-audioset-best", hub / "630k-audioset-best.pt")
    (tmp_path / "Cnn14_mAP=0.431.pth").touch()
    assert find_network(f"panns-cnn14-32k:{tmp_path}").file == tmp_path / "Cnn14_mAP=0.431.pth"
    (tmp_path / "music_audioset_epoch_15_esc_90.14.pt").touch()
    assert find_network(f"clap-laion:{tmp_path}").checkpoint == "music_audioset_epoch_15_esc_90.14"
    own = tmp_path / "mine" / "630k-best.safetensors"
    assert (find_network(f"clap-laion:{own}").official, find_network(f"clap-laion:{own}").file) == ("630k-best.pt", own)


def test_the_store_serves_where_torch_hub_lacks_a_file(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {"clap-music-audioset": tmp_path / "a.safetensors", "panns-cnn14-32k": tmp_path / "b.safetensors"}
    monkeypatch.setattr(reference_weights.weights_store, "find", stored.get)
    assert find_network("clap-laion:music_audioset").file == stored["clap-music-audioset"]
    assert find_network("panns-cnn14-32k").file == stored["panns-cnn14-32k"]
    with pytest.raises(WeightsError, match="tta-bench weights pull clap-630k-best"):
        find_network("clap-laion:630k-best")


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("mel", ConfigError, "the reference packages have no 'mel'"),
        ("vggish:", InputError, "nothing follows the colon"),
        ("clap-laion:other.pt", InputError, "by the file's name"),
        ("panns-cnn14-32k", WeightsError, "write panns-cnn14-32k:FILE, or fetch it with"),
    ],
)
def test_refusals(hub: Path, spec: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        find_network(spec)


def test_vggish_needs_the_code_of_its_repository(hub: Path) -> None:
    (hub / CODE / "hubconf.py").unlink()
    with pytest.raises(WeightsError, match=r"git clone https://github\.com/harritaylor/torchvggish"):
        find_network("vggish")


def test_staged_weights_are_plain_and_of_the_layout(hub: Path, tmp_path: Path) -> None:
    """The same network from a published file and from its conversion has one checksum; nothing stays behind, and the file stays as it was."""
    from safetensors.torch import save_file

    tensors = {"text_branch.embeddings.position_embeddings.weight": torch.rand(5, 2), "a": torch.rand(3)}
    published, converted = tmp_path / "630k-best.pt", tmp_path / "630k-best.safetensors"
    torch.save({"epoch": 1, "state_dict": {f"module.{name}": value for name, value in tensors.items()}}, published)
    save_file(tensors, converted)
    before = published.read_bytes()
    sums = []
    for file in (published, converted):
        with staged(find_network(f"clap-laion:{file}")) as there:
            state = torch.load(there.hub / "630k-best.pt", weights_only=True)["state_dict"]
            assert state["text_branch.embeddings.position_ids"].tolist() == [[0, 1, 2, 3, 4]]
            assert torch.equal(state["a"], tensors["a"])
            sums.append(there.checksum)
            (there.hub / "630k-best.pt").write_bytes(b"overwritten by a download")
        assert not there.hub.exists()
    assert sums[0] == sums[1]
    assert published.read_bytes() == before
    torch.save({"a": torch.rand(3)}, tmp_path / "Cnn14.pth")
    panns = Network("panns-cnn14-16k", "pann", 16_000, 4_960, tmp_path / "Cnn14.pth", "Cnn14_16k_mAP%3D0.438.pth")
    with staged(panns) as there:
        assert set(torch.load(there.hub / panns.official, weights_only=True)) == {"model"}


def test_vggish_is_staged_with_its_code(hub: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.rand(3)}, hub / "checkpoints" / "vggish-10086976.pth")
    torch.save({"pca": torch.rand(3)}, hub / "checkpoints" / "vggish_pca_params-970ea276.pth")
    sums = []
    for code in ("one", "two"):
        (hub / CODE / "hubconf.py").write_text(f"# {code}\n")
        with staged(find_network("vggish")) as there:
            found = {path.relative_to(there.hub).as_posix() for path in there.hub.rglob("*") if path.is_file()}
            sums.append(there.checksum)
    assert found == {f"{CODE}/hubconf.py", "checkpoints/vggish-10086976.pth", "checkpoints/vggish_pca_params-970ea276.pth"}
    assert sums[0] != sums[1], "other code is another network"


def test_nothing_is_downloaded(hub: Path, tmp_path: Path) -> None:
    with offline(), pytest.raises(WeightsError, match=r"gone\.pth: is not there, and the reference packages would download it; fetch it yourself"):
        torch.hub.load_state_dict_from_url("https://example.org/gone.pth")
    with offline(), pytest.raises(RuntimeError, match="no internet connection"):
        torch.hub.load("nobody/nothing", "network")


def test_on_a_cpu_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with on_device("cpu"):
        assert not torch.cuda.is_available()
    with on_device("cuda"):
        assert torch.cuda.is_available()
    assert torch.cuda.is_available()


def test_absent_packages_say_what_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(ExtraMissing, match=r"frechet-audio-distance cannot be used \(it is not installed\); .*tta-bench\[reference\]"):
        load_packages()


def test_objects_are_no_names(tmp_path: Path) -> None:
    make_folder(tmp_path / "g")
    with pytest.raises(InputError, match="takes names of embedders"):
        tta_bench.evaluate(tmp_path / "g", tmp_path / "g", embedders=[ToyEmbedder()], backend="reference")
