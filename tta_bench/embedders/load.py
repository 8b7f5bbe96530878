"""Embedders by name: `mel`, `log_mel`, `bundled[:FOLDER]`, `events[:FOLDER]`, and published networks, `NAME[:FILE]`.

The weights of published networks come from the store without FILE.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tta_bench import weights_store
from tta_bench.embedders.protocol import Embedder
from tta_bench.errors import InputError

# what `clap-laion:NAME` may name, and what the store calls it
CLAP_CHECKPOINTS = {
    "630k-audioset-best": "clap-630k-audioset-best",
    "630k-best": "clap-630k-best",
    "music_audioset": "clap-music-audioset",
    "music_speech_audioset": "clap-music-speech-audioset",
}
_TOKENISER = "roberta-base"
_STORED = {
    "yamnet": "yamnet",
    "vggish": "vggish",
    "vggish-google": "vggish",
    "panns-cnn14-16k": "panns-cnn14-16k",
    "panns-cnn14-32k": "panns-cnn14-32k",
    "clap-laion": CLAP_CHECKPOINTS["630k-audioset-best"],
}


def load_embedder(spec: str, device: str = "cpu") -> Embedder:
    """Embedder called `NAME` or `NAME:PATH`, PATH being its weights file or folder; device "cpu" or "cuda".

    Raises InputError for an unknown name, a path that is not taken, or a device that is not there; WeightsError for weights that are bad, or
    that are neither named nor in the store.
    """
    name, colon, path = spec.partition(":")
    if name not in EMBEDDERS:
        raise InputError(f"embedder {spec}: unknown embedder {name!r}; known: {', '.join(EMBEDDERS)}")
    if device == "cuda":
        need_cuda()
    if colon and not path:
        raise InputError(f"embedder {spec}: nothing follows the colon; write {name}:PATH")
    if colon and name in _WITHOUT_WEIGHTS:
        raise InputError(f"embedder {spec}: {name} takes no file; write {name}")
    return EMBEDDERS[name](spec, device)


def weights_file(spec: str) -> Path | None:
    """The file or folder that a spec names, or else what the store has for it; None where there is none."""
    name, _, path = spec.partition(":")
    if name == "clap-laion" and path in CLAP_CHECKPOINTS:
        return weights_store.find(CLAP_CHECKPOINTS[path])
    if path:
        return expanded(path)
    return weights_store.find(_STORED[name]) if name in _STORED else None


def _weights(spec: str) -> Path:
    """As `weights_file`; raises WeightsError saying how to get what the store lacks."""
    name, _, path = spec.partition(":")
    stored = CLAP_CHECKPOINTS.get(path) if name == "clap-laion" and path else None if path else _STORED[name]
    return weights_store.checkpoint(stored) if stored else expanded(path)


def expanded(path: str) -> Path:
    """`path` with the user's folder in place of "~"; raises InputError where that is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: {error}; write the path out") from error


def need_cuda() -> None:
    """Raises InputError where PyTorch finds no CUDA device."""
    import torch

    if not torch.cuda.is_available():
        raise InputError("device cuda: PyTorch finds no CUDA device here; use cpu")


def _mel(spec: str, device: str) -> Embedder:
    from tta_bench.embedders.mel import MelEmbedder

    return MelEmbedder()


def _log_mel(spec: str, device: str) -> Embedder:
    from tta_bench.embedders.log_mel import LogMelEmbedder

    return LogMelEmbedder()


def _bundled(spec: str, device: str) -> Embedder:
    from tta_bench.embedders.bundled import BundledEmbedder

    return BundledEmbedder(weights_file(spec), device)


def _events(spec: str, device: str) -> Embedder:
    from tta_bench.embedders.events import EventsEmbedder

    return EventsEmbedder(weights_file(spec), device)


def _yamnet(spec: str, device: str) -> Embedder:
    from tta_bench.embedders.yamnet import YamnetEmbedder

    return YamnetEmbedder(_weights(spec), device)


def _vggish(spec: str, device: str) -> Embedder:
    from tta_bench.embedders.vggish import VggishEmbedder

    return VggishEmbedder(_weights(spec), device, "fad_google" if spec.startswith("vggish-google") else "fad_vggish")


def _panns(spec: str, device: str) -> Embedder:
    from tta_bench.embedders.panns import PannsEmbedder

    return PannsEmbedder(_weights(spec), device, spec.partition(":")[0])


def _clap(spec: str, device: str) -> Embedder:
    """The tokeniser's files lie beside a named file, or come from the store."""
    from tta_bench.embedders.clap import TOKENISER_FILES, ClapEmbedder

    path, asked = _weights(spec), spec.partition(":")[2]
    checkpoint = asked if asked in CLAP_CHECKPOINTS else path.stem if asked else "630k-audioset-best"
    beside = asked and asked not in CLAP_CHECKPOINTS and all((path.parent / name).is_file() for name in TOKENISER_FILES)
    return ClapEmbedder(path, path.parent if beside else weights_store.checkpoint(_TOKENISER), device, checkpoint)


_WITHOUT_WEIGHTS = ("mel", "log_mel")
EMBEDDERS: dict[str, Callable[[str, str], Embedder]] = {
    "mel": _mel,
    "log_mel": _log_mel,
    "bundled": _bundled,
    "events": _events,
    "yamnet": _yamnet,
    "vggish": _vggish,
    "vggish-google": _vggish,
    "panns-cnn14-16k": _panns,
    "panns-cnn14-32k": _panns,
    "clap-laion": _clap,
}
