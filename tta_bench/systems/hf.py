"""diffusers and transformers, which are optional: imported when they are used, and quiet while they load."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from typing import Any

from tta_bench.errors import ExtraMissing


def hf_part(package: str, name: str) -> Any:
    """`name` of "diffusers", "transformers" or "huggingface_hub". Raises ExtraMissing where the package is absent, too old, or broken."""
    try:
        return getattr(importlib.import_module(package), name)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # a broken torchvision beside it raises the second and third
        raise missing(package, error) from error


def missing(package: str, error: Exception) -> ExtraMissing:
    """The error for a package, or one that it needs for a part, that cannot be imported."""
    return ExtraMissing(package, "hf", one_line(error))


def one_line(error: Exception) -> str:
    """What an error says, for the middle of a sentence."""
    return " ".join(str(error).split())[:300]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Neither progress bars, advice nor warnings of what will be deprecated meanwhile; both packages' own settings are put back."""
    logs = [hf_part(f"{package}.utils", "logging") for package in ("diffusers", "transformers")]
    levels, bars = [log.get_verbosity() for log in logs], [log.is_progress_bar_enabled() for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            for kind in (DeprecationWarning, FutureWarning):  # what one package will take from another, and numpy from both
                warnings.simplefilter("ignore", kind)
            warnings.filterwarnings("ignore", module="torchsde")  # of rounding at the end of its interval
            yield
    finally:
        for log, level, bar in zip(logs, levels, bars, strict=True):
            log.set_verbosity(level)
            if bar:
                log.enable_progress_bar()
