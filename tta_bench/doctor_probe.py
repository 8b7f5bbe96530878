"""Does an installed package work? It is imported in a process of its own, so that a crash or a half-made import hurts nobody."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

_TIMEOUT_S = 120.0

# Modules whose name is not the distribution's.
_MODULES = {"pillow": "PIL", "scikit-learn": "sklearn", "frechet-audio-distance": "frechet_audio_distance", "laion-clap": "laion_clap"}
# What is taken from packages that import their parts late: only there a broken neighbour shows.
_PARTS = {"diffusers": ("AudioLDMPipeline", "AudioLDM2Pipeline"), "transformers": ("ClapModel", "T5EncoderModel")}
# These reach for the network, or for files in the user's folder, as soon as they are imported.
_NEVER_IMPORTED = ("panns-inference", "laion-clap", "frechet-audio-distance")

_CHILD = """
import importlib, json, sys
name, parts = sys.argv[1], sys.argv[2:]
facts = {"probed": name}
try:
    module = importlib.import_module(name)
    for part in parts:
        getattr(module, part)
    if name == "torch":
        facts["cuda"] = module.version.cuda
        facts["devices"] = [module.cuda.get_device_name(i) for i in range(module.cuda.device_count())] if module.cuda.is_available() else []
        (module.ones(2, 2) @ module.ones(2, 2)).sum().item()
except BaseException as error:
    facts["error"] = [type(error).__name__, str(error)]
print("\\n" + json.dumps(facts))
"""


@dataclass(frozen=True)
class Package:
    """A distribution, by name. reason: why it does not work, or what was not tried, without full stop. facts: of torch, `cuda` and `devices`."""

    name: str
    version: str | None
    status: Literal["ok", "absent", "broken"]
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def probe_all(names: Iterable[str]) -> dict[str, Package]:
    """`probe` of each, as many at a time as there are cores."""
    with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        return {package.name: package for package in pool.map(probe, dict.fromkeys(names))}


def probe(name: str) -> Package:
    """The state of the distribution `name`."""
    version = installed_version(name)
    if version is None:
        return Package(name, None, "absent")
    if name in _NEVER_IMPORTED:
        return Package(name, version, "ok", "not imported here: it would reach for the network")
    facts = _imported(_MODULES.get(name, name.replace("-", "_")), _PARTS.get(name, ()))
    error = facts.pop("error", None)
    return Package(name, version, "broken", reason_of(*error), facts) if error else Package(name, version, "ok", facts=facts)


def installed_version(name: str) -> str | None:
    """None where it is not installed, or where what is there of it has no version."""
    try:
        return metadata.version(name) or None
    except (metadata.PackageNotFoundError, KeyError):
        return None


def _imported(module: str, parts: Iterable[str]) -> dict[str, Any]:
    """What a child says that imports it; it may not reach the network."""
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONWARNINGS": "ignore"}
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", _CHILD, module, *parts],
            env=os.environ | quiet,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return {"error": ["Timeout", f"its import did not end within {_TIMEOUT_S:.0f} s"]}
    except OSError as error:
        return {"error": ["OSError", f"no process could be started: {error.strerror}"]}
    last = child.stdout.rstrip().rpartition("\n")[2]
    try:
        facts = dict(json.loads(last))
        if facts.pop("probed") == module:
            return facts
    except (ValueError, TypeError, KeyError):  # what the package itself printed before it ended the process
        pass
    return {"error": ["Crash", _ending(child.returncode)]}


def _ending(code: int) -> str:
    if code >= 0:
        return f"its import ends the process with code {code}"
    try:
        return f"its import crashes the process ({signal.Signals(-code).name})"
    except ValueError:
        return f"its import crashes the process (signal {-code})"


def reason_of(kind: str, message: str) -> str:
    """Why an import failed, in words, from the exception's name and message."""
    message = " ".join(message.split())
    for pattern, reason in _REASONS:
        match = re.search(pattern, message)
        if match:
            return match.expand(reason)
    said = message[:160].rstrip(" .")
    return said if kind in ("Timeout", "Crash") else f"{kind}: {said}" if said else kind


_REASONS = (
    (r"operator torchvision::\w+ does not exist", r"torchvision was built for another PyTorch, or for CUDA where PyTorch is a CPU build"),
    (r"(lib(?:c10_cuda|torch_cuda|torch_cuda_\w+)\.so)", r"CUDA mismatch: it was built for CUDA, PyTorch here was not (\1 is missing)"),
    (r"PyTorch and (\w+) .*compiled with different CUDA", r"CUDA mismatch: PyTorch and \1 were compiled for different CUDA versions"),
    (r"(lib(?:cudart|cublas|cudnn|nccl|nvrtc|cusparse)[\w.-]*): cannot open", r"CUDA's library \1 is missing"),
    (r"(\S+\.so[\w.]*): cannot open shared object file", r"the library \1 is missing"),
    (r"(\S+\.so[\w.]*): undefined symbol", r"\1 was built for another version of a library that it uses (undefined symbol)"),
    (r"No module named '([\w.]+)'", r"it needs the module \1, which is not installed"),
    (r"compiled using NumPy 1\.x", r"it was built for NumPy 1"),
)
