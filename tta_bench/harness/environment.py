"""What a number was computed with: versions, machine, threads, and the exact code."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import tta_bench
from tta_bench.files import digest, sha256_file

_PACKAGES = ("numpy", "scipy", "torch", "soundfile", "soxr", "safetensors", "pandas", "pydantic")


@cache
def code_version() -> str:
    """Package version and the first digits of the hash of its source: two runs with the same one ran the same code."""
    root = Path(tta_bench.__file__).parent
    sources = sorted(root.rglob("*.py"))
    return f"{tta_bench.__version__}+{digest([[path.relative_to(root).as_posix(), sha256_file(path)] for path in sources])[:12]}"


def describe_environment() -> dict[str, Any]:
    """JSON-able description of the interpreter, the machine and the libraries."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ},
        "packages": versions,
        "code_version": code_version(),
    }
