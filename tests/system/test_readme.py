"""README's commands do what README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tta_bench.metrics.suite import METRICS

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
INSTALL = "python3 -m venv .venv && .venv/bin/pip install . && "
TEST = "python3 -m venv .venv && .venv/bin/pip install --quiet tox && .venv/bin/tox"


def _venv(tmp_path: Path) -> None:
    """`.venv/bin` as README's first line makes it, with what is already installed."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name, module in (("python", ""), ("tta-bench", "-m tta_bench")):
        script = tmp_path / ".venv" / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        script.chmod(0o755)


@pytest.mark.slow
def test_the_first_command_ends_in_a_report(tmp_path: Path) -> None:
    first = next(text for language, text in BLOCKS if language == "bash")
    assert first.startswith(INSTALL)
    _venv(tmp_path)
    result = subprocess.run(["bash", "-c", first.removeprefix(INSTALL)], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "report: runs/sweep-quick/report/index.html" in result.stdout
    assert (tmp_path / "runs/sweep-quick/report/index.html").stat().st_size > 1e6


def test_two_folders_end_in_a_table(tmp_path: Path) -> None:
    _venv(tmp_path)
    command = next(text for language, text in BLOCKS if language == "bash" and "demo/generated" in text)
    environment = os.environ | {"PATH": f"{tmp_path / '.venv' / 'bin'}:{os.environ['PATH']}"}
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "12 clips" in result.stdout
    assert re.search(r"^fad ↓ +mel +\d", result.stdout, flags=re.MULTILINE)
    for code in [text for language, text in BLOCKS if language == "python" and "demo/generated" in text]:
        listing = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert listing.returncode == 0, listing.stderr
        assert "value" in listing.stdout


def test_ci_runs_readmes_test_command() -> None:
    assert any(text.strip() == TEST for language, text in BLOCKS if language == "bash")
    script = ROOT / ".ci" / "run"
    assert script.read_text().splitlines()[-1] == TEST
    assert os.access(script, os.X_OK)


ELSEWHERE = ("demo/generated", "after the command")  # run by another test; in need of a pretrained pipeline, as the whole path has one


@pytest.mark.parametrize("code", [text for language, text in BLOCKS if language == "python" and not any(part in text for part in ELSEWHERE)])
def test_python_examples_run(code: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_metric_is_in_the_table() -> None:
    table = README[README.index("## Metrics") : README.index("## Diffusion")]
    assert set(METRICS) <= set(re.findall(r"`(\w+)`", table))
