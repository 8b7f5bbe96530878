"""The package as it is installed, and the tools that check its source."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import tta_bench
from tests.conftest import ROOT


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import tta_bench",
        "import sys, tta_bench.cli as c\nsys.argv = ['tta-bench', '--help']\ntry: c.main()\nexcept SystemExit: pass",
        "import sys, tta_bench.cli as c\nsys.argv = ['tta-bench', 'evaluate', '--help']\ntry: c.main()\nexcept SystemExit: pass",
        "import sys, tta_bench.cli as c\nsys.argv = ['tta-bench', 'weights', 'pull', '--help']\ntry: c.main()\nexcept SystemExit: pass",
    ],
)
def test_neither_import_nor_help_loads_heavy_packages(code: str) -> None:
    loaded = set(_python(code + "\nimport sys; print('\\nLOADED', *sys.modules)").rsplit("LOADED", 1)[1].split())
    assert "tta_bench" in loaded
    assert not loaded & {"torch", "pandas", "scipy", "matplotlib", "numpy"}


def test_help_takes_less_than_half_a_second() -> None:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "tta_bench", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5  # the least disturbed of five


def test_evaluating_with_mel_needs_no_torch(tmp_path: Path) -> None:
    code = f"""
import sys, numpy as np
from pathlib import Path
import tta_bench
from tta_bench.audio import write_audio
for side in "gr":
    for i in range(4):
        write_audio(Path({str(tmp_path)!r}) / side / f"{{i}}.wav", np.random.default_rng([ord(side), i]).uniform(-.5, .5, 8000), 16000)
tta_bench.evaluate({str(tmp_path / "g")!r}, {str(tmp_path / "r")!r}, out={str(tmp_path / "run")!r})
print("torch" in sys.modules, "pandas" in sys.modules)
"""
    assert _python(code).split() == ["False", "False"]


def test_public_names_are_there() -> None:
    for name in tta_bench.__all__:
        assert getattr(tta_bench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        _ = tta_bench.evalute


def test_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "tta-bench"
    assert "torch>=2.11,<2.14" in project["dependencies"]
    assert {"reference", "hf", "train", "ray", "test", "dev"} <= set(project["optional-dependencies"])


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=["ruff", "format", "mypy"])
def test_static_checks(command: list[str], tmp_path: Path) -> None:
    options = {"ruff": ["--no-cache"], "mypy": ["--cache-dir", str(tmp_path)]}[command[0]]
    result = subprocess.run([sys.executable, "-m", *command, *options], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
