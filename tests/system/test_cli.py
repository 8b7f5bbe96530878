"""The command line as a person uses it: a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.unit.harness.toys import make_folder
from tta_bench.audio import write_audio
from tta_bench.metrics.frechet import frechet_distance
from tta_bench.records import read_records


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tta_bench", *arguments], cwd=cwd, capture_output=True, text=True)


def test_evaluate_prints_a_table_and_writes_records(tmp_path: Path) -> None:
    make_folder(tmp_path / "g", seed=1)
    make_folder(tmp_path / "r", seed=2)
    result = _run("evaluate", "--generated", "g", "--reference", "r", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "generated: g: 12 clips, 0.2 min, 12 newly embedded" in result.stdout
    records = read_records(tmp_path / "runs" / "g-vs-r" / "records.jsonl")
    assert [record.metric for record in records] == ["fad", "kad"]
    for record in records:
        line = next(line for line in result.stdout.splitlines() if line.startswith(record.metric))
        assert f"{record.value:.4g}" in line
        assert f"{record.std_error:.4g}" in line
        assert record.protocol in line
    assert "note: not computed: kl needs an embedder with class logits, and mel has none" in result.stdout
    again = _run("evaluate", "--config", "runs/g-vs-r/config.toml", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "2 of 2 scores were there already" in again.stdout
    assert read_records(tmp_path / "runs" / "g-vs-r" / "records.jsonl") == records


def test_excluded_files_are_printed(tmp_path: Path) -> None:
    make_folder(tmp_path / "g", seed=1)
    make_folder(tmp_path / "r", seed=2)
    (tmp_path / "g" / "clip03.flac").write_bytes(b"")
    result = _run("evaluate", "--generated", "g", "--reference", "r", "--skip-bad", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "left out: 1" in result.stdout
    assert "empty: g/clip03.flac: is an empty file (0 bytes)" in result.stdout


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGKILL", -9)])
def test_interrupted_and_run_again(tmp_path: Path, name: str, code: int) -> None:
    """Stopped while it embeds, at whatever point; the same command then finishes, from the features that were already there."""
    for side, seed in (("g", 1), ("r", 2)):
        for i in range(150):
            noise = np.random.default_rng([seed, i]).uniform(-0.5, 0.5, 32_000)
            write_audio(tmp_path / side / f"{i:03d}.flac", noise, 16_000)
    command = [sys.executable, "-m", "tta_bench", "evaluate", "--generated", "g", "--reference", "r"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cache = Path(os.environ["TTA_BENCH_CACHE"])
    deadline = time.monotonic() + 60
    while len(list(cache.rglob("*.safetensors"))) < 20:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.Signals[name])
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    done = len(list(cache.rglob("*.safetensors")))
    assert 20 <= done < 300
    result = _run(*command[3:], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert sum(map(int, re.findall(r"(\d+) newly embedded", result.stdout))) == 300 - done
    (fad, _) = read_records(tmp_path / "runs" / "g-vs-r" / "records.jsonl")
    assert fad.n == fad.n_reference == 150


def test_a_read_only_cache_is_an_error_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "g", seed=1)
    make_folder(tmp_path / "r", seed=2)
    monkeypatch.setenv("TTA_BENCH_CACHE", "/proc/nowhere")
    result = _run("evaluate", "--generated", "g", "--reference", "r", cwd=tmp_path)
    assert result.returncode == 2
    assert "cannot be written" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.shared
def test_real_recordings_with_yamnet(tmp_path: Path, shared: Path) -> None:
    """ESC-10 clips of two folds; the printed score is the plain function's on the stored features."""
    import csv

    from tta_bench.harness.store import read_tensors

    with (shared / "data" / "esc10" / "metadata.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] in "12"]
    for row in rows:
        side = tmp_path / {"1": "g", "2": "r"}[row["fold"]]
        side.mkdir(exist_ok=True)
        if len(list(side.iterdir())) < 24:
            (side / row["file"]).symlink_to(shared / "data" / "esc10" / row["file"])
    weights, captions = shared / "weights" / "yamnet" / "yamnet.safetensors", shared / "data" / "esc10" / "metadata.csv"
    arguments = ("evaluate", "--generated", "g", "--reference", "r", "--captions", str(captions), "--embedder", f"yamnet:{weights}")
    result = _run(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    records = {record.metric: record for record in read_records(tmp_path / "runs" / "g-vs-r" / "records.jsonl")}
    assert {name: record.status for name, record in records.items()} == {"fad": "ok", "kad": "ok", "kl": "unpaired", "is": "ok"}
    assert "clap needs an embedder with a joint text-audio space, and yamnet has none" in result.stdout
    files = {path.parents[2].name: path for path in (tmp_path / "runs").rglob("yamnet.safetensors")}
    rows_of = {side: read_tensors(path)[0]["embeddings"] for side, path in files.items()}
    assert records["fad"].value == pytest.approx(frechet_distance(rows_of["reference"], rows_of["cells"]), rel=1e-9)
    listed = json.loads(next((tmp_path / "runs").rglob("cells/*/clips.json")).read_text())
    active = {Path(row["file"]).stem: float(row["active_fraction"]) for row in rows}
    assert all(abs(1 - clip["silent_share"] - active[clip["clip_id"]]) < 1e-3 for clip in listed["clips"])


def test_version() -> None:
    assert _run("--version", cwd=ROOT).stdout.startswith("tta-bench 0.")
