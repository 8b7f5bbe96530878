"""The extra `reference`: frechet-audio-distance and laion-clap, imported so that what is wrong is one sentence and nothing is downloaded."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Any
from urllib.error import URLError

from tta_bench.errors import ExtraMissing, InputError, WeightsError

_OTHERS = ("panns-inference", "torch", "torchaudio", "torchvision", "transformers", "librosa", "resampy", "scipy", "numpy")
_CUDA_ONLY = ("torchvision", "torchaudio")  # without a CPU build for Linux
_TOKENISERS = ("roberta-base", "bert-base-uncased", "facebook/bart-base")


@dataclass(frozen=True)
class Packages:
    """fad, clap: the modules frechet_audio_distance and laion_clap. versions: of these and of what they compute with, for provenance."""

    fad: ModuleType
    clap: ModuleType
    versions: dict[str, str]

    @property
    def fad_id(self) -> str:
        """As protocols name it."""
        return f"frechet-audio-distance-{self.versions['frechet-audio-distance']}"

    @property
    def clap_id(self) -> str:
        """As protocols name it."""
        return f"laion-clap-{self.versions['laion-clap']}"


def need_packages() -> None:
    """Raises ExtraMissing where one is not installed."""
    for name in ("frechet-audio-distance", "laion-clap"):
        if _version(name) == "absent":
            raise ExtraMissing(name, "reference", "it is not installed")


def load_packages() -> Packages:
    """Import them. Raises ExtraMissing where one is absent, InputError where one is broken or lacks the tokenisers that it loads at import."""
    need_packages()
    with offline(), quiet():
        for name in _CUDA_ONLY:
            _probe(name)
        try:
            clap = importlib.import_module("laion_clap")
            fad = importlib.import_module("frechet_audio_distance")
        except ImportError as error:
            raise ExtraMissing("frechet-audio-distance", "reference", first_line(error)) from error
        except Exception as error:
            raise InputError(
                f"laion-clap, without which frechet-audio-distance does not start, cannot be imported ({first_line(error)}); it loads the "
                f"tokenisers of {', '.join(_TOKENISERS)} from the Hugging Face cache: fetch each with `hf download NAME`, or use --backend ours"
            ) from error
    return Packages(fad, clap, {name: _version(name) for name in ("frechet-audio-distance", "laion-clap", *_OTHERS)})


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _probe(name: str) -> None:
    """Beside a CPU build of PyTorch these two fail, each in its own way, and what imports them with them."""
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        import torch

        if _version(name) == "absent":
            raise ExtraMissing(name, "reference", "it is not installed") from error
        if torch.version.cuda is None:
            why = f"{name} {_version(name)} is built for CUDA and PyTorch {torch.__version__} is not"
            advice = "install PyTorch's CUDA build here, which runs without a GPU too"
        else:
            why = f"{name} {_version(name)} does not work with PyTorch {torch.__version__} ({first_line(error)})"
            advice = f"install a matching {name}"
        raise InputError(f"the reference packages cannot be used: {why}; {advice}, or use --backend ours") from error


def first_line(error: Exception) -> str:
    """What an exception says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """What is printed meanwhile, kept from standard output: the packages print their errors, and a line for every weight."""
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed), _quiet_transformers():
        warnings.simplefilter("ignore")
        yield printed


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No bars and no advice about weights."""
    logging: Any
    try:
        from transformers.utils import logging
    except (ImportError, OSError, RuntimeError):  # the packages say so themselves
        yield
        return
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Meanwhile nothing is downloaded: torch.hub takes what is in its folder, huggingface_hub what is in its cache.

    Raises WeightsError where torch.hub would fetch a file.
    """
    import torch

    def refuse(url: str, dst: Any, *_: Any, **__: Any) -> None:
        raise WeightsError(f"{dst}: is not there, and the reference packages would download it; fetch it yourself from {url}")

    def no_network(*_: Any, **__: Any) -> None:
        raise URLError("offline")

    hub: Any = torch.hub
    before = hub.urlopen, hub.download_url_to_file, hub.get_dir(), os.environ.get("HF_HUB_OFFLINE")
    hub.urlopen, hub.download_url_to_file = no_network, refuse
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported
    try:
        yield
    finally:
        hub.urlopen, hub.download_url_to_file = before[:2]
        hub.set_dir(before[2])
        if before[3] is None:
            os.environ.pop("HF_HUB_OFFLINE", None)


@contextlib.contextmanager
def on_device(device: str) -> Iterator[None]:
    """The packages take a GPU wherever PyTorch finds one; with "cpu" it finds none meanwhile."""
    import torch

    kinds: tuple[Any, ...] = (torch.cuda, torch.backends.mps)
    before = [kind.is_available for kind in kinds]
    if device == "cpu":
        for kind in kinds:
            kind.is_available = lambda: False
    try:
        yield
    finally:
        for kind, is_available in zip(kinds, before, strict=True):
            kind.is_available = is_available
