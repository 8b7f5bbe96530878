from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tta_bench.diffusion.discrete import DiscreteSchedule
from tta_bench.diffusion.distill import Stage
from tta_bench.diffusion.samplers import ddim_path, ddim_step
from tta_bench.diffusion.schedule import log_snr_of_phi, scaled_linear_log_snr
from tta_bench.errors import ConfigError

AUDIOLDM, TANGO = (0.0015, 0.0195), (0.00085, 0.012)


def schedule(betas: tuple[float, float] = AUDIOLDM, final: float | None = None, train_steps: int = 1000) -> DiscreteSchedule:
    alphas = torch.sigmoid(scaled_linear_log_snr(*betas, train_steps)).tolist()
    return DiscreteSchedule(tuple(alphas), alphas[0] if final is None else final)


def teacher(z: Tensor, log_snr: Tensor) -> Tensor:
    """Nonlinear in z and different at every noise level."""
    return torch.sin(3 * z) + torch.tanh(log_snr / 9)[:, None] * z.flip(1)


@pytest.mark.parametrize(("betas", "terminal", "factor"), [(AUDIOLDM, 1.4e-4, 84.0), (TANGO, 4.7e-3, 15.0)])
def test_published_teachers_do_not_end_in_pure_noise(betas: tuple[float, float], terminal: float, factor: float) -> None:
    made = schedule(betas)
    assert made.terminal_snr == pytest.approx(terminal, rel=0.02)
    assert 1 / math.sqrt(made.alphas_cumprod[-1]) == pytest.approx(factor, rel=0.03)
    assert float(made.angles(25)[0]) == pytest.approx(math.atan(terminal**-0.5), rel=1e-4), "students start there too"


@pytest.mark.parametrize("final", [None, 1.0])
@pytest.mark.parametrize("steps", [200, 25, 5, 1])
def test_a_path_on_its_angles_is_that_of_diffusers_trailing_ddim(steps: int, final: float | None) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(
        1000, *AUDIOLDM, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=final == 1.0, prediction_type="v_prediction",
        timestep_spacing="trailing",
    )  # fmt: skip
    scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = scheduler.alphas_cumprod.double(), scheduler.final_alpha_cumprod.double()
    made = DiscreteSchedule(tuple(scheduler.alphas_cumprod.tolist()), float(scheduler.final_alpha_cumprod))
    scheduler.set_timesteps(steps)
    z = torch.randn(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = ddim_path(teacher, z, made.angles(steps))
    told = []
    for timestep in scheduler.timesteps:
        log_snr = log_snr_of_phi(made._phi()[int(timestep) + 1])
        told.append(int(made.timesteps(log_snr[None])))
        z = scheduler.step(teacher(z, log_snr.expand(2)), timestep, z).prev_sample
    assert told == scheduler.timesteps.tolist()
    torch.testing.assert_close(ours, z, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("before", "after"), [(200, 100), (50, 25), (25, 5), (5, 1), (4, 2), (1000, 500)])
def test_a_stage_lands_where_its_teacher_does_at_every_step(before: int, after: int) -> None:
    made = schedule()
    stage = Stage(made, before, after)
    z = torch.randn(after, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(before))
    target = stage.target(teacher, z, torch.arange(after))
    fine, coarse = made.angles(before), made.angles(after)
    for i in range(after):
        start = after - 1 - i  # on the grid from noise to data
        one = ddim_step(z[i : i + 1], target[i : i + 1], coarse[start] - coarse[start + 1])
        path = ddim_path(teacher, z[i : i + 1], fine[start * stage.ratio : (start + 1) * stage.ratio + 1])
        torch.testing.assert_close(one, path, rtol=0, atol=1e-9)
    assert torch.equal(stage.log_snrs, log_snr_of_phi(coarse[:-1].flip(0)))


def test_every_timestep_is_found_again_in_float32() -> None:
    for betas in (AUDIOLDM, TANGO):
        made = schedule(betas)
        levels = log_snr_of_phi(made._phi()[1:])
        assert made.timesteps(levels.float()).tolist() == list(range(1000))
        times = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
        assert made.timesteps(made.log_snr(times)).tolist() == list(range(1000))
    assert float(made.log_snr(0.0)) == float(levels[0])
    assert float(made.log_snr(1.0)) == float(levels[-1])


def test_a_time_that_is_a_whole_number_of_timesteps_is_that_timestep() -> None:
    made = schedule()
    for dtype in (torch.float32, torch.float64):
        times = torch.arange(1, 1001).to(dtype) / 1000
        assert torch.equal(made.timesteps(made.log_snr(times)), torch.arange(1000))
    assert made.timesteps(made.log_snr(0.3002)).item() == 300


def test_what_is_no_schedule_is_refused() -> None:
    for alphas in ((), (0.5, 0.6), (0.5, 0.5), (1.0, 0.5), (0.5, 0.0)):
        with pytest.raises(ConfigError, match="discrete schedule"):
            DiscreteSchedule(alphas, 1.0)
    with pytest.raises(ConfigError, match="final_alpha_cumprod"):
        DiscreteSchedule((0.9, 0.5), 0.8)
    with pytest.raises(ConfigError, match="3 steps do not divide 1000"):
        schedule().angles(3)
