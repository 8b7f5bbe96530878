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


@cache
def environment_id() -> str:
    """Fingerprint of `describe_environment` in this process."""
    return digest([describe_environment()])[:16]


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


def describe_host(device: str) -> dict[str, Any]:
    """What times depend on besides the code."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return {"device": device, "name": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
