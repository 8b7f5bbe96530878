"""Training the teacher: denoiser and text encoder together, v-prediction, captions dropped at times for classifier-free guidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tta_bench.diffusion.distill import weighted_v_loss
from tta_bench.diffusion.parameterization import noisy, v_from_x_eps
from tta_bench.diffusion.schedule import CosineSchedule, alpha_sigma
from tta_bench.harness.recipe import DenoiserRecipe
from tta_bench.harness.training import Batch, Objective, batch_indices, initial_weights, noise
from tta_bench.models.denoiser import Denoiser, DenoiserShape, TextCondition
from tta_bench.models.text import TextEncoder, TextShape, Vocabulary
from tta_bench.rng import generator


@dataclass(frozen=True)
class LatentCorpus:
    """key: SHA-256 of corpus and codec. latents: (N, C, L), or (N, C, L, F), float32, normalised. captions: N tuples of variants.

    frames: (N,) latent frames before the padding of each clip, where that is not to be learnt.
    """

    key: str
    latents: npt.NDArray[np.float32]
    captions: list[tuple[str, ...]]
    frames: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True)
class Draw:
    """What every denoiser's update draws, of the whole batch and then the process's share: the same for all weightings of one seed.

    whole: numbers of the whole batch's clips in the corpus; chosen: (B,) those of the share. x: (B, ...) latents. eps: noise alike. captions: B
    texts. uniform: (B,) in (0, 1), one in each B-th part: for times or steps.
    """

    whole: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.int64]
    x: Tensor
    eps: Tensor
    captions: list[str]
    uniform: Tensor


def draw(corpus: LatentCorpus, seed: int, name: str, step: int, batch: int, share: npt.NDArray[np.int64], device: torch.device) -> Draw:
    """Draw update `step` of the training `name`."""
    whole = batch_indices(seed, name, len(corpus), batch, step)
    chosen = whole[share]
    eps = noise(seed, name, step, (batch, *corpus.latents.shape[1:]))[share]
    rng = generator(seed, "draw", name, step)
    uniform = ((rng.permutation(batch) + rng.random(batch)) / batch)[share]
    variant = rng.random(batch)[share]
    captions = [corpus.captions[i][int(v * len(corpus.captions[i]))] for i, v in zip(chosen, variant, strict=True)]
    x = torch.from_numpy(corpus.latents[chosen]).to(device)
    return Draw(whole, chosen, x, torch.from_numpy(eps).to(device), captions, torch.from_numpy(uniform).to(device))


def at_level(drawn: Draw, log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """z and v-target (B, ...) float32 of clean latents at noise levels log_snr (B,)."""
    alpha, sigma = (part.float().view(-1, *[1] * (drawn.x.dim() - 1)) for part in alpha_sigma(log_snr))
    return noisy(drawn.x, drawn.eps, alpha, sigma), v_from_x_eps(drawn.x, drawn.eps, alpha, sigma)


class TeacherObjective(Objective):
    """batch: "z", "target" (B, C, L), "log_snr" (B,), "tokens" (B, S), "dropped" (B,) bool."""

    def __init__(self, denoiser: DenoiserShape, text: TextShape, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.denoiser = Denoiser(denoiser)
        self.text = TextEncoder(vocabulary, text)

    @property
    def companion(self) -> tuple[str, TextEncoder]:
        """What stays as it is in distillation, by its name in a bundle."""
        return "text", self.text

    @property
    def head(self) -> Denoiser:
        """What is distilled."""
        return self.denoiser

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`: the v-MSE, which is the weighting snr_plus_one, with t uniform."""
        states, mask = self.text(batch["tokens"])
        condition = without_text(TextCondition(states, mask), batch["dropped"], self.denoiser.no_text)
        v = self.denoiser(batch["z"], batch["log_snr"], condition)
        return {"loss": weighted_v_loss(v, batch["target"], torch.ones_like(batch["log_snr"])).mean()}


def without_text(text: TextCondition, dropped: Tensor, no_text: Tensor) -> TextCondition:
    """The condition with the captions where `dropped` (B,) replaced by the one learned token that stands for no text."""
    first = torch.zeros_like(text.mask)
    first[:, 0] = True
    states = torch.where(dropped[:, None, None], no_text.to(text.states), text.states)
    return TextCondition(states, torch.where(dropped[:, None], first, text.mask))


class TeacherTask:
    """See `tta_bench.harness.training.Task`."""

    name = "teacher"

    def __init__(self, recipe: DenoiserRecipe, corpus: LatentCorpus, seed: int, schedule: CosineSchedule) -> None:
        self.recipe, self.corpus, self.seed, self.schedule = recipe, corpus, seed, schedule
        vocabulary = Vocabulary.of(caption for variants in corpus.captions for caption in variants)
        _, channels, frames = corpus.latents.shape
        shape = DenoiserShape(channels, frames, recipe.dim, recipe.layers, recipe.heads, text_dim=recipe.dim)
        with initial_weights(seed, self.name):
            self.objective = TeacherObjective(shape, TextShape(recipe.dim, recipe.text_layers), vocabulary)
        self.identity: Mapping[str, Any] = {"corpus": corpus.key, "shape": asdict(shape), "schedule": asdict(schedule)}

    def batch(self, step: int, share: npt.NDArray[np.int64], device: torch.device) -> Batch:
        """See `Task`."""
        drawn = draw(self.corpus, self.seed, self.name, step, self.recipe.batch, share, device)
        dropped = generator(self.seed, "drop", self.name, step).random(self.recipe.batch)[share] < self.recipe.drop_caption
        log_snr = self.schedule.log_snr(drawn.uniform)
        z, target = at_level(drawn, log_snr)
        text = self.objective.text
        return {
            "z": z,
            "target": target,
            "log_snr": log_snr.float(),
            "tokens": text.tokenise(drawn.captions).to(device),
            "dropped": torch.from_numpy(dropped).to(device),
        }
