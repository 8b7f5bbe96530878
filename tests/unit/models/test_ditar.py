"""The networks of DiTAR, on random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.unit.harness.worlds import CAPTIONS, ditar
from tta_bench.models.ditar import PatchLM, frames_of, histories, patches_of


def latents(clips: int = len(CAPTIONS), frames: int = 8) -> Tensor:
    return torch.randn(clips, 4, frames, generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def uncached(lm: PatchLM, captions: list[str], x: Tensor) -> tuple[Tensor, Tensor]:
    return lm(lm.tokenise(captions), patches_of(x, lm.shape.patch))


@torch.inference_mode()
def cached(lm: PatchLM, captions: list[str], x: Tensor) -> tuple[Tensor, Tensor]:
    state, h = lm.begin(lm.tokenise(captions))
    states, ends = [h], []
    for patch in patches_of(x, lm.shape.patch).unbind(1):
        state, h, end = lm.advance(state, patch)
        states.append(h)
        ends.append(end)
    return torch.stack(states[:-1], dim=1), torch.stack(ends, dim=1)


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_cached_equals_uncached(patch: int) -> None:
    lm, _ = ditar(patch=patch)
    for ours, all_at_once in zip(cached(lm, CAPTIONS, latents()), uncached(lm, CAPTIONS, latents()), strict=True):
        torch.testing.assert_close(ours, all_at_once, rtol=0, atol=1e-5)


def test_captions_of_a_batch_do_not_see_each_other() -> None:
    lm, _ = ditar()
    together = uncached(lm, CAPTIONS, latents())
    for i, caption in enumerate(CAPTIONS):
        for ours, alone in zip(together, uncached(lm, [caption], latents()[i : i + 1]), strict=True):
            torch.testing.assert_close(ours[i : i + 1], alone, rtol=0, atol=1e-5)


def test_a_state_knows_what_came_before_it_and_nothing_after() -> None:
    lm, _ = ditar()
    x = latents(1)
    h, ends = uncached(lm, CAPTIONS[:1], x)
    for changed in range(4):
        other = x.clone()
        other[:, :, 2 * changed : 2 * changed + 2] += 1.0
        h_other, ends_other = uncached(lm, CAPTIONS[:1], other)
        moved = (h - h_other).abs().amax(dim=2)[0] > 1e-6
        assert moved.tolist() == [i > changed for i in range(4)]
        assert ((ends - ends_other).abs()[0] > 1e-6).tolist() == [i >= changed for i in range(4)]
    assert ((h - uncached(lm, CAPTIONS[1:2], x)[0]).abs().amax(dim=2) > 1e-6).all()


def test_a_state_keeps_its_rows() -> None:
    lm, _ = ditar()
    x = patches_of(latents(), 2)
    with torch.inference_mode():
        state, _ = lm.begin(lm.tokenise(CAPTIONS))
        state, _, _ = lm.advance(state, x[:, 0])
        rows = torch.tensor([3, 1])
        _, h, _ = lm.advance(state.keep(rows), x[rows, 1])
        _, whole, _ = lm.advance(state, x[:, 1])
        torch.testing.assert_close(h, whole[rows], rtol=0, atol=1e-6)
        for i in range(1, 4):
            state, _, _ = lm.advance(state, x[:, i])
        with pytest.raises(ValueError, match="has 4 patches already"):
            lm.advance(state, x[:, 0])


def test_patches_and_histories() -> None:
    x = torch.arange(2 * 1 * 6, dtype=torch.float32).reshape(2, 1, 6)
    patches = patches_of(x, 2)
    assert patches[0].tolist() == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert torch.equal(frames_of(patches), x)
    windows, known = histories(x, 2, 3)
    assert windows[0].tolist() == [[[0, 0, 0]], [[0, 0, 1]], [[1, 2, 3]]]
    assert known.tolist() == [0, 2, 3]
    assert histories(x, 2, 0)[0].shape == (2, 3, 1, 0)
    with pytest.raises(ValueError, match="no whole number of patches"):
        patches_of(x, 4)


def test_locdit_sees_state_known_history_and_scale() -> None:
    _, locdit = ditar()
    z, h, history = torch.randn(2, 4, 2), torch.randn(2, 32), torch.randn(2, 4, 4)
    log_snr, known = torch.tensor([0.0, 3.0]), torch.tensor([2, 4])
    with torch.inference_mode():
        v = locdit(z, log_snr, h, history, known)
        assert v.shape == z.shape
        unseen = history.clone()
        unseen[0, :, :2] = 9.0  # before the start of the first clip
        assert torch.equal(v, locdit(z, log_snr, h, unseen, known))
        for other in ((z, log_snr, torch.zeros_like(h), history), (z, log_snr, h, history + 0.1), (z, log_snr + 1, h, history)):
            assert ((v - locdit(*other, known)).abs().amax(dim=(1, 2)) > 1e-6).all()
        assert ((v - locdit(z, log_snr, h, history, known, torch.tensor([3.0, 3.0]))).abs().amax(dim=(1, 2)) > 1e-6).all()
