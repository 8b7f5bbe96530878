"""Published checkpoints that the package can use: where they are, what they are, and who needs them.

A SHA-256 stands here only where it has been published by the host, or by several independent users of the very file; MD5 is Zenodo's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from tta_bench.errors import WeightsError

Kind = Literal["torch", "hdf5", "text"]


@dataclass(frozen=True)
class Published:
    """One file as its authors published it; size in bytes. What is not known is None."""

    address: str
    sha256: str | None = None
    size: int | None = None
    md5: str | None = None

    @property
    def file(self) -> str:
        """Its name on disk, as a browser saves it."""
        return unquote(urlsplit(self.address).path).rpartition("/")[2]


@dataclass(frozen=True)
class Entry:
    """Weights by name. kind: torch and hdf5 files are converted to safetensors, text files kept. needed_by: embedders or systems."""

    name: str
    kind: Kind
    licence: str
    needed_by: tuple[str, ...]
    files: tuple[Published, ...]

    @property
    def size(self) -> int | None:
        """Bytes of all files, where known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def hashes_known(self) -> bool:
        """Whether there is an official hash of every file; where not, the first use of one is trusted."""
        return all(file.sha256 for file in self.files)


def entry(name: str) -> Entry:
    """The entry called `name`. Raises WeightsError that lists the known names."""
    if name not in TABLE:
        raise WeightsError(f"{name}: no weights are called that; known: {', '.join(TABLE)}")
    return TABLE[name]


_ZENODO = "https://zenodo.org/records/3987831/files/"
_LAION = "https://huggingface.co/lukewys/laion_clap/resolve/main/"
_ROBERTA = "https://huggingface.co/FacebookAI/roberta-base/resolve/main/"

_ENTRIES = (
    Entry(
        "vggish",
        "torch",
        "Apache-2.0",
        ("vggish",),
        (
            Published(
                "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
                "10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b",
            ),
        ),
    ),
    Entry(
        "panns-cnn14-16k",
        "torch",
        "CC-BY-4.0",
        ("panns-cnn14-16k",),
        (
            Published(
                f"{_ZENODO}Cnn14_16k_mAP%3D0.438.pth",
                "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6",
                358_668_570,
                "362fc5ff18f1d6ad2f6d464b45893f2c",
            ),
        ),
    ),
    Entry(
        "panns-cnn14-32k",
        "torch",
        "CC-BY-4.0",
        ("panns-cnn14-32k",),
        (
            Published(
                f"{_ZENODO}Cnn14_mAP%3D0.431.pth",
                "0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
                327_428_481,
                "541141fa2ee191a88f24a3219fff024e",
            ),
        ),
    ),
    Entry(
        "clap-630k-audioset-best",
        "torch",
        "CC0-1.0",
        ("clap-laion",),
        (Published(f"{_LAION}630k-audioset-best.pt", "8053c9775516af2f4902e1e8281e356cc1bf7a85e8b761908170767b77c3f037", 1_863_587_645),),
    ),
    Entry("clap-630k-best", "torch", "CC0-1.0", ("clap-laion",), (Published(f"{_LAION}630k-best.pt"),)),
    Entry(
        "clap-music-audioset",
        "torch",
        "CC0-1.0",
        ("clap-laion",),
        (
            Published(
                f"{_LAION}music_audioset_epoch_15_esc_90.14.pt", "fae3e9c087f2909c28a09dc31c8dfcdacbc42ba44c70e972b58c1bd1caf6dedd", 2_352_471_003
            ),
        ),
    ),
    Entry(
        "clap-music-speech-audioset",
        "torch",
        "CC0-1.0",
        ("clap-laion",),
        (
            Published(
                f"{_LAION}music_speech_audioset_epoch_15_esc_89.98.pt",
                "51c68f12f9d7ea25fdaaccf741ec7f81e93ee594455410f3bca4f47f88d8e006",
                2_352_471_003,
            ),
        ),
    ),
    Entry(
        "roberta-base",
        "text",
        "MIT",
        ("clap-laion",),
        (
            Published(f"{_ROBERTA}vocab.json", "9e7f63c2d15d666b52e21d250d2e513b87c9b713cfa6987a82ed89e5e6e50655", 898_823),
            Published(f"{_ROBERTA}merges.txt", "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5", 456_318),
        ),
    ),
    Entry(
        "yamnet",
        "hdf5",
        "Apache-2.0",
        ("yamnet",),
        (
            Published(
                "https://storage.googleapis.com/audioset/yamnet.h5", "13c3308955bbfaef262f175ac9c40e47b134573a93984f009220dd7cc12a1744", 15_296_092
            ),
        ),
    ),
)
TABLE = {item.name: item for item in _ENTRIES}
