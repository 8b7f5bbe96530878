"""What can be wrong with a sweep, a run's folder, a baseline: exit code 2 or 3, one sentence that says what to do, nothing damaged."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.system.refusal import Shell
from tests.unit.harness.worlds import save_bundle
from tta_bench.audio import write_audio

SYSTEMS = [
    {"name": "teacher", "network": "teacher", "bundle": "bundle", "steps": [4, 2]},
    {"name": "guided", "network": "guided", "bundle": "bundle", "steps": [2]},
]
CONFIG: dict[str, Any] = {
    "out": "run", "seeds": [0], "metrics": ["fad", "clap", "fidelity_cosine"], "timing_repeats": 0, "batch_size": 4, "listening": 1,
    "clips": {"n": 4}, "systems": SYSTEMS,
}  # fmt: skip


def _write(folder: Path, **changes: Any) -> None:
    import tomli_w

    (folder / "c.toml").write_text(tomli_w.dumps({key: value for key, value in (CONFIG | changes).items() if value is not None}))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a configuration, its run, and a baseline of it."""
    folder = tmp_path_factory.mktemp("finished")
    save_bundle(folder / "bundle")
    _write(folder)
    environment = os.environ | {"TTA_BENCH_CACHE": str(folder / "cache")}
    for command in ("run --config c.toml", "baseline run --out base.jsonl"):
        subprocess.run([sys.executable, "-m", "tta_bench", *command.split()], cwd=folder, env=environment, check=True, capture_output=True)
    return folder


def _config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: _write(folder, **changes)


def _text(name: str, text: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return put


def _gone(pattern: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for path in list(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def _records(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Change every record of a file; the .npz beside a baseline keeps naming the old ones unless `sealed`."""

    def rewrite(folder: Path) -> None:
        lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for line in lines:
            change(line)
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    return rewrite


def _sealed(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """A whole baseline of other records."""

    def rewrite(folder: Path) -> None:
        from tta_bench.files import digest

        _records("base.jsonl", change)(folder)
        with np.load(folder / "base.npz") as stored:
            arrays = dict(stored)
        arrays["records_sha256"] = np.array(digest([(folder / "base.jsonl").read_text()]))
        np.savez(folder / "base.npz", **arrays)

    return rewrite


def _network(**changes: Any) -> Callable[[Path], None]:
    return _config(systems=[{"name": "x", "network": "teacher", "bundle": "bundle", "steps": [2]} | changes])


def _system(**entry: Any) -> Callable[[Path], None]:
    return _config(systems=[{"name": "x", "steps": [2]} | entry])


def _long_name(folder: Path) -> None:
    names = [f"{i}{'x' * 245}" for i in range(4)]
    rows = "".join(f"{name},a{i}.flac,A hum\n" for i, name in enumerate(names))
    for i in range(4):
        write_audio(folder / f"a{i}.flac", np.full(40_960, 0.1 * (i + 1)), 16_000)
    _text("m.csv", f"clip_id,file,caption\n{rows}")(folder)
    _write(folder, clips={"n": 4, "manifest": "m.csv"})


RUN = "run --config c.toml"
CHECK = "check run --baseline base.jsonl"
TABLE: dict[str, tuple[Callable[[Path], None], str, int, tuple[str, ...]]] = {
    # name: (what is wrong, command, exit code, what the sentence must hold)
    "no such configuration": (_gone("c.toml"), RUN, 2, ("c.toml", "cannot be read", "check the path")),
    "not TOML": (_text("c.toml", "systems = ["), RUN, 2, ("c.toml", "not valid TOML")),
    "unknown key": (_config(sedes=[1]), RUN, 2, ("c.toml", "'sedes'", "did you mean seeds")),
    "unknown key of a system": (_network(step=[3]), RUN, 2, ("systems.0.step", "unknown key")),
    "a misspelt pipeline": (_system(pipelin="x", samplers=["own"]), RUN, 2, ("systems.0.pipelin'", "unknown key", "did you mean pipeline")),
    "a misspelt pipeline behind a sampler that fits none": (_system(samplers=["dpmpp"], pipelin="x"), RUN, 2, ("systems.0.pipelin'", "unknown key")),
    "a misspelt audio": (_system(audi="x", samplers=["euler"]), RUN, 2, ("systems.0.audi'", "did you mean audio")),
    "a misspelt name": (_config(systems=[{"nam": "x", "steps": [2]}]), RUN, 2, ("systems.0.nam'", "did you mean name")),
    "a misspelt key of a file with another fault": (_config(sedes=[1], seeds=[1, 1]), RUN, 2, ("'sedes'", "did you mean seeds")),
    "no systems": (_config(systems=[]), RUN, 2, ("c.toml", "systems", "at least 1 item")),
    "no seeds": (_config(seeds=[]), RUN, 2, ("seeds", "at least 1 item")),
    "a seed twice": (_config(seeds=[1, 1]), RUN, 2, ("seeds", "each may be given once")),
    "no steps": (_network(steps=[]), RUN, 2, ("systems.0.steps", "at least 1 item")),
    "steps of zero": (_network(steps=[0]), RUN, 2, ("systems.0.steps", "between 1 and 10,000")),
    "steps without end": (_network(steps=[10**9]), RUN, 2, ("systems.0.steps", "between 1 and 10,000")),
    "true for a number": (_network(steps=[True]), RUN, 2, ("systems.0.steps", "true and false are no numbers")),
    "true for a margin": (_text("g.toml", "margins = { fad = true }"), f"{CHECK} --config g.toml", 2, ("g.toml", "margins", "no numbers")),
    "a clip whose name no file can have": (_long_name, RUN, 2, ("m.csv", "xxx...", "at most 240 bytes")),
    "steps twice": (_network(steps=[2, 2]), RUN, 2, ("systems.0.steps", "each given once")),
    "unknown sampler": (_network(samplers=["euler"]), RUN, 2, ("unknown sampler 'euler'", "dpmpp_2m")),
    "unknown metric": (_config(metrics=["fda"]), RUN, 2, ("unknown metric 'fda'", "fad")),
    "unknown embedder": (_config(embedders=["vgg"]), RUN, 2, ("vgg", "unknown embedder", "bundled")),
    "one system twice": (_config(systems=[SYSTEMS[0], SYSTEMS[0]]), RUN, 2, ("teacher", "there twice", "different names")),
    "a name that breaks tables": (_network(name="a|b"), RUN, 2, ("a|b", "neither '|'")),
    "unknown target": (_config(target="nobody"), RUN, 2, ("target 'nobody'", "guided, teacher")),
    "one clip": (_config(clips={"n": 1}), RUN, 2, ("clips.n = 1", "greater than or equal to 2")),
    "a folder without a manifest": (_config(clips={"n": 4, "folder": "x"}), RUN, 2, ("clips.folder", "clips.manifest")),
    "a manifest that is not there": (_config(clips={"n": 4, "manifest": "m.csv"}), RUN, 2, ("m.csv",)),
    "no such network": (_network(network="student-bsa-{steps}"), RUN, 2, ("student-bsa-2.json", "networks in this folder", "teacher")),
    "no such bundle": (_network(bundle="nowhere"), RUN, 2, ("nowhere/teacher.json", "is not there")),
    "guidance of infinity": (_text("c.toml", 'out = "run"\nguidance_scales = [inf]'), RUN, 2, ("guidance_scales.0 = inf", "finite")),
    "guidance out of range": (_config(guidance_scales=[9.0]), RUN, 2, ("guidance_scales", "1 to 6", "not 9")),
    "no CUDA": (_config(), f"{RUN} --device cuda", 2, ("device cuda", "use cpu")),
    "out is a file": (_text("taken", "x"), f"{RUN} --out taken", 2, ("taken", "cannot be written", "choose another folder")),
    "out holds other clips": (_config(clips={"n": 5}), RUN, 2, ("captions.csv", "lists other clips", "--out")),
    "records damaged": (_text("run/records.jsonl", '{"schema": 1}\n'), RUN, 2, ("run/records.jsonl, line 1", "is not a record")),
    "records of a newer schema": (
        _records("run/records.jsonl", lambda line: line.update(schema=2, more=1)),
        RUN,
        2,
        ("line 1", "schema 2", "update tta_bench"),
    ),
    "records of an older schema": (_records("run/records.jsonl", lambda line: line.update(schema=0)), RUN, 2, ("line 1", "schema 0", "run it again")),
    "report of nothing": (_gone("run"), "report run", 2, ("run", "is not the folder of a run")),
    "report without records": (_gone("run/records.jsonl"), "report run", 2, ("run/records.jsonl", "run the sweep again")),
    "report of a damaged plan": (_text("run/plan.json", "[]"), "report run", 2, ("run/plan.json",)),
    "report of a newer plan": (_text("run/plan.json", '{"format": 7}'), "report run", 2, ("has format 7", "update tta_bench")),
    "report without systems.json": (_gone("run/systems.json"), "report run", 2, ("run/systems.json", "run the sweep again")),
    "report in an unknown format": (_config(), "report run --format pdf", 2, ("pdf", "html, md, csv, latex")),
    "baseline of nothing": (_gone("run"), "baseline run --out new.jsonl", 2, ("run", "holds no records")),
    "baseline of another name": (_config(), "baseline run --out new.json", 2, ("new.json", "must end in .jsonl")),
    "baseline with lost values": (_gone("run/cells/*/clips.npz"), "baseline run --out new.jsonl", 2, ("missing or partial", "must be complete")),
    "check of nothing": (_gone("run"), CHECK, 2, ("run", "holds no records")),
    "no baseline": (_gone("base.*"), CHECK, 2, ("base.jsonl", "is not there", "tta-bench baseline")),
    "half a baseline": (_gone("base.npz"), CHECK, 2, ("base.npz", "is missing", "restore base.jsonl and it")),
    "a baseline of two": (_records("base.jsonl", lambda line: line.update(created="x")), CHECK, 2, ("base.npz", "belongs to other records")),
    "an empty baseline": (_text("base.jsonl", ""), CHECK, 2, ("base.jsonl", "holds no records")),
    "a damaged baseline": (_text("base.jsonl", "{}\n"), CHECK, 2, ("base.jsonl, line 1", "is not a record")),
    "a baseline of another embedder": (_sealed(lambda line: line.update(embedder_sha256="other")), CHECK, 3, ()),
    "a baseline of other captions": (_sealed(lambda line: line["captions_sha256"] and line.update(captions_sha256="other")), CHECK, 3, ()),
    "a margin that is none": (_text("g.toml", 'margins = { fad = "much" }'), f"{CHECK} --config g.toml", 2, ("g.toml", "margins", "'much'")),
    "an alpha that is none": (_text("g.toml", "alpha = 2"), f"{CHECK} --config g.toml", 2, ("g.toml", "alpha = 2")),
    "lost values in the run": (_gone("run/cells/*/clips.npz"), CHECK, 3, ()),
}


@pytest.mark.parametrize("name", TABLE)
def test_one_sentence_and_nothing_damaged(
    name: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare, command, code, parts = TABLE[name]
    folder = tmp_path / "here"
    shutil.copytree(finished, folder)
    prepare(folder)
    Shell(folder, monkeypatch, capfd).refuses(command, parts, code)


def test_a_run_whose_values_are_damaged_is_named_by_the_gate_and_mended_by_the_run(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "here")
    for path in (tmp_path / "here").glob("run/cells/*/clips.npz"):
        path.write_bytes(b"x")

    def called(words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "tta_bench", *words.split()], cwd=tmp_path / "here", capture_output=True, text=True)

    refused = called(CHECK)
    assert (refused.returncode, "clips.npz: cannot be read" in refused.stderr) == (2, True)
    assert "Traceback" not in refused.stderr
    assert called(RUN).returncode == 0
    assert called(CHECK).returncode == 0


def test_a_report_never_lies_over_a_run(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "here")
    shutil.copytree(tmp_path / "here" / "run", tmp_path / "here" / "other")
    before = {path: path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file()}
    command = [sys.executable, "-m", "tta_bench", "report", "run", "--out", "other"]
    result = subprocess.run(command, cwd=tmp_path / "here", capture_output=True, text=True)
    assert (result.returncode, "holds a run, which would be overwritten" in result.stderr) == (2, True)
    assert {path: path.read_bytes() for path in before} == before


def test_a_full_disk_ends_the_run_with_one_sentence(finished: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for it: writing fails in the middle."""
    folder = tmp_path / "here"
    shutil.copytree(finished, folder)
    command = [sys.executable, "-m", "tta_bench", *RUN.split(), "--out", "fresh"]

    def small() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = subprocess.run(command, cwd=folder, preexec_fn=small, capture_output=True, text=True)
    assert result.returncode == 2
    assert "cannot be written (File too large)" in result.stderr
    assert result.stderr.count("\n") == 1
    again = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    shutil.copytree(finished, folder)
    (folder / "closed").mkdir(mode=0o500)
    result = subprocess.run([sys.executable, "-m", "tta_bench", *RUN.split(), "--out", "closed/run"], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 2
    assert "closed/run: cannot be written (Permission denied)" in result.stderr
