from __future__ import annotations

import math

import pytest
import torch

from tta_bench.diffusion.schedule import (
    CosineSchedule,
    alpha_sigma,
    log_snr_of_phi,
    phi_of_log_snr,
    scaled_linear_log_snr,
    steps_ratio,
    trailing_timesteps,
)
from tta_bench.errors import ConfigError


def test_range_is_met_and_the_middle_is_balanced() -> None:
    schedule = CosineSchedule()
    assert schedule.log_snr(0.0).item() == pytest.approx(20.0, abs=1e-9)
    assert schedule.log_snr(1.0).item() == pytest.approx(-20.0, abs=1e-9)
    assert schedule.log_snr(0.5).item() == pytest.approx(0.0, abs=1e-12)


def test_is_variance_preserving_and_the_angle_is_linear() -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    log_snr = CosineSchedule().log_snr(t)
    alpha, sigma = alpha_sigma(log_snr)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=0, atol=1e-15)
    torch.testing.assert_close(2 * torch.log(alpha / sigma), log_snr, rtol=1e-9, atol=1e-9)
    phi = torch.atan2(sigma, alpha)
    torch.testing.assert_close(phi, CosineSchedule().phi(t), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(phi_of_log_snr(log_snr_of_phi(phi)), phi, rtol=1e-9, atol=1e-12)


def test_grid_has_steps_plus_one_angles_from_noise_to_data() -> None:
    schedule = CosineSchedule()
    angles = schedule.angles(25)
    assert angles.shape == (26,)
    assert angles.dtype == torch.float64
    assert angles[0].item() == pytest.approx(schedule.span + schedule.offset)
    assert angles[-1].item() == pytest.approx(schedule.offset, abs=1e-15)
    torch.testing.assert_close(-angles.diff(), torch.full((25,), schedule.span / 25, dtype=torch.float64), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(schedule.angles(50)[::2], angles, rtol=0, atol=1e-15)  # a student's grid lies on its teacher's


def test_published_schedules_do_not_end_in_pure_noise() -> None:
    assert math.exp(scaled_linear_log_snr(0.0015, 0.0195)[-1]) == pytest.approx(1.42e-4, rel=0.01)
    assert math.exp(scaled_linear_log_snr(0.00085, 0.012)[-1]) == pytest.approx(4.68e-3, rel=0.01)


def test_trailing_grid_starts_at_the_top() -> None:
    assert trailing_timesteps(1000, 25).tolist() == list(range(999, -1, -40))
    assert trailing_timesteps(1000, 200)[:2].tolist() == [999, 994]
    with pytest.raises(ConfigError, match="30 steps do not divide 1000"):
        trailing_timesteps(1000, 30)


def test_only_grids_that_divide_are_legal() -> None:
    assert [steps_ratio(a, b) for a, b in ((200, 100), (50, 25), (25, 5), (5, 1), (8, 8))] == [2, 2, 5, 5, 1]
    with pytest.raises(ConfigError, match=r"12 steps do not divide 25.*choose a divisor, e.g. 5"):
        steps_ratio(25, 12)
    with pytest.raises(ConfigError, match="at least 1 step, got 0"):
        steps_ratio(25, 0)
    with pytest.raises(ConfigError, match="below"):
        CosineSchedule(5.0, 5.0)
