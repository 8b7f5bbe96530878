from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tta_bench.diffusion.distill import Stage, v_target, v_target_from_landing, weighted_v_loss
from tta_bench.diffusion.samplers import ddim_path, ddim_step
from tta_bench.diffusion.schedule import CosineSchedule
from tta_bench.errors import ConfigError

SCHEDULE = CosineSchedule()


def teacher(z: Tensor, log_snr: Tensor) -> Tensor:
    """Nonlinear in z and different at every noise level."""
    return torch.sin(3 * z) + torch.tanh(log_snr / 9)[:, None] * z.flip(1)


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), d1=st.floats(1e-4, 0.78), d2=st.floats(1e-4, 0.78))
def test_one_student_step_lands_on_two_teacher_steps(seed: int, d1: float, d2: float) -> None:
    v1, v2, z = _randn(3, 20, seed=seed)
    two = ddim_step(ddim_step(z, v1, d1), v2, d2)
    one = ddim_step(z, v_target(v1, v2, z, d1, d2), d1 + d2)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("before", "after"), [(200, 100), (100, 50), (50, 25), (2, 1), (25, 5), (5, 1), (6, 2), (8, 8)])
def test_a_stage_lands_where_its_teacher_does_at_every_step(before: int, after: int) -> None:
    stage = Stage(SCHEDULE, before, after)
    step = torch.arange(after)  # the last one starts at t = 1, step 0 ends at t = 0
    z = _randn(after, 12, seed=before)
    target = stage.target(teacher, z, step)
    one = ddim_step(z, target, SCHEDULE.span / after)
    for i in range(after):
        times = torch.arange((i + 1) * stage.ratio, i * stage.ratio - 1, -1, dtype=torch.float64) / before
        path = ddim_path(teacher, z[i : i + 1], SCHEDULE.phi(times))
        torch.testing.assert_close(one[i : i + 1], path, rtol=0, atol=1e-12)


def test_teacher_and_student_are_told_the_same_noise_level() -> None:
    stage = Stage(SCHEDULE, 8, 4)
    seen: list[Tensor] = []

    def listening(z: Tensor, log_snr: Tensor) -> Tensor:
        seen.append(log_snr)
        return teacher(z, log_snr)

    stage.target(listening, _randn(4, 3), torch.arange(4))
    torch.testing.assert_close(seen[0], stage.log_snrs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(seen[1], SCHEDULE.log_snr((torch.arange(4) + 0.5) / 4), rtol=1e-9, atol=1e-9)
    assert stage.log_snrs[-1].item() == pytest.approx(-20.0, abs=1e-9)


def test_float16_outputs_keep_their_accuracy_at_100_steps() -> None:
    d = SCHEDULE.span / 200
    v1, v2, z = _randn(3, 4096, seed=5) * torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)[:, None]
    exact = v_target(v1, v2, z, d, d)
    half = v_target(v1.half(), v2.half(), z.half(), d, d)
    assert half.dtype == torch.float32
    bound = 2**-10 * torch.stack([torch.ones_like(z), v1.abs(), v2.abs(), z.abs()]).amax(dim=0)
    assert ((half - exact).abs() <= bound).all()
    single = v_target(v1.float(), v2.float(), z.float(), d, d)
    assert (single - exact).abs().max() < 1e-6


def test_closed_form_and_landing_form_are_one() -> None:
    v1, v2, z = _randn(3, 50, seed=9)
    landing = ddim_step(ddim_step(z, v1, 0.03), v2, 0.03)
    torch.testing.assert_close(v_target(v1, v2, z, 0.03, 0.03), v_target_from_landing(z, landing, 0.06), rtol=0, atol=1e-12)


def test_identical_teacher_outputs_on_an_arc_are_not_the_target() -> None:
    """Guards against using the second step's v or x as it is: where the path bends, neither lands."""
    v1, v2, z = _randn(3, 50, seed=11)
    assert (v_target(v1, v2, z, 0.2, 0.2) - v2).abs().max() > 0.1
    assert (v_target(v1, v2, z, 0.2, 0.2) - (v1 + v2) / 2).abs().max() > 0.01


def test_single_precision_stage_stays_accurate() -> None:
    for before, after in ((200, 100), (25, 5)):
        stage, z, step = Stage(SCHEDULE, before, after), _randn(after, 12), torch.arange(after)
        exact = stage.target(teacher, z, step)
        single = stage.target(teacher, z.float(), step)
        assert single.dtype == torch.float32
        assert (single - exact).abs().max() < 1e-4


def test_grids_that_do_not_divide_are_errors() -> None:
    with pytest.raises(ConfigError, match="12 steps do not divide 25"):
        Stage(SCHEDULE, 25, 12)


def test_weight_multiplies_the_squared_error_once() -> None:
    v, target = torch.zeros(3, 2, 2), torch.tensor([1.0, 2.0, 3.0])[:, None, None].expand(3, 2, 2)
    loss = weighted_v_loss(v, target, torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64))
    torch.testing.assert_close(loss, torch.tensor([1.0, 2.0, 18.0]))
    assert weighted_v_loss(v.half(), target.half(), torch.ones(3)).dtype == torch.float32


def test_shapes_that_would_broadcast_are_errors() -> None:
    v = torch.zeros(3, 2, 2)
    for target, weight in ((v[0], torch.ones(3)), (v, torch.ones(3, 1)), (v, torch.ones(2))):
        with pytest.raises(ValueError, match="one per item"):
            weighted_v_loss(v, target, weight)


def test_no_gradient_reaches_the_teacher() -> None:
    scale = torch.ones(1, requires_grad=True)
    for before, after in ((4, 2), (5, 1), (2, 2)):
        target = Stage(SCHEDULE, before, after).target(lambda z, log_snr: scale * z, torch.randn(2, 3), torch.zeros(2, dtype=torch.int64))
        assert not target.requires_grad
