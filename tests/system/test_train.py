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
updates = 1
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
