"""Training DiTAR: language model and LocDiT together, all patches of a clip at once from its own clean past (teacher forcing)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tta_bench.diffusion.parameterization import noisy, v_from_x_eps
from tta_bench.diffusion.schedule import CosineSchedule, alpha_sigma
from tta_bench.errors import ConfigError
from tta_bench.harness.ditar_teacher import patch_v
from tta_bench.harness.recipe import DitarRecipe
from tta_bench.harness.train_teacher import LatentCorpus, draw
from tta_bench.harness.training import Batch, Objective, initial_weights, noise
from tta_bench.models.ditar import LMShape, LocDiT, LocDiTShape, PatchLM, frames_of, histories, patches_of
from tta_bench.models.text import Vocabulary
from tta_bench.rng import generator


class DitarObjective(Objective):
    """batch: "past" (B, C, L) clean latents as the networks may see them, "z", "target" (B, C, L), "log_snr" (B, N), "tokens" (B, S), "dropped"
    (B, N) bool, "last" (B,) int: the patch with which the clip ends, "patches": how many up to there the whole batch has for each process."""

    def __init__(self, lm: LMShape, locdit: LocDiTShape, vocabulary: Vocabulary, stop_weight: float) -> None:
        super().__init__()
        self.lm, self.locdit, self.stop_weight = PatchLM(vocabulary, lm), LocDiT(locdit), stop_weight

    @property
    def companion(self) -> tuple[str, PatchLM]:
        """What stays as it is in distillation, by its name in a bundle."""
        return "lm", self.lm

    @property
    def head(self) -> LocDiT:
        """What is distilled."""
        return self.locdit

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`. "diffusion": the v-MSE over the patches of the clip; "stop": cross-entropy of the clip's ending with each of them."""
        past, last, patch = batch["past"], batch["last"], self.lm.shape.patch
        h, ends = self.lm(batch["tokens"], patches_of(past, patch))
        h = h * ~batch["dropped"][..., None]
        history, _ = histories(past, patch, self.locdit.shape.history)
        v = patch_v(self.locdit, batch["z"], batch["log_snr"], h, history, None)
        number = torch.arange(ends.shape[1], device=ends.device)
        inside = (number <= last[:, None]).float()
        error = patches_of((v.float() - batch["target"]).square(), patch).mean(dim=(2, 3))
        diffusion = (inside * error).sum() / batch["patches"]
        each = functional.binary_cross_entropy_with_logits(ends.float(), (number == last[:, None]).float(), reduction="none")
        stop = (inside * each).sum() / batch["patches"]
        return {"loss": diffusion + self.stop_weight * stop, "diffusion": diffusion, "stop": stop}


class DitarTask:
    """See `tta_bench.harness.training.Task`. Raises ConfigError for a clip that is no whole number of patches."""

    name = "teacher"

    def __init__(self, recipe: DitarRecipe, corpus: LatentCorpus, seed: int, schedule: CosineSchedule) -> None:
        self.recipe, self.corpus, self.seed, self.schedule = recipe, corpus, seed, schedule
        _, channels, frames = corpus.latents.shape
        if frames % recipe.patch:
            raise ConfigError(
                f"teacher: patch = {recipe.patch} does not divide the {frames} latent frames of a clip; choose a divisor, or another clip_s"
            )
        self.patches = frames // recipe.patch
        vocabulary = Vocabulary.of(caption for variants in corpus.captions for caption in variants)
        lm = LMShape(channels, recipe.patch, self.patches, recipe.lm_dim, recipe.lm_layers, recipe.heads, recipe.aggregator_layers)
        locdit = LocDiTShape(channels, recipe.patch, recipe.history * recipe.patch, recipe.lm_dim, recipe.dim, recipe.layers, recipe.heads)
        with initial_weights(seed, self.name):
            self.objective = DitarObjective(lm, locdit, vocabulary, recipe.stop_weight)
        shapes = {"lm": asdict(lm), "locdit": asdict(locdit)}
        self.identity: Mapping[str, Any] = {"corpus": corpus.key, "shape": shapes, "schedule": asdict(schedule)}

    def batch(self, step: int, share: npt.NDArray[np.int64], device: torch.device) -> Batch:
        """See `Task`. Every patch has a noise level of its own; over the batch's patches they are equally spaced but for jitter."""
        size = self.recipe.batch
        drawn = draw(self.corpus, self.seed, self.name, step, size, share, device)
        rng = generator(self.seed, "patches", self.name, step)
        count = size * self.patches
        uniform = ((rng.permutation(count) + rng.random(count)) / count).reshape(size, self.patches)[share]
        dropped = rng.random((size, self.patches))[share] < self.recipe.drop_state
        log_snr = self.schedule.log_snr(torch.from_numpy(uniform).to(device))
        alpha, sigma = (part.float()[:, :, None, None] for part in alpha_sigma(log_snr))
        x, eps = (patches_of(part, self.recipe.patch) for part in (drawn.x, drawn.eps))
        return {
            "past": self._past(drawn.x, step, share),
            "z": frames_of(noisy(x, eps, alpha, sigma)),
            "target": frames_of(v_from_x_eps(x, eps, alpha, sigma)),
            "log_snr": log_snr.float(),
            "tokens": self.objective.lm.tokenise(drawn.captions).to(device),
            "dropped": torch.from_numpy(dropped).to(device),
            "last": torch.from_numpy(self._last(drawn.chosen)).to(device),
            "patches": float((self._last(drawn.whole) + 1).mean() * len(share)),
        }

    def _past(self, x: Tensor, step: int, share: npt.NDArray[np.int64]) -> Tensor:
        """The clean latents, with noise where the recipe asks for it: in generation the past is the networks' own, with their errors."""
        if self.recipe.history_noise == 0.0:
            return x
        drawn = noise(self.seed, f"{self.name} past", step, (self.recipe.batch, *x.shape[1:]))[share]
        return x + self.recipe.history_noise * torch.from_numpy(drawn).to(x.device)

    def _last(self, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Number of the patch with which each clip ends."""
        if self.corpus.frames is None:
            return np.full(len(chosen), self.patches - 1, dtype=np.int64)
        return (-(-self.corpus.frames[chosen] // self.recipe.patch) - 1).astype(np.int64)
