"""DiTAR's training: what its losses are, by the slow way; and LocDiT in the distillation of the latent family."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.unit.harness.worlds import SCHEDULE, ditar, latent_corpus, stirred
from tta_bench.diffusion.distill import Stage
from tta_bench.diffusion.guidance import guided
from tta_bench.errors import ConfigError
from tta_bench.harness.distillation import GuidedTask, StageTask
from tta_bench.harness.ditar_teacher import DitarTeacher
from tta_bench.harness.recipe import DitarRecipe, GuidedRecipe, Optimisation, Runtime
from tta_bench.harness.train_ditar import DitarTask
from tta_bench.harness.training import noise, train

CPU = torch.device("cpu")
ALL = np.arange(8)
SMALL: dict[str, Any] = {
    "patch": 2,
    "history": 2,
    "lm_dim": 32,
    "lm_layers": 2,
    "dim": 32,
    "layers": 2,
    "batch": 8,
    "warm_up": 0,
    "learning_rate": 2e-3,
}


def task(frames: list[int] | None = None, **changes: Any) -> DitarTask:
    corpus = latent_corpus()
    if frames:
        corpus = dataclasses.replace(corpus, frames=np.array(frames * 40)[:40])
    made = DitarTask(DitarRecipe(updates=20, **{**SMALL, **changes}), corpus, 0, SCHEDULE)
    stirred(made.objective)
    return made


def teacher(steps: int = 200) -> DitarTeacher:
    lm, locdit = ditar()
    return DitarTeacher(locdit, lm, "toy", SCHEDULE, steps)


def one_by_one(
    made: Any, x: torch.Tensor, z: torch.Tensor, log_snr: torch.Tensor, h: torch.Tensor, scale: torch.Tensor | None = None
) -> torch.Tensor:
    """v (B, C, L) patch by patch, each with its own call and the clean latents before it. h (B, N, D)."""
    out = []
    for i in range(z.shape[2] // 2):
        history = functional.pad(x, (4, 0))[:, :, 2 * i : 2 * i + 4]
        known = torch.full((len(z),), min(2 * i, 4))
        out.append(made(z[:, :, 2 * i : 2 * i + 2], log_snr[:, i], h[:, i], history, known, scale))
    return torch.cat(out, dim=2)


@torch.no_grad()
def test_losses_are_those_of_every_patch_after_its_clean_past() -> None:
    made = task([3, 8, 5])
    batch = made.batch(0, ALL, CPU)
    found = made.objective.losses(batch)
    lm, x = made.objective.lm, batch["past"]
    assert torch.equal(x, torch.from_numpy(made.corpus.latents)[_chosen(made, x)])
    states, ends = [], []
    for i in range(4):  # the state of a patch, from what came before it alone
        h, _ = lm(batch["tokens"], x.unflatten(2, (4, 2)).transpose(1, 2)[:, : max(i, 1)])
        states.append(h[:, i] if i < h.shape[1] else lm(batch["tokens"], x.unflatten(2, (4, 2)).transpose(1, 2)[:, : i + 1])[0][:, i])
        ends.append(lm(batch["tokens"], x.unflatten(2, (4, 2)).transpose(1, 2)[:, : i + 1])[1][:, i])
    h = torch.stack(states, dim=1) * ~batch["dropped"][..., None]
    v = one_by_one(made.objective.locdit, x, batch["z"], batch["log_snr"], h)
    last = batch["last"].tolist()
    assert set(last) == {1, 3, 2}
    error = (v - batch["target"]).square().unflatten(2, (4, 2)).mean(dim=(1, 3))
    diffusion = torch.cat([error[row, : end + 1] for row, end in enumerate(last)]).mean()
    stop = torch.cat([
        functional.binary_cross_entropy_with_logits(ends[i][row], torch.tensor(float(i == end)), reduction="none")[None]
        for row, end in enumerate(last) for i in range(end + 1)
    ]).mean()  # fmt: skip
    torch.testing.assert_close(found["diffusion"], diffusion, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["stop"], stop, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["loss"], diffusion + made.recipe.stop_weight * stop, rtol=1e-5, atol=1e-6)


def _chosen(made: DitarTask, x: torch.Tensor) -> list[int]:
    """Which clips of the corpus a batch has."""
    return [int(np.abs(made.corpus.latents - row.numpy()).sum(axis=(1, 2)).argmin()) for row in x]


def test_noise_levels_fill_their_range_and_noise_is_on_the_past_alone() -> None:
    plain, rough = task().batch(0, ALL, CPU), task(history_noise=0.5, drop_state=0.4).batch(0, ALL, CPU)
    for key in ("z", "target", "log_snr", "tokens"):
        assert torch.equal(plain[key], rough[key]), key
    assert 0.35 < float((rough["past"] - plain["past"]).std()) < 0.65
    assert 0.1 < float(rough["dropped"].float().mean()) < 0.7
    assert len(plain["log_snr"].unique()) == 32
    halves = [task().batch(0, ALL[i::2], CPU) for i in range(2)]
    for key in ("z", "past", "log_snr", "dropped"):
        assert torch.equal(plain[key], torch.stack([half[key] for half in halves], dim=1).flatten(0, 1)), key


def test_the_share_of_states_that_are_dropped() -> None:
    for share in (0.0, 0.1, 0.5):
        made = task(drop_state=share, batch=512).batch(0, np.arange(512), CPU)["dropped"].float()
        assert float(made.mean()) == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / made.numel()))


def test_noise_on_the_past_is_not_the_noise_to_be_told() -> None:
    made = task(history_noise=0.5)
    past = made.batch(0, ALL, CPU)["past"] - task().batch(0, ALL, CPU)["past"]
    eps = torch.from_numpy(noise(made.seed, made.name, 0, tuple(past.shape)))
    assert abs(float(torch.corrcoef(torch.stack([past.flatten(), eps.flatten()]))[0, 1])) < 0.25


@torch.no_grad()
def test_losses_of_two_processes_are_those_of_one() -> None:
    """Their mean is, which is what the gradient is of, wherever clips end."""
    made = task([2, 8, 5, 8, 2, 3, 8, 2])
    whole = made.objective.losses(made.batch(0, ALL, CPU))
    halves = [made.objective.losses(made.batch(0, ALL[i::2], CPU)) for i in range(2)]
    for key, value in whole.items():
        torch.testing.assert_close(value, (halves[0][key] + halves[1][key]) / 2, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_students_learn_nothing_of_what_follows_a_clips_end() -> None:
    """Whatever a student says there, and whatever its target is; and all patches before it count alike, over all processes."""
    corpus = dataclasses.replace(latent_corpus(8), frames=np.array([2, 8, 4, 8, 2, 6, 8, 2]))
    made = GuidedTask(GuidedRecipe(updates=1, batch=8), corpus, teacher(), 0)
    batch = made.batch(0, ALL, CPU)
    loss = made.objective.losses(batch)
    beyond = 5.0 * (1.0 - batch["within"])
    worse = made.objective.losses({**batch, "target": batch["target"] + beyond})
    assert all(torch.equal(value, worse[key]) for key, value in loss.items())
    v = made.teacher.apply(made.objective.denoiser, batch["z"], batch["log_snr"], batch["text"], batch["guidance_scale"])
    counted = batch["within"].bool().expand_as(v)
    torch.testing.assert_close(loss["loss"], (v - batch["target"])[counted].square().mean())
    torch.testing.assert_close(loss["target_power"], batch["target"][counted].square().mean())
    halves = [made.objective.losses(made.batch(0, ALL[i::2], CPU)) for i in range(2)]
    torch.testing.assert_close(loss["loss"], (halves[0]["loss"] + halves[1]["loss"]) / 2)


def test_it_learns_and_a_stopped_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    recipe = DitarRecipe(updates=60, **SMALL)
    runtime = Runtime(device="cpu", log_every=10, save_every_s=0)
    drawn = latent_corpus()
    corpus = dataclasses.replace(drawn, latents=drawn.latents[:1] + 0.1 * drawn.latents)  # much of it can be known
    whole = train(DitarTask(recipe, corpus, 0, SCHEDULE), recipe, tmp_path / "a", 0, runtime)
    assert whole.losses[-1]["diffusion"] < 0.8 * whole.losses[0]["diffusion"]
    assert whole.losses[-1]["stop"] < 0.2 * whole.losses[0]["stop"]  # all clips are full

    class Enough(Exception):
        pass

    def stop_at_30(task: str, done: int, total: int, note: str = "") -> None:
        if done == 30:
            raise Enough

    with pytest.raises(Enough):
        train(DitarTask(recipe, corpus, 0, SCHEDULE), recipe, tmp_path / "b", 0, runtime, stop_at_30)
    again = train(DitarTask(recipe, corpus, 0, SCHEDULE), recipe, tmp_path / "b", 0, runtime)
    assert all(torch.equal(value, again.weights[name]) for name, value in whole.weights.items())


def test_patches_must_divide_the_clip() -> None:
    with pytest.raises(ConfigError, match="patch = 3 does not divide the 8 latent frames"):
        task(patch=3)


@pytest.mark.parametrize("steps", [(200, 50), (50, 10), (10, 1)])
@torch.no_grad()
def test_one_student_step_lands_where_the_teacher_does_patch_by_patch(steps: tuple[int, int]) -> None:
    recipe = Optimisation(updates=8, batch=8)
    of = teacher(steps[0])
    made = StageTask(recipe, Stage(SCHEDULE, *steps), "bsa", 5.0, (1.0, 4.0), latent_corpus(), of, 0)
    batch = made.batch(0, ALL, CPU)
    k, delta = steps[0] // steps[1], SCHEDULE.span / steps[0]
    landed = np.cos(k * delta) * batch["z"].double() - np.sin(k * delta) * batch["target"].double()
    h, history = batch["text"]["h"], batch["text"]["history"]
    x = torch.cat([history[:, 1, :, 2:], history[:, 3, :, :2], history[:, 3, :, 2:], torch.zeros_like(history[:, 0, :, :2])], dim=2)
    assert torch.equal(history[:, 2], x[:, :, :4])
    z = batch["z"].double()
    phi = torch.atan(torch.exp(-0.5 * batch["log_snr"].double()))
    for _ in range(k):
        level = (-2.0 * torch.log(torch.tan(phi))).float()[:, None].expand(-1, 4)
        v = one_by_one(of.locdit, x, z.float(), level, h, batch["guidance_scale"]).double()
        z, phi = np.cos(delta) * z - np.sin(delta) * v, phi - delta
    torch.testing.assert_close(landed, z, rtol=0, atol=2e-5)
    student = made.objective.denoiser
    assert all(torch.equal(value, of.locdit.state_dict()[name]) for name, value in student.state_dict().items())


@torch.no_grad()
def test_guidance_is_folded_in_with_the_history_in_both_branches() -> None:
    of = teacher()
    made = GuidedTask(GuidedRecipe(updates=1, batch=8, lowest_scale=2.0, highest_scale=4.0), latent_corpus(), of, 0)
    batch = made.batch(0, ALL, CPU)
    h, history = batch["text"]["h"], batch["text"]["history"]
    x = torch.cat([history[:, 2], torch.zeros_like(history[:, 0])], dim=2)
    x[:, :, 4:6] = history[:, 3, :, 2:]
    level = batch["log_snr"][:, None].expand(-1, 4)
    cond, null = (one_by_one(of.locdit, x, batch["z"], level, state) for state in (h, torch.zeros_like(h)))
    torch.testing.assert_close(batch["target"], guided(cond, null, batch["guidance_scale"][:, None, None]), rtol=0, atol=1e-5)
