from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.harness.worlds import SCHEDULE, latent_corpus, stirred, teacher
from tta_bench.diffusion.distill import Stage
from tta_bench.diffusion.guidance import guided
from tta_bench.diffusion.schedule import CosineSchedule, alpha_sigma
from tta_bench.diffusion.weighting import v_weights
from tta_bench.errors import ConfigError
from tta_bench.harness.distillation import GuidedTask, StageTask, StudentObjective, loss_by_level
from tta_bench.harness.recipe import GuidedRecipe, Optimisation, Runtime
from tta_bench.harness.teachers import BundleTeacher
from tta_bench.harness.training import train
from tta_bench.models.denoiser import TextCondition

RECIPE = Optimisation(updates=8, batch=16, learning_rate=1e-3, warm_up=0, decay="linear", autocast=False)
ALL = np.arange(16)
CPU = torch.device("cpu")


def stage_task(weighting: str = "bsa", steps: tuple[int, int] = (200, 100), seed: int = 0, of: BundleTeacher | None = None) -> StageTask:
    return StageTask(RECIPE, Stage(SCHEDULE, *steps), weighting, 5.0, (1.0, 6.0), latent_corpus(), of or teacher(steps[0]), seed)


def walk(of: BundleTeacher, batch: dict[str, torch.Tensor], delta: float, steps: int) -> torch.Tensor:
    """The teacher's own DDIM steps from z, in float64, with the condition of the batch."""
    text = TextCondition(batch["text"]["states"], batch["text"]["mask"])
    z = batch["z"].double()
    phi = torch.atan(torch.exp(-0.5 * batch["log_snr"].double()))
    for _ in range(steps):
        v = of.denoiser(z.float(), (-2.0 * torch.log(torch.tan(phi))).float(), text, batch["guidance_scale"]).double()
        z = np.cos(delta) * z - np.sin(delta) * v
        phi = phi - delta
    return z


@pytest.mark.parametrize("steps", [(200, 100), (50, 25), (25, 5), (5, 1)])
def test_one_student_step_with_the_target_lands_where_the_teacher_does(steps: tuple[int, int]) -> None:
    task = stage_task(steps=steps)
    batch = task.batch(0, ALL, CPU)
    k, delta = steps[0] // steps[1], SCHEDULE.span / steps[0]
    landed = np.cos(k * delta) * batch["z"].double() - np.sin(k * delta) * batch["target"].double()
    assert torch.allclose(landed, walk(task.teacher, batch, delta, k), atol=2e-5)


def test_batches_draw_the_students_grid_and_noisy_latents() -> None:
    task = stage_task(steps=(25, 5))
    batch = task.batch(3, ALL, CPU)
    grid = task.stage.log_snrs.float()
    step = (batch["log_snr"][:, None] - grid).abs().argmin(dim=1)
    assert torch.equal(batch["log_snr"], grid[step])
    assert sorted(step.unique().tolist()) == list(range(5))
    assert torch.equal(batch["weight"], v_weights("bsa", task.stage.log_snrs, 5.0)[step].float())
    assert torch.equal(batch["bin"], step)
    again = task.batch(3, ALL, CPU)
    alpha, sigma = alpha_sigma(batch["log_snr"])
    eps = (again["z"] - batch["z"]).abs().max()
    assert eps == 0.0
    assert torch.allclose(batch["z"].var(), torch.tensor(1.0), atol=0.2)
    assert torch.allclose(alpha.square() + sigma.square(), torch.ones(16))


def test_weightings_see_the_same_data_noise_times_and_scales() -> None:
    a, b, other = stage_task("bsa"), stage_task("constant"), stage_task("bsa", seed=1)
    for step in range(3):
        first, second, third = (task.batch(step, ALL, CPU) for task in (a, b, other))
        assert torch.equal(first["text"]["states"], second["text"]["states"])
        for key in ("z", "log_snr", "target", "guidance_scale"):
            assert torch.equal(first[key], second[key]), key
        assert not torch.equal(first["z"], third["z"])
    assert not torch.equal(a.batch(0, ALL, CPU)["weight"], b.batch(0, ALL, CPU)["weight"])


def test_shares_of_a_batch_are_its_parts() -> None:
    task = stage_task()
    whole = task.batch(1, ALL, CPU)
    halves = [task.batch(1, ALL[i::2], CPU) for i in range(2)]
    for key in ("z", "log_snr", "guidance_scale", "weight"):
        assert torch.equal(whole[key], torch.stack([half[key] for half in halves], dim=1).flatten(0, 1)), key


def test_the_guided_target_is_classifier_free_guidance() -> None:
    of = teacher()
    task = GuidedTask(GuidedRecipe(updates=1, batch=16, lowest_scale=2.0, highest_scale=4.0), latent_corpus(), of, 0)
    batch = task.batch(0, ALL, CPU)
    text = TextCondition(batch["text"]["states"], batch["text"]["mask"])
    with torch.no_grad():
        cond, null = of.denoiser(batch["z"], batch["log_snr"], text), of.denoiser(batch["z"], batch["log_snr"])
    assert torch.allclose(batch["target"], guided(cond, null, batch["guidance_scale"][:, None, None]), atol=1e-5)
    assert batch["guidance_scale"].min() >= 2.0
    assert batch["guidance_scale"].max() <= 4.0
    assert torch.equal(batch["weight"], torch.ones(16))
    assert batch["bin"].max() < task.bins


def test_the_student_starts_as_its_teacher_and_the_teacher_stays(tmp_path: Path) -> None:
    of = teacher()
    before = {key: value.clone() for key, value in of.denoiser.state_dict().items()}
    task = stage_task(of=of)
    assert all(torch.equal(value, before[key]) for key, value in task.objective.denoiser.state_dict().items())
    done = train(task, RECIPE, tmp_path, 0, Runtime(device="cpu", log_every=4))
    assert all(torch.equal(value, before[key]) for key, value in of.denoiser.state_dict().items())
    assert not any(parameter.requires_grad for parameter in of.text.parameters())
    assert any(not torch.equal(done.weights[f"denoiser.{key}"], value) for key, value in before.items())


def test_distillation_learns(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"updates": 150, "learning_rate": 2e-3})
    task = StageTask(recipe, Stage(SCHEDULE, 5, 1), "bsa", 5.0, (1.0, 6.0), latent_corpus(), teacher(5), 0)
    losses = train(task, recipe, tmp_path, 0, Runtime(device="cpu", log_every=10)).losses
    assert losses[-1]["loss"] < 0.5 * losses[0]["loss"]


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="12 steps do not divide 25"):
        Stage(SCHEDULE, 25, 12)
    with pytest.raises(ConfigError, match="the teacher takes 100 steps, this stage asks for 200"):
        stage_task(of=teacher(100))
    other = BundleTeacher(stirred(teacher().denoiser), teacher().text, "x", CosineSchedule(-10.0, 10.0), 200)
    with pytest.raises(ConfigError, match=r"the teacher was trained on .*-10"):
        stage_task(of=other)
    with pytest.raises(ConfigError, match="training latents are 4 x 16, the teacher's 4 x 8"):
        StageTask(RECIPE, Stage(SCHEDULE, 200, 100), "bsa", 5.0, (1.0, 6.0), latent_corpus(frames=16), teacher(), 0)


def test_the_loss_log_says_which_noise_levels_are_how_bad() -> None:
    task = stage_task(steps=(25, 5))
    batch = task.batch(0, ALL, CPU)
    objective = StudentObjective(stirred(task.objective.denoiser, 3), task.teacher)
    out = objective.losses(batch)
    assert out["bin_count"].sum() == 16
    assert torch.allclose(out["bin_loss"].sum() / 16, out["unweighted"], rtol=1e-5)
    levels = loss_by_level([{"bin_loss": [1.0, 4.0], "bin_count": [2, 2]}, {"bin_loss": [3.0, 0.0], "bin_count": [2, 0]}], SCHEDULE)
    assert [level["loss"] for level in levels] == [1.0, 2.0]
    assert levels[0]["log_snr_high"] == pytest.approx(20.0)
    assert levels[0]["log_snr_low"] == levels[1]["log_snr_high"] == pytest.approx(0.0, abs=1e-6)
    assert levels[1]["log_snr_low"] == pytest.approx(-20.0)
