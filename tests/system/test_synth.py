"""`tta-bench synth` as a person uses it."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tta_bench.audio import read_audio
from tta_bench.data.manifest import read_captions, read_manifest
from tta_bench.data.synth import synth_clip
from tta_bench.errors import InputError
from tta_bench.harness.synth_set import SynthSet, write_synth_set


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tta_bench", "synth", *arguments], cwd=cwd, capture_output=True, text=True)


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_clips_and_their_captions(tmp_path: Path) -> None:
    result = _run("--out", "clips", "--n", "6", "--split", "val", "--seed", "3", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "6 clips of SynthCaps (val, seed 3) in clips; clips/captions.csv is a manifest for train and evaluate\n"
    assert result.stderr == ""
    listing = tmp_path / "clips" / "captions.csv"
    clips = read_manifest(listing)
    with listing.open(newline="") as file:
        events = {row["clip_id"]: row["events"] for row in csv.DictReader(file)}
    for i, clip in enumerate(clips):
        known = synth_clip(3, "val", i)
        assert (clip.clip_id, clip.caption, events[clip.clip_id]) == (known.clip_id, known.caption, known.scene.key)
        audio = read_audio(clip.path)
        assert (audio.sample_rate_hz, audio.channels, clip.path.name) == (16_000, 1, f"{known.clip_id}.flac")
        np.testing.assert_allclose(audio.samples, known.audio, atol=0.51 / 32768)
    assert len(clips) == len(events) == 6
    assert len(_content(tmp_path / "clips")) == 7
    assert read_captions(listing, [clip.clip_id for clip in clips]) == {clip.clip_id: clip.caption for clip in clips}


def test_the_same_command_gives_the_same_bytes_and_leaves_other_files(tmp_path: Path) -> None:
    config = SynthSet(out=tmp_path / "a", n=3)
    seen: list[tuple[str, int, int]] = []
    write_synth_set(config, lambda *step: seen.append(step))
    assert seen == [("writing clips", i, 3) for i in (1, 2, 3)]
    first = _content(tmp_path / "a")
    (tmp_path / "a" / "notes.txt").write_text("mine")
    (tmp_path / "a" / "test-000001.flac").unlink()
    write_synth_set(config)
    assert _content(tmp_path / "a") == first | {"notes.txt": b"mine"}
    write_synth_set(config.model_copy(update={"out": tmp_path / "b"}))
    assert _content(tmp_path / "b") == first


@pytest.mark.parametrize("change", [{"n": 4}, {"seed": 1}, {"split": "train"}])
def test_another_set_needs_another_folder(tmp_path: Path, change: dict[str, object]) -> None:
    config = SynthSet(out=tmp_path, n=2)
    write_synth_set(config)
    before = _content(tmp_path)
    with pytest.raises(InputError, match=r"captions\.csv: lists other clips than .*; choose another folder with --out"):
        write_synth_set(config.model_copy(update=change))
    assert _content(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--out", "x", "--n", "0"), ("n = 0", "greater than or equal to 1")),
        (("--out", "", "--n", "1"), ("out = ''", "must not be empty")),
        (("--out", "x"), ("--n", "synth --help")),
        (("--out", "x", "--n", "1", "--split", "dev"), ("--split", "dev", "train")),
        (("--out", "taken", "--n", "1"), ("taken", "cannot be written", "choose another folder")),
        (("--out", "other", "--n", "1"), ("other/captions.csv", "1 clips of test, seed 0", "remove the file")),
        (("--out", "odd", "--n", "1"), ("odd/captions.csv", "cannot be written (Is a directory)")),
    ],
)
def test_bad_input(tmp_path: Path, arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    (tmp_path / "taken").write_bytes(b"x")
    (tmp_path / "odd" / "captions.csv").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "captions.csv").write_text("clip_id,file,caption\n")
    result = _run(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("tta-bench: ")
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr
    assert not (tmp_path / "x").exists()


def test_help_names_what_there_is(tmp_path: Path) -> None:
    result = _run("--help", cwd=tmp_path)
    assert result.returncode == 0
    for option in ("--out", "--n", "--split", "--seed"):
        assert option in result.stdout
