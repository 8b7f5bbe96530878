"""Guided distillation (Meng et al. 2023, arXiv 2210.03142), then progressive distillation (Salimans & Ho 2022, arXiv 2202.00512).

Stage 1: a student that takes the guidance scale learns the teacher's guided output in one evaluation, at any time. Then each stage teaches
a copy of its teacher to do in one step what the teacher does in k. Data order, noise, times and scales are named by seed, stage
and update, and never by weighting: students of different weightings see the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tta_bench.diffusion.distill import Stage, weighted_v_loss
from tta_bench.diffusion.guidance import guided
from tta_bench.diffusion.schedule import Schedule
from tta_bench.diffusion.weighting import default_gamma, v_weights
from tta_bench.errors import ConfigError
from tta_bench.harness.recipe import GuidedRecipe, Optimisation
from tta_bench.harness.teachers import Teacher, Text
from tta_bench.harness.train_teacher import LatentCorpus, at_level, draw
from tta_bench.harness.training import Batch, Objective
from tta_bench.rng import generator

BINS = 10  # of the loss log over noise levels, at most: bins of a stage hold equally many steps


class StudentObjective(Objective):
    """batch: "z", "target" (B, ...), "log_snr", "weight", "guidance_scale" (B,), "text" (tensors by name), "bin" (B,) int. Where clips have padding,
    which does not count: "within" (B, 1, L), 1 before it, and "filled", the mean of that over the whole batch.

    teacher: knows how networks of its kind are called; its own is no part of what is trained.
    """

    def __init__(self, denoiser: nn.Module, teacher: Teacher) -> None:
        super().__init__()
        self.denoiser = denoiser
        self._apply_network = teacher.apply

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`. "bin_loss", "bin_count": sums of the unweighted v-MSE by noise level, and how many they are of. "target_power": mean
        square of the target, which is the unweighted loss of a network that says zero.
        """
        v, target = self._apply_network(self.denoiser, batch["z"], batch["log_snr"], batch["text"], batch["guidance_scale"]), batch["target"]
        if "within" in batch:
            v, target = v * batch["within"], target * batch["within"]
        filled = batch.get("filled", 1.0)
        error = weighted_v_loss(v, target, torch.ones_like(batch["weight"]) / filled)
        count = torch.bincount(batch["bin"], minlength=batch["bins"]).float()
        summed = torch.zeros_like(count).index_add(0, batch["bin"], error.detach())
        power = target.float().square().mean() / filled
        means = {"loss": (batch["weight"] * error).mean(), "unweighted": error.mean(), "target_power": power}
        return {**means, "bin_loss": summed, "bin_count": count}


class _StudentTask:
    """What both kinds of distillation share; see `tta_bench.harness.training.Task`."""

    def __init__(self, name: str, recipe: Optimisation, scales: tuple[float, float], corpus: LatentCorpus, teacher: Teacher, seed: int) -> None:
        if corpus.latents.shape[1:] != teacher.latent_shape:
            there, wanted = (" x ".join(map(str, shape)) for shape in (corpus.latents.shape[1:], teacher.latent_shape))
            raise ConfigError(
                f"{name}: the training latents are {there}, the teacher's {wanted}; distil with the codec and clip length that the teacher was "
                "trained with"
            )
        self.name, self.recipe, self.scales, self.corpus, self.teacher, self.seed = name, recipe, scales, corpus, teacher, seed
        self.objective = StudentObjective(teacher.student(), teacher)
        self.identity: dict[str, Any] = {"corpus": corpus.key, "teacher": teacher.sha256, "scales": list(scales)}
        self.stream = name
        teacher.freeze(torch.device("cpu"))

    def batch(self, step: int, share: npt.NDArray[np.int64], device: torch.device) -> Batch:
        """See `Task`. The text is encoded once, for teacher and student."""
        drawn = draw(self.corpus, self.seed, self.stream, step, self.recipe.batch, share, device)
        lowest, highest = self.scales
        scale = generator(self.seed, "scale", self.stream, step).uniform(lowest, highest, self.recipe.batch)[share]
        self.teacher.freeze(device)
        guidance_scale = torch.from_numpy(scale).float().to(device)
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            text = self.teacher.encode(drawn.captions, drawn.x)
            z, log_snr, target, weight, level = self._target(drawn.uniform, lambda snr: at_level(drawn, snr)[0], text, guidance_scale)
        made = {"z": z, "log_snr": log_snr.float(), "target": target, "weight": weight.float(), "bin": level}
        kept: Batch = {key: value.clone() for key, value in made.items()}  # of inference no gradient could be taken
        if self.corpus.frames is not None:
            length = self.corpus.latents.shape[2]
            within = np.arange(length) < self.corpus.frames[drawn.chosen][:, None, None]
            kept |= {"within": torch.from_numpy(within).float().to(device), "filled": float(self.corpus.frames[drawn.whole].mean() / length)}
        return kept | {"text": {key: value.clone() for key, value in text.items()}, "guidance_scale": guidance_scale, "bins": self.bins}

    @property
    def bins(self) -> int:
        """Of the loss log."""
        raise NotImplementedError

    def _target(
        self, uniform: Tensor, noised: Callable[[Tensor], Tensor], text: Text, guidance_scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """z, log_snr, target, weight and bin of each item."""
        raise NotImplementedError


class GuidedTask(_StudentTask):
    """Stage 1: v(null) + s (v(c) - v(null)) in one evaluation; w_v = 1, t uniform."""

    def __init__(self, recipe: GuidedRecipe, corpus: LatentCorpus, teacher: Teacher, seed: int) -> None:
        super().__init__("guided", recipe, (recipe.lowest_scale, recipe.highest_scale), corpus, teacher, seed)

    @property
    def bins(self) -> int:
        """See `_StudentTask`."""
        return BINS

    def _target(
        self, uniform: Tensor, noised: Callable[[Tensor], Tensor], text: Text, guidance_scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        log_snr = self.teacher.schedule.log_snr(uniform)
        z = noised(log_snr)
        v, v_null = self.teacher.predict(z, log_snr.float(), text, None), self.teacher.predict_null(z, log_snr.float(), text)
        target = guided(v, v_null, guidance_scale.view(-1, *[1] * (z.dim() - 1)))
        return z, log_snr, target, torch.ones_like(log_snr), (uniform * BINS).long()


class StageTask(_StudentTask):
    """One stage of progressive distillation under one weighting.

    Raises ConfigError where the grids do not divide, or the teacher's steps or schedule are not the stage's.
    """

    def __init__(
        self, recipe: Optimisation, stage: Stage, weighting: str, gamma: float | None, scales: tuple[float, float], corpus: LatentCorpus,
        teacher: Teacher, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(f"{weighting} {stage.student_steps}", recipe, scales, corpus, teacher, seed)
        if teacher.schedule != stage.schedule:
            theirs, asked = teacher.schedule.facts(), stage.schedule.facts()
            raise ConfigError(f"{self.name}: the teacher was trained on {theirs}, this stage asks for {asked}; use the teacher's")
        if teacher.steps != stage.teacher_steps:
            raise ConfigError(
                f"{self.name}: the teacher takes {teacher.steps} steps, this stage asks for {stage.teacher_steps}; start from its steps"
            )
        self.stage = stage
        self.stream = f"{stage.teacher_steps} to {stage.student_steps}"  # no weighting: all see the same data and noise
        self.weights = v_weights(weighting, stage.log_snrs, gamma)
        self.identity |= {"stage": [stage.teacher_steps, stage.student_steps], "schedule": stage.schedule.facts()}
        self.identity |= {"weighting": weighting, "gamma": default_gamma(weighting) if gamma is None else gamma}

    @property
    def bins(self) -> int:
        """See `_StudentTask`."""
        return max(bins for bins in range(1, BINS + 1) if self.stage.student_steps % bins == 0)

    def _target(
        self, uniform: Tensor, noised: Callable[[Tensor], Tensor], text: Text, guidance_scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        steps = self.stage.student_steps
        step = (uniform * steps).long()
        log_snr = self.stage.log_snrs.to(step.device)[step]
        z = noised(log_snr)
        target = self.stage.target(lambda z, snr: self.teacher.predict(z, snr, text, guidance_scale), z, step)
        return z, log_snr, target, self.weights.to(step.device)[step], step * self.bins // steps


def loss_by_level(losses: Sequence[Mapping[str, Any]], schedule: Schedule) -> list[dict[str, float]]:
    """Mean unweighted v-MSE of each bin over lines of a loss log, with the bin's range of log_snr; lowest t first."""
    summed = np.sum([line["bin_loss"] for line in losses], axis=0)
    counts = np.sum([line["bin_count"] for line in losses], axis=0)
    edges = schedule.log_snr(torch.linspace(0.0, 1.0, len(counts) + 1, dtype=torch.float64)).tolist()
    return [
        {"log_snr_low": edges[i + 1], "log_snr_high": edges[i], "loss": float(summed[i] / max(counts[i], 1)), "count": float(counts[i])}
        for i in range(len(counts))
    ]
