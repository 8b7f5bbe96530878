"""The core stays lean: what it installs, and what commands say that need more."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from safetensors.numpy import save_file

from tests.conftest import ROOT
from tests.unit.harness.toys import make_folder

NEVER_IN_THE_CORE = {"torchvision", "torchaudio", "transformers", "diffusers", "accelerate", "h5py", "ray", "librosa", "tensorflow"}
OPTIONAL = ("transformers", "diffusers", "h5py", "laion_clap", "frechet_audio_distance", "panns_inference", "accelerate", "torchvision", "torchaudio")
BLOCKED = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
from tta_bench.cli import main
main()
"""


def _asked(name: str, extras: frozenset[str]) -> list[Requirement]:
    """What an installed distribution asks for on this machine."""
    lines = [Requirement(line) for line in metadata.requires(name) or []]
    return [line for line in lines if line.marker is None or any(line.marker.evaluate({"extra": extra}) for extra in extras or {""})]


def test_what_the_core_brings_along() -> None:
    """The closure of the core's dependencies, as they are installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pending = [Requirement(line) for line in project["dependencies"]]
    closure: dict[str, str] = {}
    while pending:
        asked = pending.pop()
        name = canonicalize_name(asked.name)
        if name in closure:
            continue
        closure[name] = metadata.version(asked.name)  # each is installed: nothing of the closure goes unseen
        pending += _asked(asked.name, frozenset(asked.extras))
    assert {"torch", "numpy", "requests", "certifi", "sympy"} <= set(closure), "the walk goes beyond the first level"
    assert not set(closure) & NEVER_IN_THE_CORE


def _audio(folder: Path) -> None:
    make_folder(folder / "g")
    make_folder(folder / "r")


def _yamnet(folder: Path) -> None:
    _audio(folder)
    (folder / "yamnet.h5").write_bytes(b"\x89HDF\r\n\x1a\n")


def _clap(folder: Path) -> None:
    _audio(folder)
    save_file({"x": np.zeros(1, np.float32)}, folder / "clap.safetensors")
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_text("{}")


def _recipe(folder: Path) -> None:
    (folder / "c.toml").write_text('out = "o"\n[data]\nclips = 4\n[codec]\nupdates = 1\n')


def _pipeline(folder: Path) -> None:
    from tests.unit.systems.pipelines import write_audioldm

    write_audioldm(folder / "pipeline")
    (folder / "c.toml").write_text('[clips]\nn = 2\n[[systems]]\nname = "p"\npipeline = "pipeline"\nsteps = [2]\n')


HASH = hashlib.sha256(b"\x89HDF\r\n\x1a\n").hexdigest()
# name, what lies there before, the command, the extra that brings what it lacks
CASES: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("yamnet from Google's file", _yamnet, "evaluate --generated g --reference r --embedder yamnet:yamnet.h5 --out run", "yamnet"),
    ("Google's file into the store", _yamnet, f"weights add yamnet.h5 --sha256 {HASH}", "yamnet"),
    ("clap-laion", _clap, "evaluate --generated g --reference r --embedder clap-laion:clap.safetensors --out run", "hf"),
    ("the reference packages", _audio, "evaluate --generated g --reference r --backend reference --embedder vggish:w --out run", "reference"),
    ("a pipeline in a sweep", _pipeline, "run --config c.toml --out run", "hf"),
    ("a pipeline as teacher", _pipeline, "distill --teacher diffusers:pipeline --weighting bsa --steps 4,2 --out d --clips 4 --device cpu", "hf"),
    ("train", _recipe, "train c.toml", "train"),
    ("distill", _recipe, "distill --teacher {assets} --weighting bsa --steps 200,100 --out d --clips 4 --updates 1 --device cpu", "train"),
]


@pytest.mark.parametrize(("name", "prepare", "command", "extra"), CASES, ids=[case[0] for case in CASES])
def test_a_command_says_which_extra_it_needs(tmp_path: Path, name: str, prepare: Callable[[Path], None], command: str, extra: str) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    prepare(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    arguments = shlex.split(command.format(assets=ROOT / "tta_bench" / "assets"))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", BLOCKED, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("tta-bench: "), done.stderr
    assert done.stderr.count("\n") == 1, "one sentence"
    assert f"pip install 'tta-bench[{extra}]'" in done.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_the_core_needs_none_of_them(tmp_path: Path) -> None:
    """Evaluation with the bundled networks, where every optional package is absent."""
    _audio(tmp_path)
    command = "evaluate --generated g --reference r --embedder bundled --out run"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", BLOCKED, *shlex.split(command)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "records.jsonl").is_file()
