from __future__ import annotations

import torch

from tta_bench.diffusion.guidance import guided, guided_by_weight, scale_from_weight, weight_from_scale

COND, NULL = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0])


def test_conventions_differ_by_one() -> None:
    for weight in (0.0, 0.5, 2.0, 4.0):
        torch.testing.assert_close(guided(COND, NULL, scale_from_weight(weight)), guided_by_weight(COND, NULL, weight))
        assert weight_from_scale(scale_from_weight(weight)) == weight
    assert scale_from_weight(2.0) == 3.0


def test_scale_one_is_no_guidance_and_zero_no_condition() -> None:
    assert torch.equal(guided(COND, NULL, 1.0), COND)
    assert torch.equal(guided(COND, NULL, 0.0), NULL)
    torch.testing.assert_close(guided(COND, NULL, torch.tensor([1.0, 3.0])), torch.tensor([1.0, 8.0]))
