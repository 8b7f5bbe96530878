"""What `train`, `distill`, `examine` and `synth` refuse: exit code 2 and one sentence, before any training starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.system.refusal import Shell
from tests.unit.harness.worlds import save_bundle
from tta_bench.audio import write_audio
from tta_bench.models.bundle import read_card, write_card

DISTILL = "distill --teacher b --weighting bsa --steps 200,100 --out d --updates 1 --guided-updates 1 --device cpu"
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
    write_card(folder / "b", "teacher", read_card(folder / "b", "teacher") | {"text_sha256": "0"})


def other_codec(folder: Path) -> None:
    write_card(folder / "b", "teacher", read_card(folder / "b", "teacher") | {"codec_sha256": "0"})


def of_a_manifest(folder: Path) -> None:
    write_card(folder / "b", "teacher", read_card(folder / "b", "teacher") | {"data": {"manifest": "mine.csv", "clip_s": 2.0}})


def edited_card(folder: Path) -> None:
    card = json.loads((folder / "b" / "teacher.json").read_text())
    (folder / "b" / "teacher.json").write_text(json.dumps(card | {"guidance_scales": [1.0, 4.0]}))


def recipe(section: str, line: str) -> Callable[[Path], None]:
    return toml(f'out = "o"\n[{section}]\nupdates = 1\n{line}\n')


def data(lines: str, rows: str = "x,a.flac,A hum\n") -> Callable[[Path], None]:
    return manifest(rows, b'out = "o"\n[codec]\nupdates = 1\n[data]\n' + lines.encode())


def short_clip(folder: Path) -> None:
    data('manifest = "m.csv"')(folder)
    write_audio(folder / "a.flac", np.full(99, 0.1), 16_000)


def bad_clip(folder: Path) -> None:
    data('manifest = "m.csv"')(folder)
    (folder / "a.flac").write_bytes(b"no audio")


def nothing(folder: Path) -> None:
    pass


TABLE: dict[str, tuple[Callable[[Path], None], str, tuple[str, ...]]] = {
    "a teacher's own audio not named": (of_a_manifest, DISTILL, ("--data is missing", "teacher was trained on mine.csv")),
    "no configuration": (nothing, "train no.toml", ("no.toml", "cannot be read")),
    "unknown section": (toml('out = "o"\n[codex]\nupdates = 1'), "train c.toml", ("c.toml", "'codex'", "did you mean codec")),
    "unknown key": (toml('out = "o"\n[codec]\nupdate = 1'), "train c.toml", ("c.toml", "codec.update")),
    "no updates": (toml('out = "o"\n[codec]\nupdates = 0'), "train c.toml", ("codec.updates = 0", "greater than or equal to 1")),
    "grid that does not divide": (
        toml('out = "o"\n[students]\nsteps = [100, 50, 12]\nupdates = [1, 1, 1]'), "train c.toml", ("students", "12 steps do not divide 50"),
    ),
    "updates for other stages": (toml('out = "o"\n[students]\nsteps = [100]\nupdates = [1, 1]'), "train c.toml", ("2 entries for 1 stages",)),
    "unknown weighting": (toml('out = "o"\n[students]\nweightings = ["bas"]'), "train c.toml", ("'bas'", "known: constant", "bsa")),
    "key of another section": (recipe("codec", "widths = [4]"), "train c.toml", ("codec.widths", "known keys: batch", "encoder_blocks")),
    "nothing to train": (toml('out = "o"'), "train c.toml", ("none of the sections", "nothing to train")),
    "no students": (toml('out = "o"\n[students]\nsteps = []'), "train c.toml", ("students.steps", "at least 1 item")),
    "no updates of a stage": (toml('out = "o"\n[students]\nsteps = [100]\nupdates = [0]'), "train c.toml", ("students.updates.0 = 0", "equal to 1")),
    "heads that do not divide": (recipe("teacher", "heads = 3"), "train c.toml", ("teacher", "dim = 128 is no multiple of 3")),
    "width that does not divide": (recipe("teacher", "dim = 18\nheads = 2"), "train c.toml", ("dim = 18 is no multiple of 4", "text encoder")),
    "embedder that does not divide": (recipe("embedder", "dim = 10"), "train c.toml", ("dim = 10 is no multiple of 4",)),
    "embedder without widths": (recipe("embedder", "widths = []"), "train c.toml", ("widths", "one to six numbers")),
    "embedder of negative width": (recipe("embedder", "widths = [-4]"), "train c.toml", ("widths", "from 1 to 4096")),
    "embedder too shallow": (recipe("embedder", "widths = [4]"), "train c.toml", ("clips of 2.56 s are longer than the 1.28 s", "add a width")),
    "scales the wrong way round": (recipe("guided", "lowest_scale = 7.0"), "train c.toml", ("lowest_scale = 7", "highest_scale = 6")),
    "a scale without end": (recipe("guided", "highest_scale = inf"), "train c.toml", ("guided.highest_scale", "finite")),
    "a rate without end": (recipe("codec", "learning_rate = inf"), "train c.toml", ("codec.learning_rate", "finite")),
    "too many threads": (toml('out = "o"\n[codec]\nupdates = 1\n[runtime]\nthreads = 100000'), "train c.toml", ("runtime.threads", "1024")),
    "a codec that fits nowhere": (recipe("codec", "dim = 1000000"), "train c.toml", ("codec.dim", "16384")),
    "clips too short for a codec": (data('manifest = "m.csv"\nclip_s = 0.05'), "train c.toml", ("data.clip_s = 0.05", "0.2")),
    "a key of SynthCaps with a manifest": (data('manifest = "m.csv"\nclips = 3'), "train c.toml", ("clips is a key for SynthCaps",)),
    "a key of manifests without one": (data("clip_s = 5.0"), "train c.toml", ("clip_s is a key for a manifest",)),
    "a clip that is hardly one": (short_clip, "train c.toml", ("a.flac", "lasts 0.0062 s", "remove its line")),
    "a clip that is none": (bad_clip, "train c.toml", ("a.flac", "cannot be decoded", "remove its line from the manifest")),
    "an empty --out": (recipe("codec", ""), "train c.toml --out ''", ("out = ''", "must not be empty")),
    "out is a file": (recipe("codec", ""), "train c.toml --out c.toml", ("c.toml", "a file is where a folder must be")),
    "teacher before its codec": (recipe("teacher", ""), "train c.toml", ("o/codec.json", "train the codec first")),
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
    "one step count": (nothing, DISTILL.replace("200,100", "200"), ("steps = 200", "at least one student's", "200,100")),
    "steps of another teacher": (nothing, DISTILL.replace("200,100", "100,50"), ("--steps 100", "teacher takes 200 steps")),
    "steps that do not divide": (nothing, DISTILL.replace("200,100", "200,90"), ("90 steps do not divide 200", "e.g. 50")),
    "latents of another length": (nothing, f"{DISTILL} --clips 8", ("training latents are 4 x 32, the teacher's 4 x 8", "clip length")),
    "weights cut off": (cut_weights, DISTILL, ("text.safetensors", "SHA-256 differs")),
    "codec of another bundle": (other_codec, DISTILL, ("teacher.json", "another codec")),
    "card edited": (edited_card, DISTILL, ("b/teacher.json", "was changed since it was written")),
    "a weighting that is none": (nothing, DISTILL.replace("bsa", "bas"), ("unknown weighting 'bas'", "known: constant")),
    "clips and data": (nothing, f"{DISTILL} --clips 8 --data m.csv", ("clips counts clips of SynthCaps", "leave one")),
    "folder without data": (nothing, f"{DISTILL} --folder b", ("folder holds the audio of data",)),
    "scales of one number": (nothing, f"{DISTILL} --guidance-scales 4", ("guidance_scales",)),
    "seeds that are none": (nothing, "examine --bundle b --out e --seeds ,", ("--seeds ,", "e.g. 0,1")),
    "a seed twice": (nothing, "examine --bundle b --out e --seeds 0,0", ("seeds", "each seed may be given once")),
    "no students to examine": (nothing, "examine --bundle b --out e --part students", ("b: holds no students",)),
    "text of another bundle": (other_text, DISTILL, ("teacher.json", "another text than")),
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
    Shell(tmp_path, monkeypatch, capfd).refuses(arguments, parts)
    assert not list(tmp_path.rglob("checkpoint.pt")), "no training had started"
