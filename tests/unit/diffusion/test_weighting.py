from __future__ import annotations

import pytest
import torch

from tta_bench.diffusion.schedule import CosineSchedule, scaled_linear_log_snr, trailing_timesteps
from tta_bench.diffusion.weighting import WEIGHTINGS, in_eps_space, in_v_space, v_weights
from tta_bench.errors import ConfigError

SNR = torch.tensor([0.0, 0.25, 1.0, 4.0, 16.0], dtype=torch.float64)
AT_SNR = {  # gamma = 5
    "constant": [1, 1, 1, 1, 1],
    "snr": [0, 0.25, 1, 4, 16],
    "truncated_snr": [1, 1, 1, 4, 16],
    "snr_plus_one": [1, 1.25, 2, 5, 17],
    "min_snr": [0, 0.25, 1, 4, 5],
    "soft_min_snr": [0, 1.25 / 5.25, 5 / 6, 20 / 9, 80 / 21],
    "p2": [0, 0.2, 0.5, 0.8, 16 / 17],
    "debiased": [0, 0.5, 1, 2, 4],
    "tango_min_snr": [1, 1.25, 2, 5, 17 * 5 / 16],
    "bsa": [1, 1, 1, 4, 5],
    "bsa_shift": [1, 1.25, 2, 5, 6],
    "bsa_soft": [1, 1 + 1.25 / 5.25, 1 + 5 / 6, 1 + 20 / 9, 1 + 80 / 21],
}


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_values(name: str) -> None:
    torch.testing.assert_close(WEIGHTINGS[name](SNR), torch.tensor(AT_SNR[name], dtype=torch.float64), rtol=1e-14, atol=0)


def test_all_weightings_are_listed() -> None:
    assert set(WEIGHTINGS) == set(AT_SNR)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_finite_and_unit_mean_over_the_whole_schedule(name: str) -> None:
    for steps in (1, 5, 100):
        log_snr = CosineSchedule().log_snr(torch.arange(1, steps + 1) / steps)
        weights = v_weights(name, log_snr)
        assert torch.isfinite(weights).all()
        assert (weights >= 0).all()
        assert weights.mean().item() == pytest.approx(1.0, rel=1e-12)


def test_all_coincide_at_one_step() -> None:
    log_snr = CosineSchedule().log_snr(torch.ones(1))
    assert {v_weights(name, log_snr).item() for name in WEIGHTINGS} == {1.0}


def test_snr_plus_one_is_the_plain_v_loss_and_snr_the_plain_eps_loss() -> None:
    positive = SNR[1:]
    torch.testing.assert_close(in_v_space(WEIGHTINGS["snr_plus_one"](SNR), SNR), torch.ones_like(SNR))
    torch.testing.assert_close(in_eps_space(WEIGHTINGS["snr"](positive), positive), torch.ones_like(positive))
    with pytest.raises(ConfigError, match="snr = 0"):
        in_eps_space(WEIGHTINGS["snr"](SNR), SNR)


@pytest.mark.parametrize(
    ("name", "low_x", "peak", "low_v"),
    [
        ("constant", 0.68, 1.0, 0.89),
        ("snr", 0.066, 10.7, 0.30),
        ("truncated_snr", 0.231, 8.8, 0.70),
        ("snr_plus_one", 0.245, 7.9, 0.68),
        ("min_snr", 0.126, 3.9, 0.36),
        ("bsa", 0.381, 2.8, 0.75),
    ],
)
def test_balance_on_tangos_grid(name: str, low_x: float, peak: float, low_v: float) -> None:
    """Shares of the weight on steps with snr < 1 and largest over mean, on the trailing 25 steps of Tango's schedule."""
    snr = scaled_linear_log_snr(0.00085, 0.012)[trailing_timesteps(1000, 25)].exp()
    weight = WEIGHTINGS[name](snr)
    assert (weight[snr < 1].sum() / weight.sum()).item() == pytest.approx(low_x, abs=0.0006)
    assert (weight.max() / weight.mean()).item() == pytest.approx(peak, abs=0.06)
    in_v = in_v_space(weight, snr)
    assert (in_v[snr < 1].sum() / in_v.sum()).item() == pytest.approx(low_v, abs=0.006)


def test_gamma_moves_the_cap_and_unknown_names_are_errors() -> None:
    assert WEIGHTINGS["bsa"](SNR, gamma=10.0)[-1] == 10
    assert not torch.equal(v_weights("min_snr", torch.log(SNR[1:]), gamma=1.0), v_weights("min_snr", torch.log(SNR[1:])))
    with pytest.raises(ConfigError, match="unknown weighting 'bsaa'; known: constant"):
        v_weights("bsaa", torch.zeros(3))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_pure_noise_as_the_only_level_weighs_one(name: str) -> None:
    assert v_weights(name, torch.tensor([-torch.inf])).tolist() == [1.0]


def test_wider_latents_scale_the_snr_inside_the_weight_only() -> None:
    log_snr = torch.linspace(-3, 3, 5, dtype=torch.float64)
    expected = 1 / (log_snr.exp() + 1)
    torch.testing.assert_close(v_weights("constant", log_snr, sigma_data=3.0), expected / expected.mean())
    capped = (9 * log_snr.exp()).clamp(max=5.0) / (log_snr.exp() + 1)
    torch.testing.assert_close(v_weights("min_snr", log_snr, sigma_data=3.0), capped / capped.mean())
