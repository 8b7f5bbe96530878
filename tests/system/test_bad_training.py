"""What `train`, `distill`, `examine` and `synth` refuse: exit code 2 and one sentence, before any training starts."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.harness.worlds import save_bundle
from tta_bench import cli
from tta_bench.audio import write_audio

DISTILL = "distill --teacher b --weighting bsa --steps 200,100 --out d --clips 8 --updates 1 --guided-updates 1 --device cpu"
TEACHER = b'out = "o"\n[data]\nmanifest = "m.csv"\n[codec]\nupdates = 1\n'


def toml(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "c.toml").write_text(text) and None


def manifest(rows: str, config: bytes = TEACHER) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        write_audio(folder / "a.flac", np.full(16_000, 0.1), 16_000)
        (folder / "m.csv").write_text("clip_id,file,caption\n" + rows)
        (folder / "c.toml").write_bytes(config)

    return put


def cut_weights(folder: Path) -> None:
    path = folder / "b" / "text.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def other_text(folder: Path) -> None:
    card = json.loads((folder / "b" / "teacher.json").read_text())
    (folder / "b" / "teacher.json").write_text(json.dumps(card | {"text_sha256": "0"}))


def nothing(folder: Path) -> None:
    pass


TABLE: dict[str, tuple[Callable[[Path], None], str, tuple[str, ...]]] = {
    "no configuration": (nothing, "train no.toml", ("no.toml", "cannot be read")),
    "unknown section": (toml('out = "o"\n[codex]\nupdates = 1'), "train c.toml", ("c.toml", "'codex'", "did you mean codec")),
    "unknown key": (toml('out = "o"\n[codec]\nupdate = 1'), "train c.toml", ("c.toml", "codec.update")),
    "no updates": (toml('out = "o"\n[codec]\nupdates = 0'), "train c.toml", ("codec.updates = 0", "greater than or equal to 1")),
    "grid that does not divide": (
        toml('out = "o"\n[students]\nsteps = [100, 50, 12]\nupdates = [1, 1, 1]'), "train c.toml", ("students", "12 steps do not divide 50"),
    ),
    "updates for other stages": (toml('out = "o"\n[students]\nsteps = [100]\nupdates = [1, 1]'), "train c.toml", ("2 entries for 1 stages",)),
    "unknown weighting": (toml('out = "o"\n[students]\nweightings = ["bas"]'), "train c.toml", ("'bas'", "known: constant", "bsa")),
    "unknown part": (toml('out = "o"\n[codec]\nupdates = 1'), "train c.toml --only codecs", ("--only codecs", "parts: codec")),
    "part before its parent": (toml('out = "o"\n[guided]\nupdates = 1'), "train c.toml", ("teacher.json", "is not there")),
    "manifest missing": (toml(TEACHER.decode()), "train c.toml", ("m.csv", "cannot be read")),
    "manifest: file missing": (manifest("x,b.flac,A hum\n"), "train c.toml", ("m.csv", "b.flac")),
    "manifest: caption empty": (manifest("x,a.flac,\n"), "train c.toml", ("m.csv, line 2", "empty")),
    "manifest: clip twice": (manifest("x,a.flac,A hum\nx,a.flac,A hum\n"), "train c.toml", ("m.csv", "more than once", "a.flac")),
    "tags without labels": (
        manifest("x,a.flac,A hum\n", TEACHER.replace(b"codec", b"embedder")), "train c.toml", ("embedder", "no labels", "column label"),
    ),
    "teacher missing": (nothing, DISTILL.replace("--teacher b", "--teacher no"), ("--teacher no", "is not there")),
    "teacher is a codec": (nothing, DISTILL.replace("--teacher b", "--teacher b/codec.json"), ("codec is a codec", "name the teacher")),
    "steps are no numbers": (nothing, DISTILL.replace("200,100", "200-100"), ("--steps 200-100", "commas")),
    "one step count": (nothing, DISTILL.replace("200,100", "200"), ("steps", "at least 2")),
    "steps of another teacher": (nothing, DISTILL.replace("200,100", "100,50"), ("--steps 100", "teacher takes 200 steps")),
    "steps that do not divide": (nothing, DISTILL.replace("200,100", "200,90"), ("90 steps do not divide 200", "e.g. 50")),
    "latents of another length": (nothing, DISTILL, ("training latents are 4 x 32, the teacher's 4 x 8", "clip length")),
    "weights cut off": (cut_weights, DISTILL, ("text.safetensors", "SHA-256 differs")),
    "text of another bundle": (other_text, DISTILL, ("teacher.json", "another text encoder")),
    "data missing": (nothing, DISTILL + " --data no.csv", ("no.csv", "cannot be read")),
    "bundle without embedder": (nothing, "examine --bundle b --out e --clips 64 --part embedder", ("embedder.json", "is not there")),
    "unknown examination": (nothing, "examine --bundle b --out e --part teachers", ("--part teachers", "known: embedder, codec")),
    "too few clips": (nothing, "examine --bundle b --out e --clips 3", ("clips = 3", "64")),
    "no clips": (nothing, "synth --out s --n 0", ("n = 0", "greater than or equal to 1")),
    "no split": (nothing, "synth --out s --n 1 --split dev", ("--split", "dev", "test")),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_exit_code_2_and_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    prepare, arguments, parts = TABLE[name]
    save_bundle(tmp_path / "b")
    prepare(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tta-bench", *shlex.split(arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out, err = capfd.readouterr()
    assert caught.value.code == 2, err
    for part in parts:
        assert part in err
    assert "Traceback" not in err
    assert out == ""
    assert err.startswith("tta-bench: ")
    assert err.count("\n") == 1, "one sentence"
    assert {path: path.read_bytes() for path in before} == before, "bad input loses nothing that was there"
    assert not list(tmp_path.rglob("checkpoint.pt")), "no training had started"
