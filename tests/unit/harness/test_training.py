from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.conftest import ROOT
from tta_bench.errors import ConfigError, TtaBenchError, WeightsError
from tta_bench.harness.checkpoint import load_checkpoint
from tta_bench.harness.recipe import Optimisation, Runtime
from tta_bench.harness.training import Batch, Interrupted, Objective, batch_indices, initial_weights, learning_rate, noise, read_losses, train

RUNTIME = Runtime(device="cpu", log_every=5, save_every_s=1e9)


class Line(Objective):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        loss = (self.line(batch["x"])[:, 0] - batch["y"]).square().mean()
        return {"loss": loss, "bin_loss": torch.tensor([1.0, 2.0])}


class LineTask:
    """y = x . (1, 2, 3); `poison`: the update whose batch is NaN, `stop`: the one during which the process gets a signal."""

    name = "line"
    identity: dict[str, Any] = {"data": "line"}  # noqa: RUF012

    def __init__(self, seed: int = 0, poison: int = -1, stop: tuple[int, int] = (-1, 0)) -> None:
        self.seed, self.poison, self.stop = seed, poison, stop
        with initial_weights(seed, self.name):
            self.objective = Line()
        self.seen: list[int] = []

    def batch(self, step: int, share: np.ndarray, device: torch.device) -> Batch:
        self.seen.append(step)
        x = torch.from_numpy(noise(self.seed, self.name, step, (8, 3))[share])
        if step == self.poison:
            x = x * torch.nan
        if step == self.stop[0]:
            os.kill(os.getpid(), self.stop[1])
        return {"x": x, "y": x @ torch.tensor([1.0, 2.0, 3.0])}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_training_saves_and_ends_with_the_same_weights(tmp_path: Path, ema: float | None, number: int) -> None:
    recipe = Optimisation(updates=23, batch=8, learning_rate=0.1, warm_up=3, ema=ema)
    whole = train(LineTask(), recipe, tmp_path / "whole", 0, RUNTIME)
    with pytest.raises(Interrupted, match="line at update 13 of 23") as stopped:
        train(LineTask(stop=(12, number)), recipe, tmp_path / "cut", 0, RUNTIME)
    assert stopped.value.exit_code == 128 + number
    task = LineTask()
    resumed = train(task, recipe, tmp_path / "cut", 0, RUNTIME)
    assert task.seen == list(range(13, 23))
    assert same(whole.weights, resumed.weights)
    for a, b in zip(whole.losses, resumed.losses, strict=True):
        assert {k: v for k, v in a.items() if k != "updates_per_s"} == {k: v for k, v in b.items() if k != "updates_per_s"}


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    recipe = Optimisation(updates=7, batch=8, learning_rate=0.1)
    first = train(LineTask(), recipe, tmp_path, 0, RUNTIME)
    task = LineTask()
    assert same(first.weights, train(task, recipe, tmp_path, 0, RUNTIME).weights)
    assert task.seen == []


def test_training_learns_and_logs(tmp_path: Path) -> None:
    done = train(LineTask(), Optimisation(updates=200, batch=8, learning_rate=0.1, warm_up=0), tmp_path, 0, RUNTIME)
    assert torch.allclose(done.weights["line.weight"], torch.tensor([[1.0, 2.0, 3.0]]), atol=0.02)
    assert [line["step"] for line in done.losses] == list(range(5, 201, 5))
    assert done.losses[-1]["loss"] < 1e-2 < done.losses[0]["loss"]
    assert done.losses[3]["bin_loss"] == [5.0, 10.0]  # sums over the updates of a line, not means


def test_a_loss_that_is_not_finite_stops_before_it_does_harm(tmp_path: Path) -> None:
    recipe = Optimisation(updates=20, batch=8, learning_rate=0.1)
    with pytest.raises(TtaBenchError, match=r"line: the loss or its gradient is not finite at update 9; .*checkpoint\.pt"):
        train(LineTask(poison=9), recipe, tmp_path, 0, RUNTIME)
    resumed = train(LineTask(), recipe, tmp_path, 0, RUNTIME)
    assert same(resumed.weights, train(LineTask(), recipe, tmp_path / "whole", 0, RUNTIME).weights)


@pytest.mark.parametrize("change", [{"updates": 8}, {"learning_rate": 0.2}, {"ema": 0.5}])
def test_checkpoints_of_another_training_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    recipe = Optimisation(updates=7, batch=8, learning_rate=0.1)
    train(LineTask(), recipe, tmp_path, 0, RUNTIME)
    with pytest.raises(WeightsError, match="belongs to a training with another configuration"):
        train(LineTask(), recipe.model_copy(update=change), tmp_path, 0, RUNTIME)
    with pytest.raises(WeightsError, match="belongs to a training with another configuration"):
        train(LineTask(1), recipe, tmp_path, 1, RUNTIME)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_is_an_error_and_stays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt: is damaged .* delete it to start again"):
        load_checkpoint(tmp_path / "checkpoint.pt", "f", {})
    assert (tmp_path / "checkpoint.pt").read_bytes() == content


def test_a_pickle_of_strangers_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "run",))

    torch.save({"fingerprint": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(WeightsError):
        load_checkpoint(tmp_path / "checkpoint.pt", "f", {})
    assert not (tmp_path / "run").exists()


def test_a_torn_line_of_the_loss_log_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "losses.jsonl").write_text(json.dumps({"step": 5, "loss": 1.0}) + '\n{"step": 10, "lo')
    assert read_losses(tmp_path / "losses.jsonl") == [{"step": 5, "loss": 1.0}]


def test_every_pass_takes_every_clip_once() -> None:
    drawn = np.concatenate([batch_indices(3, "x", 10, 4, step) for step in range(5)])
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert list(drawn[:10]) != list(drawn[10:])
    assert len(batch_indices(3, "x", 3, 8, 0)) == 8


def test_the_schedule_warms_up_and_decays() -> None:
    recipe = Optimisation(updates=100, batch=8, learning_rate=2.0, warm_up=9, decay="linear")
    assert learning_rate(recipe, 0) == pytest.approx(0.2)
    assert learning_rate(recipe, 50) == pytest.approx(1.0)
    assert learning_rate(recipe, 99) == pytest.approx(0.02)
    assert learning_rate(recipe.model_copy(update={"decay": "cosine"}), 50) == pytest.approx(1.0)
    assert learning_rate(recipe.model_copy(update={"decay": "constant"}), 99) == 2.0


def test_initial_weights_leave_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a, b = LineTask(5), LineTask(5)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(a.objective.state_dict(), b.objective.state_dict())
    assert not same(a.objective.state_dict(), LineTask(6).objective.state_dict())


class Seen(Line):
    """Notes the precision in which its line is computed."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.line.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
        return super().losses(batch)


seen: list[torch.dtype] = []


def test_autocast_can_be_left_out(tmp_path: Path) -> None:
    """In a process of its own: one process has one precision."""
    code = f"""
import torch
from pathlib import Path
from tests.unit.harness import test_training as t
for autocast in (True, False):
    task = t.LineTask()
    task.objective = t.Seen()
    recipe = t.Optimisation(updates=1, batch=8, autocast=autocast)
    t.train(task, recipe, Path({str(tmp_path)!r}) / str(autocast), 0, t.Runtime(device="cpu", precision="bf16"))
assert t.seen == [torch.bfloat16, torch.float32], t.seen
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_tracker_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for tracker, message in (("no-such-tracker", "no-such-tracker"), ("comet_ml", "not installed")):
        with pytest.raises(ConfigError, match=message):
            train(LineTask(), Optimisation(updates=1, batch=8), tmp_path, 0, Runtime(device="cpu", tracker=tracker))


TWO = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from tests.unit.harness import test_training as t
recipe = t.Optimisation(updates=12, batch=8, learning_rate=0.1, ema=0.9)
done = t.train(t.LineTask(), recipe, Path(sys.argv[1]), 0, t.Runtime(device="cpu", log_every=4))
save_file(done.weights, sys.argv[2])
"""


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(tmp_path / "two"), str(tmp_path / f"{rank}.safetensors")],
            cwd=ROOT, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"},
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    one = train(LineTask(), Optimisation(updates=12, batch=8, learning_rate=0.1, ema=0.9), tmp_path / "one", 0, Runtime(device="cpu", log_every=4))
    for rank in range(2):
        found = load_file(tmp_path / f"{rank}.safetensors")
        assert all(torch.allclose(found[name], value, atol=1e-5) for name, value in one.weights.items())
    losses = read_losses(tmp_path / "two" / "losses.jsonl")
    assert [line["loss"] for line in losses] == pytest.approx([line["loss"] for line in one.losses], abs=1e-5)
