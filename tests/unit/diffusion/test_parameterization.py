from __future__ import annotations

import torch

from tta_bench.diffusion import parameterization as p
from tta_bench.diffusion.schedule import CosineSchedule, alpha_sigma


def test_conversions_are_inverse_to_each_other() -> None:
    generator = torch.Generator().manual_seed(1)
    x, eps = torch.randn(2, 40, 3, dtype=torch.float64, generator=generator)
    log_snr = CosineSchedule(-8, 8).log_snr(torch.linspace(0, 1, 40))[:, None]
    alpha, sigma = alpha_sigma(log_snr)
    z, v = p.noisy(x, eps, alpha, sigma), p.v_from_x_eps(x, eps, alpha, sigma)
    for found, expected in (
        (p.x_from_v(z, v, alpha, sigma), x),
        (p.eps_from_v(z, v, alpha, sigma), eps),
        (p.v_from_x(z, x, alpha, sigma), v),
        (p.v_from_eps(z, eps, alpha, sigma), v),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_errors_scale_between_spaces_as_the_weightings_say() -> None:
    """||eps - eps^||^2 = snr ||x - x^||^2 and ||v - v^||^2 = (snr + 1) ||x - x^||^2."""
    generator = torch.Generator().manual_seed(2)
    z, v, v_hat = torch.randn(3, 9, dtype=torch.float64, generator=generator)
    log_snr = torch.linspace(-5, 5, 9, dtype=torch.float64)
    alpha, sigma = alpha_sigma(log_snr)
    dx = (p.x_from_v(z, v, alpha, sigma) - p.x_from_v(z, v_hat, alpha, sigma)) ** 2
    deps = (p.eps_from_v(z, v, alpha, sigma) - p.eps_from_v(z, v_hat, alpha, sigma)) ** 2
    torch.testing.assert_close(deps, log_snr.exp() * dx)
    torch.testing.assert_close((v - v_hat) ** 2, (log_snr.exp() + 1) * dx)
