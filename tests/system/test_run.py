"""`tta-bench run`, `report`, `baseline`, `check` as a user calls them, killed at any moment and run again; the gate inside pytest."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.unit.harness.worlds import save_bundle
from tta_bench.rows import load_saved, load_scores

CONFIG = """
out = "run"
seeds = [{seeds}]
metrics = ["fad", "clap", "fidelity_mel", "fidelity_cosine"]
timing_repeats = {repeats}
batch_size = 4
listening = 2
[clips]
n = {n}
[[systems]]
name = "teacher"
network = "teacher"
bundle = "bundle"
steps = [4, 2]
[[systems]]
name = "guided"
network = "guided"
bundle = "bundle"
steps = [2]
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    save_bundle(folder)
    return folder


@pytest.fixture
def folder(bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(bundle, tmp_path / "bundle")
    configure(tmp_path)
    return tmp_path


def configure(folder: Path, seeds: str = "0, 1", repeats: int = 1, n: int = 6) -> None:
    (folder / "ci.toml").write_text(CONFIG.format(seeds=seeds, repeats=repeats, n=n))


def tta(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tta_bench", *arguments]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=300)


def test_the_second_time_nothing_is_loaded_that_would_do_work(folder: Path, tmp_path: Path) -> None:
    first = tta(folder, "run", "--config", "ci.toml")
    assert first.returncode == 0, first.stderr
    (folder / "no" / "torch").mkdir(parents=True)
    (folder / "no" / "torch" / "__init__.py").write_text("raise ImportError('torch is loaded')")
    blocked = {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder / "no"), os.environ.get("PYTHONPATH"))))}
    again = tta(folder, "run", "--config", "ci.toml", **blocked)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout.replace("(26 new, 0 there already)", "(0 new, 26 there already)")

    audio = sorted((folder / "run").glob("cells/*/audio/*.flac"))[0]
    content = audio.read_bytes()
    audio.unlink()
    refused = tta(folder, "run", "--config", "ci.toml", **blocked)
    assert (refused.returncode, "torch is loaded" in refused.stderr) == (1, True), "the missing file must be noticed"
    assert tta(folder, "run", "--config", "ci.toml").returncode == 0
    assert audio.read_bytes() == content
    assert tta(folder, "run", "--config", "ci.toml", **blocked).returncode == 0


def test_whatever_of_the_report_is_gone_comes_back(folder: Path) -> None:
    assert tta(folder, "run", "--config", "ci.toml").returncode == 0
    report = folder / "run" / "report"
    before = {path.relative_to(report): path.stat().st_size for path in report.rglob("*") if path.is_file()}
    (report / "index.html").unlink()
    assert tta(folder, "run", "--config", "ci.toml").returncode == 0
    assert (report / "index.html").stat().st_size == before[Path("index.html")]
    next(report.glob("figures/*.svg")).write_text("x")
    assert tta(folder, "run", "--config", "ci.toml").returncode == 0
    assert {path.relative_to(report): path.stat().st_size for path in report.rglob("*") if path.is_file()} == before


def test_a_metric_that_is_dropped_is_gone(folder: Path) -> None:
    """A score that failed does not haunt a run that no longer asks for it."""
    configure(folder, n=4)
    whole = (folder / "ci.toml").read_text()
    (folder / "ci.toml").write_text(whole.replace('["fad", "clap",', '["fad", "is", "clap",'))
    assert tta(folder, "run", "--config", "ci.toml").returncode == 4
    (folder / "ci.toml").write_text(whole)
    result = tta(folder, "run", "--config", "ci.toml")
    assert (result.returncode, "inception" in result.stdout, " IS " in result.stdout.partition("length changes")[0]) == (0, False, False)
    assert "(0 new, 26 there already)" in result.stdout
    assert "Incomplete" not in (folder / "run" / "report" / "index.html").read_text()
    assert tta(folder, "baseline", "run", "--out", "base.jsonl").returncode == 0


def _same(run: Path) -> list[dict[str, Any]]:
    """Records without what differs between any two runs, in an order of their own."""
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    for line in lines:
        del line["created"], line["environment"]
    return sorted(lines, key=lambda line: json.dumps([line["cell"], line["metric"], line["embedder"]]))


def _change(run: Path, cut: float) -> None:
    """Make every CLAP contribution worse, in the files, as a worse system would."""
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    for path in run.glob("cells/*/clips.npz"):
        with np.load(path) as stored:
            arrays = dict(stored)
        arrays = {name: value - cut if name.startswith("clap/") and name.endswith("/values") else value for name, value in arrays.items()}
        np.savez(path, **arrays)
    for line in lines:
        if line["metric"] == "clap":
            line["value"] -= cut
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_from_a_configuration_to_report_baseline_and_gate(folder: Path) -> None:
    shown = tta(folder, "run", "--config", "ci.toml", "--show-config")
    assert shown.returncode == 0
    assert "timing_repeats = 1" in shown.stdout
    assert not (folder / "run").exists()
    first = tta(folder, "run", "--config", "ci.toml")
    assert first.returncode == 0, first.stderr
    assert "report: run/report/index.html" in first.stdout
    assert "real audio" in first.stdout
    again = tta(folder, "run", "--config", "ci.toml")
    assert "(0 new" in again.stdout
    assert (folder / "run" / "report" / "index.html").exists()

    accepted = tta(folder, "baseline", "run", "--out", "base.jsonl")
    assert accepted.returncode == 0, accepted.stderr
    assert load_saved(folder / "base.jsonl").keys() == load_scores(folder / "run").keys()
    passed = tta(folder, "check", "run", "--baseline", "base.jsonl", "--junit", "gate.xml", "--markdown", "gate.md")
    assert passed.returncode == 0, passed.stdout
    assert "passed: " in passed.stdout
    assert ElementTree.parse(folder / "gate.xml").getroot().get("failures") == "0"

    _change(folder / "run", cut=0.05)
    worse = tta(folder, "check", "run", "--baseline", "base.jsonl", "--junit", "gate.xml", "--markdown", "gate.md")
    assert worse.returncode == 3
    assert worse.stdout.count("WORSE") == 6 + 1  # three anchors, three rows, the sum
    assert "blocked" in (folder / "gate.md").read_text()
    assert ElementTree.parse(folder / "gate.xml").getroot().get("failures") == "6"

    told = tta(folder, "report", "run", "--out", "shown", "--format", "md,csv")
    assert told.returncode == 0, told.stderr
    assert {path.name for path in (folder / "shown").iterdir()} >= {"report.md", "results.csv", "records.jsonl", "values.npz"}


def test_a_run_that_is_incomplete_says_so_and_exits_4(folder: Path) -> None:
    configure(folder, n=4)
    text = (folder / "ci.toml").read_text().replace('["fad", "clap",', '["is", "clap",')
    (folder / "ci.toml").write_text(text)
    result = tta(folder, "run", "--config", "ci.toml")
    assert result.returncode == 4, result.stderr
    missing = "missing: teacher | 4 steps | guidance 3, seed 0: is (bundled): too_few_clips"
    assert missing in result.stdout
    again = tta(folder, "run", "--config", "ci.toml")
    assert (again.returncode, missing in again.stdout) == (4, True)
    told = tta(folder, "report", "run")
    assert (told.returncode, told.stderr) == (0, "run is incomplete: 9 failures, listed in the report\n")
    refused = tta(folder, "baseline", "run", "--out", "base.jsonl")
    assert refused.returncode == 2
    assert "a baseline must be complete" in refused.stderr
    assert not (folder / "base.jsonl").exists()


def test_the_fixture_gates_a_users_own_tests(folder: Path) -> None:
    assert tta(folder, "run", "--config", "ci.toml").returncode == 0
    assert tta(folder, "baseline", "run", "--out", "base.jsonl").returncode == 0
    (folder / "test_mine.py").write_text('def test_quality(audio_gate):\n    audio_gate("run")\n')
    installed = any(entry.value == "tta_bench.pytest_plugin" for entry in entry_points(group="pytest11"))  # not by a path alone
    named = [] if installed else ["-p", "tta_bench.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", *named, "-p", "no:cacheprovider", "test_mine.py"]

    def outcome(*flags: str) -> str:
        return subprocess.run([*command, *flags], cwd=folder, capture_output=True, text=True).stdout

    assert "1 passed" in outcome("--tta-baseline", "base.jsonl")
    assert "1 skipped" in outcome()
    _change(folder / "run", cut=0.05)
    failed = outcome("--tta-baseline", "base.jsonl")
    assert "1 failed" in failed
    assert "teacher | 2 steps | guidance 3, clap (bundled): WORSE" in failed


@pytest.mark.slow
def test_killed_twenty_times_it_ends_as_if_it_never_was(folder: Path) -> None:
    """SIGKILL at random moments of a run that takes some seconds; then to the end. Nothing lost, nothing twice."""
    configure(folder, seeds="0, 1, 2, 3")
    assert tta(folder, "run", "--config", "ci.toml", "--out", "whole").returncode == 0
    rng = random.Random(7)
    kills = 0
    environment = os.environ | {"TTA_BENCH_CACHE": str(folder / "another cache")}
    while kills < 20:
        process = subprocess.Popen(
            [sys.executable, "-m", "tta_bench", "run", "--config", "ci.toml"], cwd=folder, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        start = time.monotonic()
        _wait_for_work(folder / "run", process)
        try:
            process.wait(rng.uniform(0.0, 0.7))
            assert process.returncode == 0
            shutil.rmtree(folder / "run")  # it came to its end: once more from the beginning
            continue
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        assert time.monotonic() - start < 120
    assert tta(folder, "run", "--config", "ci.toml").returncode == 0
    ours, whole = _same(folder / "run"), _same(folder / "whole")
    for line in (*ours, *whole):
        del line["run"]
    assert ours == whole
    assert load_scores(folder / "run").keys() == load_scores(folder / "whole").keys()


def _wait_for_work(run: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the run's lock is taken: before that there is nothing to kill but imports."""
    while process.poll() is None and not (run / ".lock").exists():
        time.sleep(0.01)
