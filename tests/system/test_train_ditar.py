"""`tta-bench train` with family = "ditar", `distill` of what it made, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.system.test_train import run, weights
from tta_bench.models.bundle import load_network, read_card
from tta_bench.models.codec import Codec
from tta_bench.systems.ditar import load_ditar
from tta_bench.systems.protocol import Clip

HEAD = """
out = "{out}"
seed = 1
[data]
clips = 24
[runtime]
device = "cpu"
threads = 1
save_every_s = 0
"""
CODEC = "[codec]\nupdates = 3\nbatch = 4\ndim = 16\nhidden = 16\nbands = 24\nchannels = 4\ndecoder_blocks = 3\n"
DITAR = """
[codec]
causal = true
encoder = "{encoder}"
updates = 6
batch = 4
[teacher]
patch = 8
history = 1
history_noise = 0.1
lm_dim = 32
lm_layers = 1
dim = 32
layers = 1
updates = 6
batch = 8
[guided]
updates = 6
batch = 8
highest_scale = 4.0
[students]
weightings = ["bsa"]
steps = [50, 1]
updates = [6]
[students.stage]
batch = 8
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ditar")
    (folder / "codec.toml").write_text(HEAD.format(out=folder / "plain") + CODEC)
    (folder / "ditar.toml").write_text('family = "ditar"' + HEAD.format(out=folder / "out") + DITAR.format(encoder=folder / "plain"))
    for name in ("codec", "ditar"):
        done = run("train", folder / f"{name}.toml")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return folder


def test_train_makes_a_bundle_that_makes_audio_and_streams(made: Path) -> None:
    out = made / "out"
    assert set(weights(out)) == {f"{name}.safetensors" for name in ("codec", "lm", "teacher", "guided", "student-bsa-50", "student-bsa-1")}
    card = json.loads((out / "student-bsa-1.json").read_text())
    assert (card["kind"], card["weighting"], card["steps"], card["parent"]) == ("locdit", "bsa", 1, "student-bsa-50")
    assert card["lm_sha256"] == json.loads((out / "lm.json").read_text())["sha256"]
    system = load_ditar("student-bsa-1", out, stop=False)
    (audio,) = (samples for _, samples in system.generate([Clip("a", "A dog barks")], steps=1, guidance_scale=3.0, seed=0))
    assert audio.shape == (40_960,)
    parts = list(system.stream("A dog barks", steps=1, guidance_scale=3.0, clip_id="a"))
    assert [len(part) for part in parts] == [10_240 - 352, 10_240, 10_240, 10_240, 352]
    torch.testing.assert_close(torch.from_numpy(audio), torch.cat([torch.from_numpy(part) for part in parts]), rtol=0, atol=1e-5)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert run("train", made / "ditar.toml").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing is made twice


def test_the_kept_encoder_makes_the_same_latents_and_the_decoder_is_trained(made: Path) -> None:
    (plain, _), (causal, _) = (load_network(made / name, "codec", Codec) for name in ("plain", "out"))
    audio = torch.randn(2, 40_960) * 0.1
    assert torch.equal(plain.encode(audio), causal.encode(audio))
    before, after = plain.decoder.state_dict(), causal.decoder.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert causal.shape.causal
    assert not plain.shape.causal


def test_distill_takes_a_ditar_teacher(made: Path, tmp_path: Path) -> None:
    distilled = run("distill", "--teacher", made / "out", "--weighting", "snr_plus_one", "--steps", "200,10", "--out", tmp_path / "d",
                    "--updates", 3, "--guided-updates", 3, "--batch", 8, "--threads", 1, "--device", "cpu")  # fmt: skip
    assert (distilled.returncode, distilled.stderr) == (0, "")
    assert {"lm.safetensors", "guided.safetensors", "student-snr_plus_one-10.safetensors"} <= set(weights(tmp_path / "d"))
    assert load_ditar("student-snr_plus_one-10", tmp_path / "d").guidance_scales == (1.0, 6.0)
    assert read_card(tmp_path / "d", "guided")["data"] == read_card(made / "out", "teacher")["data"]  # its clips, unless others are asked for


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("patch = 8", "patch = 5", "patch = 5 does not divide the 32 latent frames of a clip"),
        ("lm_dim = 32", "lm_dim = 30", "lm_dim = 30 is no multiple of 4"),
        ("history = 1", "history = -1", "teacher.history"),
        ("plain", "nowhere", "nowhere"),
        ("causal = true", "causal = true\nbands = 48", "bands has no effect beside encoder"),
        ('family = "ditar"', 'family = "latent"', "family"),
        ("patch = 8", "patch = 16", "teacher.json: recipe.patch = 8 there, 16 wanted"),
    ],
)
def test_what_cannot_be(made: Path, tmp_path: Path, before: str, after: str, message: str) -> None:
    text = (made / "ditar.toml").read_text()
    assert before in text
    (tmp_path / "c.toml").write_text(text.replace(before, after))
    elsewhere = ("--out", tmp_path / "o") if "wanted" not in message else ()
    known = weights(made / "out")
    done = run("train", tmp_path / "c.toml", *elsewhere)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert weights(made / "out") == known
