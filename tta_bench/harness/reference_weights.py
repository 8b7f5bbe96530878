"""Checkpoints for the reference packages: found, read safely, and put where the packages look, in a folder of their own."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tta_bench import weights_store
from tta_bench.checkpoints import read_checkpoint, tensors_digest
from tta_bench.embedders.load import CLAP_CHECKPOINTS, expanded
from tta_bench.errors import ConfigError, InputError, WeightsError
from tta_bench.files import cannot_write, digest, sha256_file
from tta_bench.weights import cache_folder

_VGGISH = "vggish-10086976.pth"
_VGGISH_CODE = ("harritaylor_torchvggish_main", "harritaylor_torchvggish_master")  # in torch.hub's order
_VGGISH_PCA = "vggish_pca_params-970ea276.pth"  # which the hub's code loads, and the package then does not use
_PANNS = {"panns-cnn14-16k": "Cnn14_16k_mAP%3D0.438.pth", "panns-cnn14-32k": "Cnn14_mAP%3D0.431.pth"}
_POSITIONS = "text_branch.embeddings.position_ids"  # which laion-clap deletes, and therefore needs
SUBMODELS = {
    "630k-audioset-best": ("630k-audioset", "HTSAT-tiny"),
    "630k-best": ("630k", "HTSAT-tiny"),
    "music_audioset_epoch_15_esc_90.14": ("music_audioset", "HTSAT-base"),
    "music_speech_epoch_15_esc_89.25": ("music_speech", "HTSAT-base"),
    "music_speech_audioset_epoch_15_esc_89.98": ("music_speech_audioset", "HTSAT-base"),
}
NAMES = ("vggish", *_PANNS, "clap-laion")


@dataclass(frozen=True)
class Network:
    """A network that a reference package runs.

    kind: what frechet-audio-distance calls it. sample_rate_hz: of the audio it takes. min_samples: the shortest clip at that rate from
    which it makes a row. file: its checkpoint as published, or converted. code: of VGGish, the folder of torch.hub's repository.
    """

    name: str
    kind: Literal["vggish", "pann", "clap"]
    sample_rate_hz: int
    min_samples: int
    file: Path
    official: str  # name of the file, where the package looks for it
    code: Path | None = None

    @property
    def checkpoint(self) -> str:
        """Of CLAP: LAION's name."""
        return Path(self.official).stem


@dataclass(frozen=True)
class Staged:
    """hub: a torch.hub folder with this network alone. name, checksum: what records call it; never as our embedders, beside which it stands."""

    hub: Path
    name: str
    checksum: str


def find_network(spec: str) -> Network:
    """The network called `NAME`, or `NAME:PATH`: a file as published or converted, or a folder of it; else torch.hub's folder or the store.

    Raises ConfigError for a name that the packages do not know, WeightsError for weights that are not there. Nothing is read yet.
    """
    name, colon, path = spec.partition(":")
    if name not in NAMES:
        raise ConfigError(f"--embedder {spec}: the reference packages have no {name!r}; name {', '.join(NAMES)}, or use --backend ours")
    if colon and not path:
        raise InputError(f"--embedder {spec}: nothing follows the colon; write {name}:PATH")
    if name == "vggish":
        file = _find(name, path, f"checkpoints/{_VGGISH}", name)
        return Network(name, "vggish", 16_000, 15_600, file, _VGGISH, _vggish_code(path))
    if name in _PANNS:
        rate, hop = (16_000, 160) if name == "panns-cnn14-16k" else (32_000, 320)
        return Network(name, "pann", rate, 31 * hop, _find(name, path, _PANNS[name], name), _PANNS[name])  # 32 frames, halved five times
    official = _clap_name(spec, path)
    short = next((key for key in CLAP_CHECKPOINTS if official.startswith(key)), None)
    file = _find(name, "" if path in CLAP_CHECKPOINTS else path, f"{official}.pt", CLAP_CHECKPOINTS[short] if short else None)
    return Network(f"clap-laion-{official}", "clap", 48_000, 480, file, f"{official}.pt")


def _clap_name(spec: str, path: str) -> str:
    """Which of LAION's networks is meant: the file's name says so, and nothing in it."""
    if not path or path in CLAP_CHECKPOINTS:
        return next(key for key in SUBMODELS if key.startswith(path or "630k-audioset-best"))
    given = expanded(path)
    if given.is_dir():
        return next((key for key in SUBMODELS if (given / f"{key}.pt").exists()), "630k-audioset-best")
    if given.stem not in SUBMODELS:
        raise InputError(f"--embedder {spec}: laion-clap tells its networks apart by the file's name; call it {', '.join(SUBMODELS)} (.pt)")
    return given.stem


def _find(name: str, path: str, official: str, stored: str | None) -> Path:
    """The checkpoint; `%3D` in its name may be the `=` that it stands for."""
    import torch

    given = expanded(path) if path else None
    if given is not None and not given.is_dir():
        return given
    folder = given or Path(torch.hub.get_dir())
    places = [folder / official, folder / Path(official).name, folder / Path(official).name.replace("%3D", "=")]
    found = next((place for place in places if place.is_file()), weights_store.find(stored) if stored and not given else None)
    if found is None:
        pull = f", or fetch it with: tta-bench weights pull {stored}" if stored and not given else ""
        raise WeightsError(f"{folder / official}: does not exist; write {name}:FILE{pull}")
    return found


def _vggish_code(path: str) -> Path:
    """The network's code is part of torch.hub's repository, not of the package."""
    import torch

    given = [expanded(path)] if path else []
    folders = [folder for folder in (*given, *(item.parent.parent for item in given), Path(torch.hub.get_dir())) if folder.is_dir()]
    found = next((folder / name for folder in folders for name in _VGGISH_CODE if (folder / name / "hubconf.py").is_file()), None)
    if found is None:
        place = Path(torch.hub.get_dir()) / _VGGISH_CODE[1]
        raise WeightsError(
            f"{place}: does not exist, and frechet-audio-distance takes VGGish's code from it; "
            f"fetch it with: git clone https://github.com/harritaylor/torchvggish {place}"
        )
    return found


@contextlib.contextmanager
def staged(network: Network) -> Iterator[Staged]:
    """A torch.hub folder that holds this network, until the end: whatever the packages do to it, the user's files stay as they are.

    The checkpoint is read without running anything that is in it, and written again as plain tensors. Raises WeightsError, StorageError.
    """
    tensors = read_checkpoint(network.file)
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="reference-", dir=cache) as name:
            hub = Path(name)
            _write(hub, network, tensors)
            parts = [network.name, tensors_digest(tensors), _code_digest(network.code) if network.code else None]
            yield Staged(hub, f"reference-{network.name}", digest(parts))
    except OSError as error:
        raise cannot_write(cache, error) from error


def _write(hub: Path, network: Network, tensors: Mapping[str, Any]) -> None:
    import torch

    if network.code is None:
        wrapped = {"model": dict(tensors)} if network.kind == "pann" else {"state_dict": _with_positions(tensors)}
        torch.save(wrapped, hub / network.official)
        return
    (hub / "checkpoints").mkdir()
    shutil.copytree(network.code, hub / network.code.name, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    torch.save(dict(tensors), hub / "checkpoints" / network.official)
    pca = network.code.parent / "checkpoints" / _VGGISH_PCA
    if pca.is_file():
        torch.save(read_checkpoint(pca), hub / "checkpoints" / _VGGISH_PCA)


def _with_positions(tensors: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    weights = tensors.get("text_branch.embeddings.position_embeddings.weight")
    positions = {} if weights is None else {_POSITIONS: torch.arange(len(weights))[None]}
    return positions | dict(tensors)


def _code_digest(folder: Path) -> str:
    return digest([path.relative_to(folder).as_posix(), sha256_file(path)] for path in sorted(folder.rglob("*.py")))
