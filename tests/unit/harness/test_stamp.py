"""A finished run is known for one only while nothing of it, nor of what it was made from, was touched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tta_bench.harness.stamp import STAMP, default_folder, is_as_left, request_key, write_stamp

SECOND = 1_000_000_000
Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run, and a folder and a file that it was made from."""
    for name in ("run/records.jsonl", "run/cells/ab/audio/x.flac", "run/report/index.html", "run/.lock", "bundle/teacher.json", "clips.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    write_stamp(tmp_path / "run", "mine", [tmp_path / "bundle", tmp_path / "clips.csv"], time.time_ns() + SECOND)
    return tmp_path


def test_it_is_as_it_was_left(folder: Path) -> None:
    assert is_as_left(folder / "run", "mine")
    assert not is_as_left(folder / "run", "another")
    assert not is_as_left(folder / "elsewhere", "mine")


@pytest.mark.parametrize("change", [
    lambda f: (f / "run/cells/ab/audio/x.flac").unlink(), lambda f: (f / "run/records.jsonl").write_text("other"),
    lambda f: (f / "run/cells/new").write_text(""), lambda f: (f / "bundle/student.json").write_text(""), lambda f: (f / "clips.csv").unlink(),
    lambda f: (f / "run" / STAMP).write_text("{"), lambda f: (f / "run" / STAMP).write_text('{"request": "mine"}'),
])  # fmt: skip
def test_whatever_is_touched_shows(folder: Path, change: Change) -> None:
    change(folder)
    assert not is_as_left(folder / "run", "mine")


def test_the_same_size_at_the_same_time_of_modification_shows_too(folder: Path) -> None:
    path = folder / "clips.csv"
    before = path.stat()
    path.write_text("CLIPS.csv")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert not is_as_left(folder / "run", "mine")


def test_an_input_that_was_touched_meanwhile_is_not_vouched_for(folder: Path) -> None:
    started = time.time_ns()
    (folder / "clips.csv").write_text("other")
    write_stamp(folder / "run", "mine", [folder / "bundle", folder / "clips.csv"], started)
    assert not is_as_left(folder / "run", "mine")


def test_what_cannot_be_looked_at_costs_the_stamp_alone(folder: Path) -> None:
    write_stamp(folder / "run", "mine", [folder / "nowhere.csv"], time.time_ns() + SECOND)
    assert not is_as_left(folder / "run", "mine")
    (folder / "run" / "dangling").symlink_to(folder / "nowhere")
    write_stamp(folder / "run", "mine", [folder / "clips.csv"], time.time_ns() + SECOND)
    assert is_as_left(folder / "run", "mine")


def test_a_run_below_one_of_its_inputs(folder: Path) -> None:
    write_stamp(folder / "run", "mine", [folder], time.time_ns() + SECOND)
    assert is_as_left(folder / "run", "mine")


def test_report_and_lock_are_not_looked_at(folder: Path) -> None:
    (folder / "run/report/index.html").unlink()
    (folder / "run/.lock").write_text("9")
    assert is_as_left(folder / "run", "mine")


def test_requests_differ_by_keys_and_by_the_folder_that_paths_start_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = request_key({"seeds": [0]}, False)
    assert request_key({"seeds": [0]}, False) == key
    assert len({key, request_key({"seeds": [1]}, False), request_key({"seeds": [0]}, True)}) == 3
    monkeypatch.chdir(tmp_path)
    assert request_key({"seeds": [0]}, False) != key


def test_default_folders() -> None:
    assert (default_folder("ci", False), default_folder("ci", True)) == ("runs/ci", "runs/ci-quick")
