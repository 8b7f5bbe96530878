"""Embedders by name: `mel`, `yamnet:PATH`, `log_mel`, `bundled` (or `bundled:FOLDER`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tta_bench.embedders.protocol import Embedder
from tta_bench.errors import InputError


def load_embedder(spec: str, device: str = "cpu") -> Embedder:
    """Embedder called `NAME` or `NAME:PATH`, PATH being its weights file or folder; device "cpu" or "cuda".

    Raises InputError for an unknown name, a path that is missing or not taken, or a device that is not there; WeightsError for bad weights.
    """
    name, colon, path = spec.partition(":")
    if name not in EMBEDDERS:
        raise InputError(f"embedder {spec}: unknown embedder {name!r}; known: {', '.join(EMBEDDERS)}")
    if device == "cuda":
        _need_cuda()
    takes_path, build = EMBEDDERS[name]
    if (takes_path == "always" or colon) and not path:
        raise InputError(f"embedder {spec}: needs its weights file; write {name}:PATH")
    if colon and takes_path == "never":
        raise InputError(f"embedder {spec}: {name} takes no file; write {name}")
    return build(weights_file(spec), device)


def weights_file(spec: str) -> Path | None:
    """The file or folder that a spec names; None where it names none."""
    path = spec.partition(":")[2]
    return _expanded(path) if path else None


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: {error}; write the path out") from error


def _need_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise InputError("device cuda: PyTorch finds no CUDA device here; use cpu")


def _mel(path: Path | None, device: str) -> Embedder:
    from tta_bench.embedders.mel import MelEmbedder

    return MelEmbedder()


def _log_mel(path: Path | None, device: str) -> Embedder:
    from tta_bench.embedders.log_mel import LogMelEmbedder

    return LogMelEmbedder()


def _yamnet(path: Path | None, device: str) -> Embedder:
    from tta_bench.embedders.yamnet import YamnetEmbedder

    assert path is not None  # "always"
    return YamnetEmbedder(path, device)


def _bundled(path: Path | None, device: str) -> Embedder:
    from tta_bench.embedders.bundled import BundledEmbedder

    return BundledEmbedder(path, device)


EMBEDDERS: dict[str, tuple[Literal["never", "always", "may"], Callable[[Path | None, str], Embedder]]] = {
    "mel": ("never", _mel),
    "yamnet": ("always", _yamnet),
    "log_mel": ("never", _log_mel),
    "bundled": ("may", _bundled),
}
