"""`tta-bench train` and `tta-bench distill` as a user runs them: made, interrupted, killed, run again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tta_bench.models.bundle import read_card
from tta_bench.systems.latent import load_latent
from tta_bench.systems.protocol import Clip

TINY = """
seed = 1
[data]
clips = 24
[runtime]
device = "cpu"
threads = 1
log_every = 5
save_every_s = {save_every_s}
[codec]
updates = {updates}
batch = 4
dim = 16
hidden = 16
bands = 24
channels = 4
decoder_blocks = 3
[embedder]
updates = {updates}
batch = 8
dim = 16
widths = [4, 4, 8, 8]
weight_decay = 0.01
[teacher]
updates = {updates}
batch = 8
dim = 32
layers = 1
text_layers = 1
ema = 0.9
[guided]
updates = {updates}
batch = 8
[students]
weightings = ["bsa"]
steps = [100, 20]
updates = [{updates}, {updates}]
[students.stage]
batch = 8
decay = "linear"
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(f'out = "{tmp_path / "out"}"\n' + TINY.format(updates=6, save_every_s=0))
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tta_bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def weights(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.safetensors"))}


def test_train_makes_a_bundle_that_makes_audio(tiny: Path, tmp_path: Path) -> None:
    done = run("train", tiny)
    assert (done.returncode, done.stderr) == (0, "")
    out = tmp_path / "out"
    assert set(weights(out)) == {
        f"{name}.safetensors" for name in ("codec", "embedder", "text", "teacher", "guided", "student-bsa-100", "student-bsa-20")
    }
    card = json.loads((out / "student-bsa-20.json").read_text())
    assert (card["role"], card["weighting"], card["steps"], card["parent"]) == ("student", "bsa", 20, "student-bsa-100")
    assert card["parent_sha256"] == weights(out)["student-bsa-100.safetensors"]
    assert len(card["loss_by_level"]) == 10
    audio = dict(load_latent("student-bsa-20", out).generate([Clip("a", "A dog barks")], steps=20, guidance_scale=3.0, seed=0))
    assert audio["a"].shape == (40_960,)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert run("train", tiny).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing is made twice

    distilled = run("distill", "--teacher", out, "--weighting", "constant", "--steps", "200,50", "--out", tmp_path / "d", "--clips", 24,
                   "--updates", 3, "--guided-updates", 3, "--batch", 8, "--threads", 1, "--device", "cpu")  # fmt: skip
    assert (distilled.returncode, distilled.stderr) == (0, "")
    assert {"guided.safetensors", "student-constant-50.safetensors", "teacher.safetensors"} <= set(weights(tmp_path / "d"))
    assert load_latent("student-constant-50", tmp_path / "d").guidance_scales == (1.0, 6.0)
    further = run("distill", "--teacher", tmp_path / "d/student-constant-50.safetensors", "--weighting", "constant", "--steps", "50,10",
                  "--out", tmp_path / "e", "--clips", 24, "--updates", 3, "--batch", 8, "--threads", 1, "--device", "cpu")  # fmt: skip
    assert (further.returncode, further.stderr) == (0, "")
    assert "guided.safetensors" not in weights(tmp_path / "e")  # it is guided already


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_first(tiny: Path, tmp_path: Path, number: int) -> None:
    tiny.write_text(tiny.read_text().replace("updates = 6\nbatch = 4", "updates = 100000\nbatch = 4"))
    with subprocess.Popen([sys.executable, "-m", "tta_bench", "train", str(tiny), "--only", "codec"], stderr=subprocess.PIPE, text=True) as process:
        checkpoint = tmp_path / "out/training/codec/checkpoint.pt"
        while not checkpoint.exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopped and saved codec at update" in error
    assert "Traceback" not in error
    assert torch.load(checkpoint, weights_only=True)["step"] == int(error.split("update ")[1].split()[0])


@pytest.mark.slow
def test_killed_ten_times_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL at random moments, the last of them deep in the distillation; then the command once more, to the end."""
    folders = []
    for name in ("whole", "killed"):
        folders.append(tmp_path / name)
        (tmp_path / f"{name}.toml").write_text(f'out = "{tmp_path / name}"\n' + TINY.format(updates=60, save_every_s=0))
    times = []
    for _ in range(2):  # the second time there is nothing left to do: what starting alone takes
        started = time.monotonic()
        assert run("train", tmp_path / "whole.toml").returncode == 0
        times.append(time.monotonic() - started)
    work_s, start_s = times[0] - times[1], times[1]
    moments = random.Random(20261121)
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-m", "tta_bench", "train", str(tmp_path / "killed.toml")]) as process:
            with pytest.raises(subprocess.TimeoutExpired):  # it never ends by itself
                process.wait(timeout=0.8 * start_s + moments.uniform(0.0, 0.2 * start_s + 0.12 * work_s))
            os.kill(process.pid, signal.SIGKILL)
    reached = torch.load(sorted((tmp_path / "killed" / "training").glob("*/checkpoint.pt"), key=os.path.getmtime)[-1], weights_only=True)
    assert reached["step"] > 0
    assert run("train", tmp_path / "killed.toml").returncode == 0
    assert weights(folders[0]) == weights(folders[1])
    assert len(weights(folders[0])) == 7


CHANGES = {
    "codec.dim": ("dim = 16\nhidden", "dim = 24\nhidden", "codec.json: recipe.dim = 16 there, 24 wanted"),
    "seed": ("seed = 1", "seed = 2", "codec.json: seed = 1 there, 2 wanted"),
    "data.clips": ("clips = 24", "clips = 32", "codec.json: data.clips = 24 there, 32 wanted"),
    "teacher.ema": ("ema = 0.9", "ema = 0.8", "teacher.json: recipe.ema = 0.9 there, 0.8 wanted"),
    "guided.batch": ("[guided]\nupdates = 6\nbatch = 8", "[guided]\nupdates = 6\nbatch = 4", "guided.json: recipe.batch = 8 there, 4 wanted"),
    "students.gamma": ("[students]\n", "[students]\ngamma = 2.0\n", "student-bsa-100.json: gamma = 5.0 there, 2.0 wanted"),
    "students.stage.decay": ('decay = "linear"', 'decay = "constant"', "student-bsa-100.json: recipe.decay"),
}


def test_what_is_there_is_never_taken_for_what_is_asked_for(tiny: Path, tmp_path: Path) -> None:
    """Other settings in the folder of a finished training: said before anything is trained, and nothing there is touched."""
    assert run("train", tiny).returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    text = tiny.read_text()
    for old, new, message in CHANGES.values():
        assert old in text
        tiny.write_text(text.replace(old, new))
        refused = run("train", tiny)
        assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr
        assert "delete it and what was made from it, or choose another folder by --out" in refused.stderr
        assert {path: path.read_bytes() for path in before} == before
    distil = ["distill", "--teacher", tmp_path / "out", "--weighting", "min_snr", "--steps", "200,50", "--out", tmp_path / "d", "--clips", 24,
              "--updates", 3, "--batch", 8, "--threads", 1, "--device", "cpu"]  # fmt: skip
    assert run(*distil).returncode == 0
    assert read_card(tmp_path / "d", "guided")["sha256"] == read_card(tmp_path / "out", "guided")["sha256"]  # the teacher's own
    for flag, value, message in (("--gamma", 2, "gamma"), ("--updates", 4, "recipe.updates"), ("--seed", 3, "seed"), ("--clips", 32, "data.clips")):
        refused = run(*distil, flag, value)
        assert (refused.returncode, f"student-min_snr-50.json: {message} = " in refused.stderr) == (2, True), refused.stderr


def test_two_trainings_in_one_folder(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(tiny.read_text().replace("updates = 6\nbatch = 4", "updates = 100000\nbatch = 4"))
    command = [sys.executable, "-m", "tta_bench", "train", str(tiny), "--only", "codec"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as first:
        try:
            while not (tmp_path / "out/training/codec/checkpoint.pt").exists():
                assert first.poll() is None
                time.sleep(0.05)
            second = run(*command[3:])
            assert (second.returncode, "out/training/codec: another process is at work in this folder" in second.stderr) == (2, True), second.stderr
        finally:
            first.kill()


def test_a_damaged_byte_of_a_checkpoint_is_noticed(tiny: Path, tmp_path: Path) -> None:
    assert run("train", tiny, "--only", "codec").returncode == 0
    (tmp_path / "out" / "codec.json").unlink()
    path = tmp_path / "out/training/codec/checkpoint.pt"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = b"\xff" * 64
    path.write_bytes(bytes(content))
    refused = run("train", tiny, "--only", "codec")
    assert (refused.returncode, "checkpoint.pt: is damaged" in refused.stderr) == (2, True), refused.stderr


def test_a_lost_loss_log_costs_the_log_only(tiny: Path, tmp_path: Path) -> None:
    assert run("train", tiny).returncode == 0
    (tmp_path / "out" / "student-bsa-20.json").unlink()
    (tmp_path / "out/training/bsa-20/losses.jsonl").write_bytes(b'[1, 2]\n{"a": 2}\n\xff\xfe\n')
    assert run("train", tiny).returncode == 0
    assert read_card(tmp_path / "out", "student-bsa-20")["loss_by_level"] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_rendering_at_once(tmp_path: Path, number: int) -> None:
    (tmp_path / "c.toml").write_text(f'out = "{tmp_path / "o"}"\n[codec]\nupdates = 1\n')
    with subprocess.Popen(
        [sys.executable, "-m", "tta_bench", "train", str(tmp_path / "c.toml")], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while not list((tmp_path / "cache" / "corpora").glob(".*.tmp")):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)  # not to wait for anything: to hit the workers in the middle of their work
        os.killpg(process.pid, number)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert error == "tta-bench: interrupted; the same command does what is left\n"
