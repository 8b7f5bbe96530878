"""Configuration of trainings: what to train, on what, for how long. One TOML file makes a bundle."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tta_bench.config import PathText, Settings
from tta_bench.diffusion.schedule import steps_ratio
from tta_bench.diffusion.weighting import WEIGHTINGS
from tta_bench.errors import ConfigError

TEACHER_STEPS = 200


class Data(Settings):
    """What to train on. manifest: CSV with clip_id, file, caption; without it SynthCaps: `clips` clips of `split`, drawn by `seed`.

    captions_per_clip: variants that the grammar writes of each SynthCaps clip. clip_s: length to which other audio is cut or padded.
    """

    manifest: PathText | None = None
    folder: PathText | None = None
    clips: int = Field(default=30_000, ge=2)
    split: Literal["train", "val", "test"] = "train"
    seed: int = 0
    captions_per_clip: int = Field(default=4, ge=1)
    clip_s: float = Field(default=2.56, gt=0.0)


class Optimisation(Settings):
    """One training: updates, clips per update over all processes, AdamW's peak learning rate, its warm-up in updates and its decay to 0.

    clip_norm: gradients are scaled down to this norm. ema: decay of the averaged weights that are kept in the end; none by default.
    autocast: False keeps the networks in float32 under mixed precision.
    """

    updates: int = Field(ge=1)
    batch: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    warm_up: int = Field(default=200, ge=0)
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0.0)
    clip_norm: float = Field(default=1.0, gt=0.0)
    ema: float | None = Field(default=None, gt=0.0, lt=1.0)
    autocast: bool = True


class Runtime(Settings):
    """Where and how trainings run. precision: bf16 runs networks whose recipe allows it under autocast. save_every_s: seconds between checkpoints."""

    device: Literal["auto", "cpu"] = "auto"
    precision: Literal["no", "bf16"] = "no"
    threads: int | None = Field(default=None, ge=1)
    tracker: str | None = None
    save_every_s: float = Field(default=60.0, ge=0.0)
    log_every: int = Field(default=50, ge=1)


class CodecRecipe(Optimisation):
    """latent_noise: standard deviation of the noise that the decoder learns to bear. latent_penalty: weight of the latents' mean square."""

    channels: int = Field(default=16, ge=1)
    bands: int = Field(default=96, ge=8)
    dim: int = Field(default=192, ge=8)
    hidden: int = Field(default=512, ge=8)
    encoder_blocks: int = Field(default=3, ge=3)
    decoder_blocks: int = Field(default=6, ge=3)
    latent_noise: float = Field(default=0.1, ge=0.0)
    latent_penalty: float = Field(default=0.01, ge=0.0)


class EmbedderRecipe(Optimisation):
    """dim: of the embedding and of the joint space. noise_share: share of training clips to which noise is added."""

    dim: int = Field(default=128, ge=8)
    widths: tuple[int, ...] = (24, 48, 96, 160)
    noise_share: float = Field(default=0.5, ge=0.0, le=1.0)


class DenoiserRecipe(Optimisation):
    """The teacher: sizes of denoiser and text encoder, share of updates' captions that are dropped for classifier-free guidance."""

    dim: int = Field(default=128, ge=8)
    layers: int = Field(default=5, ge=1)
    heads: int = Field(default=4, ge=1)
    text_layers: int = Field(default=2, ge=1)
    drop_caption: float = Field(default=0.1, ge=0.0, lt=1.0)


class GuidedRecipe(Optimisation):
    """Stage 1 of guided distillation: scales s (1 = no guidance) are drawn uniformly from lowest_scale to highest_scale."""

    lowest_scale: float = Field(default=1.0, gt=0.0)
    highest_scale: float = Field(default=6.0, gt=0.0)


class DistillRecipe(Settings):
    """Progressive distillation: one stage for each entry of `steps` (the student's), each with its own `updates`, else as `stage` says.

    gamma: of the weightings that have one; None is each weighting's own default.
    """

    weightings: tuple[str, ...] = ("constant", "truncated_snr", "snr_plus_one", "min_snr", "bsa")
    steps: tuple[int, ...] = (100, 50, 25, 5, 1)
    teacher_steps: int = Field(TEACHER_STEPS, ge=1)
    updates: tuple[int, ...] = (4000, 4000, 4000, 2500, 2500)
    stage: Optimisation = Optimisation(updates=1, learning_rate=3e-4, warm_up=0, decay="linear", autocast=False)
    gamma: float | None = Field(default=None, gt=0.0)

    @field_validator("weightings")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in WEIGHTINGS:
                raise ValueError(f"unknown weighting {name!r}; known: {', '.join(WEIGHTINGS)}")
        return names

    @model_validator(mode="after")
    def _grids_divide(self) -> DistillRecipe:
        if len(self.updates) != len(self.steps):
            raise ValueError(f"updates has {len(self.updates)} entries for {len(self.steps)} stages; give one for each")
        for before, after in zip((self.teacher_steps, *self.steps), self.steps, strict=False):
            try:
                steps_ratio(before, after)
            except ConfigError as error:
                raise ValueError(str(error)) from error
            if before == after:
                raise ValueError(f"steps: {after} follows {before}; each stage must have fewer steps than its teacher")
        return self


class TrainConfig(Settings):
    """`tta-bench train CONFIG`: every section that is there is trained, in this order. out: the folder of checkpoints and results."""

    out: PathText
    seed: int = 0
    data: Data = Data()
    runtime: Runtime = Runtime()
    codec: CodecRecipe | None = None
    embedder: EmbedderRecipe | None = None
    teacher: DenoiserRecipe | None = None
    guided: GuidedRecipe | None = None
    students: DistillRecipe | None = None
