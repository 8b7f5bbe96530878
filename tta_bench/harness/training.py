"""The training loop: one for all networks. Same configuration, same weights: bit for bit on a CPU, however often it was interrupted.

Nothing random lives in the loop: data order and noise come from generators named by seed and update (`batch_indices`, `noise`).
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tta_bench.errors import ConfigError, InputError, TtaBenchError, WeightsError
from tta_bench.files import digest, locked, write_text
from tta_bench.harness.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tta_bench.harness.devices import accelerator_of
from tta_bench.harness.processes import is_first_process
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.recipe import Optimisation, Runtime
from tta_bench.rng import generator, stream_seed

Batch = dict[str, Any]


class Interrupted(TtaBenchError):
    """A training that was stopped by a signal, after it saved. Exit code 128 + the signal's number."""

    def __init__(self, signum: int, where: str) -> None:
        super().__init__(f"stopped and saved {where}; the same command goes on from there")
        self.exit_code = 128 + signum


class Objective(nn.Module):
    """The networks that are trained and their loss: `losses(batch)` gives {"loss": scalar, other scalars or tables to be logged}.

    float32: compute without autocast, whatever the runtime's precision; set by the loop from the recipe.
    """

    float32 = False

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See the class."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`losses`. Autocast is switched off in here because accelerate wraps this method in its own."""
        device = next(self.parameters()).device.type
        with torch.autocast(device, enabled=False) if self.float32 else contextlib.nullcontext():
            return self.losses(batch)


class Task(Protocol):
    """name: of the training. objective: what is trained. identity: everything JSON-able that its weights depend on, optimisation and seed aside.

    batch(step, share): tensors of update `step`; `share` is the part of the batch that belongs to this process, as indices 0..B-1.
    """

    @property
    def name(self) -> str: ...
    @property
    def objective(self) -> Objective: ...
    @property
    def identity(self) -> Mapping[str, Any]: ...
    def batch(self, step: int, share: npt.NDArray[np.int64], device: torch.device) -> Batch: ...


def batch_indices(seed: int, name: str, clips: int, batch: int, step: int) -> npt.NDArray[np.int64]:
    """(batch,) clips of update `step`: consecutive parts of one shuffled pass after the other."""
    passes = np.arange(step * batch, (step + 1) * batch)
    orders = {int(p): generator(seed, "order", name, int(p)).permutation(clips) for p in np.unique(passes // clips)}
    return np.array([orders[int(i // clips)][i % clips] for i in passes], dtype=np.int64)


def noise(seed: int, name: str, step: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Standard normal float32 values of update `step`; the whole batch's, whatever the number of processes."""
    return generator(seed, "noise", name, step).standard_normal(shape, dtype=np.float32)


@contextlib.contextmanager
def initial_weights(seed: int, name: str) -> Iterator[None]:
    """Networks built inside get the initial weights called `name` under `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "weights", name) % 2**63)
        yield


def learning_rate(recipe: Optimisation, step: int) -> float:
    """Of update `step`, 0-based: linear warm-up, then cosine or linear decay that would reach 0 after the last update."""
    warm = min(1.0, (step + 1) / (recipe.warm_up + 1))
    done = step / recipe.updates
    decay = {"cosine": 0.5 + 0.5 * math.cos(math.pi * done), "linear": 1.0 - done, "constant": 1.0}[recipe.decay]
    return recipe.learning_rate * warm * decay


@dataclass(frozen=True)
class Finished:
    """weights: of the objective, averaged where the recipe says so, on the CPU. losses: lines of the loss log."""

    weights: dict[str, Tensor]
    losses: list[dict[str, Any]]


def train(task: Task, recipe: Optimisation, folder: Path, seed: int, runtime: Runtime, progress: Progress = silent) -> Finished:
    """Train to the end, from the checkpoint in `folder` if there is one; losses go to folder/losses.jsonl.

    Raises Interrupted on SIGTERM and SIGINT, after saving; TtaBenchError at a loss or gradient that is not finite, naming the update,
    with the weights before it saved; WeightsError for a checkpoint of another training.
    """
    precision = runtime.precision if recipe.autocast else "no"
    facts = {"name": task.name, "made_from": task.identity, "recipe": recipe.model_dump(mode="json"), "seed": seed, "precision": precision}
    with _alone(folder), _signals() as received:
        loop = _Loop(task, recipe, folder, runtime, facts)
        while loop.step < recipe.updates:
            loop.update()
            progress(task.name, loop.step, recipe.updates, loop.note)
            stop, due = loop.agreed(received[0] if received else 0, loop.save_is_due())
            if stop or due:
                loop.save()
            if stop:
                raise Interrupted(stop, f"{task.name} at update {loop.step} of {recipe.updates}")
        loop.save()
        return Finished(loop.weights(), read_losses(folder / "losses.jsonl"))


def _alone(folder: Path) -> contextlib.AbstractContextManager[None]:
    """The lock of a training's folder; of several processes that train together the first one holds it."""
    return locked(folder, "--out") if is_first_process() else contextlib.nullcontext()


class _Loop:
    """State of a training between updates."""

    def __init__(self, task: Task, recipe: Optimisation, folder: Path, runtime: Runtime, facts: Mapping[str, Any]) -> None:
        self.task, self.recipe, self.folder, self.runtime, self.facts = task, recipe, folder, runtime, json.dumps(facts)
        self.fingerprint = digest(facts.values())
        self.accelerator = accelerator_of(runtime, folder)
        if recipe.batch % self.accelerator.num_processes:
            raise ConfigError(f"{task.name}: a batch of {recipe.batch} does not divide among {self.accelerator.num_processes} processes; change it")
        task.objective.float32 = not recipe.autocast
        optimiser = torch.optim.AdamW(task.objective.parameters(), recipe.learning_rate, (0.9, 0.99), weight_decay=recipe.weight_decay, fused=True)
        found = load_checkpoint(folder / "checkpoint.pt", self.fingerprint, facts)
        self.step = 0
        self.running: dict[str, Any] = {}
        if found:
            self.step, self.running = found.step, found.running
            _restore(task.objective, found.network, folder)
        self.network, self.optimiser = self.accelerator.prepare(task.objective, optimiser)
        if found:
            _restore(self.optimiser, found.optimiser, folder)
        device = self.accelerator.device
        self.average = {name: value.to(device) for name, value in found.average.items()} if found else {}
        if recipe.ema and not found:
            self.average = {name: value.detach().clone() for name, value in task.objective.state_dict().items()}
        self.saved = time.monotonic()
        self.note = ""
        self._seen = (time.monotonic(), self.step)
        self._losses = folder / "losses.jsonl"
        if self.accelerator.is_main_process:
            kept = [line for line in read_losses(self._losses) if line["step"] <= self.step]
            write_text(self._losses, "".join(json.dumps(line) + "\n" for line in kept))

    def update(self) -> None:
        """One update of the weights."""
        rate = learning_rate(self.recipe, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        processes = self.accelerator.num_processes
        share = np.arange(self.recipe.batch)[self.accelerator.process_index :: processes]
        batch = self.task.batch(self.step, share, self.accelerator.device)
        out = self.network(batch)
        self.accelerator.backward(out["loss"])
        norm = self.accelerator.clip_grad_norm_(self.task.objective.parameters(), self.recipe.clip_norm)
        if not bool(torch.isfinite(norm)):  # of all processes together, so all of them stop
            self.save()
            raise TtaBenchError(
                f"{self.task.name}: the loss or its gradient is not finite at update {self.step}; the weights before it are in "
                f"{self.folder / 'checkpoint.pt'}; lower the learning rate or look at the data"
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._average()
        self.step += 1
        self._log({name: value.detach() for name, value in out.items()}, rate)

    def _average(self) -> None:
        if self.recipe.ema:
            decay = min(self.recipe.ema, (1.0 + self.step) / (10.0 + self.step))
            for name, value in self.accelerator.unwrap_model(self.network).state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1.0 - decay)
                else:
                    self.average[name].copy_(value)

    def _log(self, values: dict[str, Tensor], rate: float) -> None:
        """Sum what is logged; every `log_every` updates a line with the means. Tables (1-d) are pairs of sums and counts."""
        for name, value in values.items():
            reduced = self.accelerator.reduce(value.float(), "mean").cpu()
            self.running[name] = self.running[name] + reduced if name in self.running else reduced
        self.running["updates"] = self.running.get("updates", 0) + 1
        if self.step % self.runtime.log_every and self.step != self.recipe.updates:
            return
        count = self.running.pop("updates")
        line: dict[str, Any] = {"step": self.step, "learning_rate": rate}
        for name, value in self.running.items():
            line[name] = round(float(value) / count, 8) if value.dim() == 0 else [round(float(v), 8) for v in value]
        self.running = {}
        now = time.monotonic()
        line["updates_per_s"] = round((self.step - self._seen[1]) / max(now - self._seen[0], 1e-9), 3)
        self._seen = (now, self.step)
        self.note = f"loss {line['loss']:.4g}, {line['updates_per_s']:.1f}/s"
        if self.accelerator.is_main_process:
            with self._losses.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self.accelerator.log({key: value for key, value in line.items() if not isinstance(value, list)}, step=self.step)

    def agreed(self, stop: int, due: bool) -> tuple[int, bool]:
        """The signal received by any process, and whether the first one wants to save: all must do the same, or they wait for ever."""
        if self.accelerator.num_processes == 1:
            return stop, due
        flags = torch.tensor([[stop, int(due)]], device=self.accelerator.device)
        gathered = self.accelerator.gather(flags)
        return int(gathered[:, 0].max()), bool(gathered[0, 1])

    def save_is_due(self) -> bool:
        """Whether the last checkpoint is older than the runtime allows."""
        return time.monotonic() - self.saved >= self.runtime.save_every_s

    def save(self) -> None:
        """Write the checkpoint."""
        if self.accelerator.is_main_process:
            network = {name: value.cpu() for name, value in self.accelerator.unwrap_model(self.network).state_dict().items()}
            average = {name: value.cpu() for name, value in self.average.items()}
            state = Checkpoint(self.fingerprint, self.step, network, self.optimiser.state_dict(), average, self.running, self.facts)
            save_checkpoint(self.folder / "checkpoint.pt", state)
        self.accelerator.wait_for_everyone()
        self.saved = time.monotonic()

    def weights(self) -> dict[str, Tensor]:
        """The result."""
        final = self.average or self.accelerator.unwrap_model(self.network).state_dict()
        return {name: value.detach().cpu().clone() for name, value in final.items()}


def _restore(what: Any, state: Mapping[str, Any], folder: Path) -> None:
    try:
        what.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        path = folder / "checkpoint.pt"
        raise WeightsError(f"{path}: does not hold what this training saves ({str(error).splitlines()[0]}); delete it to start again") from error


def read_losses(path: Path) -> list[dict[str, Any]]:
    """Lines of a loss log; a torn one, and whatever else is none, is dropped. Raises InputError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); remove what is there") from error
    lines = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and isinstance(found.get("step"), int) and "loss" in found:
                lines.append(found)
    return lines


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Numbers of the stop signals received; a second one acts at once. Elsewhere than in the main thread signals stay as they are."""
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        if len(received) > 1:
            raise KeyboardInterrupt

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
