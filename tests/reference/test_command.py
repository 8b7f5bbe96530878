"""The command line as a person uses it: processes of their own, which have the shim from PYTHONPATH, or lack it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.reference.conftest import write_clips
from tta_bench.records import read_records

COMMAND = "evaluate --generated g --reference r --backend reference --embedder"


@pytest.fixture
def folder(clips: dict[str, np.ndarray], tmp_path: Path) -> Path:
    short = {name: samples for name, samples in clips.items() if len(samples) < 2.5 * 48_000}
    write_clips(tmp_path / "r", short)
    write_clips(tmp_path / "g", short, noise=0.05)
    return tmp_path


def _run(folder: Path, embedder: str = "vggish", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tta_bench", *COMMAND.split(), embedder]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)


def test_prints_a_table(folder: Path, world: Path) -> None:
    result = _run(folder)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    (record,) = read_records(folder / "runs" / "g-vs-r" / "records.jsonl")
    line = next(line for line in result.stdout.splitlines() if line.startswith("fad"))
    assert f"{record.value:.4g}" in line
    assert record.protocol in line
    assert "note: scores of the reference packages carry no interval" in result.stdout
    assert "too few clips" not in result.stdout
    assert not list(Path(os.environ["TTA_BENCH_CACHE"]).glob("reference-*")), "what was put together for the package is gone"


@pytest.mark.skipif(torch.version.cuda is not None, reason="PyTorch is built for CUDA here, and the packages work")
def test_broken_neighbours_of_torch_are_one_sentence(folder: Path, world: Path) -> None:
    result = _run(folder, PYTHONPATH="")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "torchvision" in result.stderr
    assert "is built for CUDA and PyTorch" in result.stderr
    assert "install PyTorch's CUDA build here" in result.stderr
    assert not (folder / "runs").exists()


def test_absent_tokenisers_are_one_sentence(folder: Path, world: Path, tmp_path: Path) -> None:
    """Without them laion_clap takes every caption for the same five words, and says nothing."""
    result = _run(folder, "clap-laion", HF_HOME=str(tmp_path / "empty"))
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert "hf download" in result.stderr
