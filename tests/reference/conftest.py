"""The reference packages in this process and in those that tests start: offline, on random weights in the official layouts."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.reference.shim import sitecustomize  # noqa: F401  # this process' torch is loaded without it
from tests.reference.world import CLAP_FILES, environment, make_clap, make_world
from tta_bench.audio import write_audio

_WORLD = "TTA_BENCH_TEST_WORLD"
PACKAGES = ("frechet_audio_distance", "laion_clap", "panns_inference")
if any(importlib.util.find_spec(name) is None for name in PACKAGES):
    collect_ignore_glob = ["test_*.py"]
WORLD_IS_MINE = _WORLD not in os.environ  # not in the workers of pytest-xdist, which get the variable from the process that starts them
os.environ.setdefault(_WORLD, tempfile.mkdtemp(prefix="tta-bench-reference-"))
os.environ |= environment(Path(os.environ[_WORLD]))


def pytest_unconfigure() -> None:
    if WORLD_IS_MINE:
        shutil.rmtree(os.environ[_WORLD], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/reference" in item.nodeid:  # what the packages and theirs warn of is not ours to mend
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def world() -> Path:
    """Made once for all workers."""
    folder = Path(os.environ[_WORLD])
    with FileLock(folder / "lock"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not (folder / "whole").exists():
            make_world(folder)
            for audio_model, name in CLAP_FILES.items():
                make_clap(folder / "hub" / name, audio_model)
            (folder / "whole").touch()
    return folder


@pytest.fixture(scope="session")
def hub(world: Path) -> Path:
    """torch.hub's folder."""
    return world / "hub"


@pytest.fixture(scope="session")
def clips() -> dict[str, np.ndarray]:
    """Twelve sounds at 48 kHz, between 1 s and 11 s."""
    rng = np.random.default_rng(3)
    made = {}
    for i, seconds in enumerate((1.0, 1.5, 2.0, 2.2, 2.56, 3.0, 3.3, 4.0, 5.0, 7.0, 10.0, 11.0)):
        t = np.arange(round(48_000 * seconds)) / 48_000
        tone = np.sin(2 * np.pi * rng.uniform(200, 4000) * t * (1 + rng.uniform(-0.05, 0.05) * t)) * np.exp(-rng.uniform(0, 2) * (t % 0.7))
        made[f"clip{i:02d}"] = (0.4 * tone + 0.05 * rng.standard_normal(len(t)) * rng.uniform(0.1, 1.0)).astype(np.float32)
    return made


def write_clips(folder: Path, clips: dict[str, np.ndarray], noise: float = 0.0, rate: int = 48_000) -> Path:
    """`clips` as 16-bit FLAC, with noise on top."""
    for i, (name, samples) in enumerate(clips.items()):
        write_audio(folder / f"{name}.flac", samples + noise * np.random.default_rng(i).standard_normal(len(samples)), rate)
    return folder
