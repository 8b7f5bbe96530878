"""Configuration of trainings: what to train, on what, for how long. One TOML file makes a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tta_bench.config import PathText, Settings, check_known, parse_settings
from tta_bench.diffusion.schedule import steps_ratio
from tta_bench.diffusion.weighting import WEIGHTINGS
from tta_bench.errors import ConfigError
from tta_bench.models.embedder import EMBEDDER_HEADS
from tta_bench.models.text import TEXT_HEADS

TEACHER_STEPS = 200
CLIP_S = 2.56
_MOST_FRAMES = 64  # that the embedder's attention over time has positions for


class Data(Settings):
    """What to train on. manifest: CSV with clip_id, file, caption; without it SynthCaps: `clips` clips of `split`, drawn by `seed`.

    captions_per_clip: variants that the grammar writes of each SynthCaps clip. folder: of the manifest's audio. clip_s: seconds to which a
    manifest's audio is cut, or padded with silence.
    """

    manifest: PathText | None = None
    folder: PathText | None = None
    clips: int = Field(default=30_000, ge=2, le=10_000_000)
    split: Literal["train", "val", "test"] = "train"
    seed: int = 0
    captions_per_clip: int = Field(default=4, ge=1, le=1000)
    clip_s: float = Field(default=CLIP_S, ge=0.2, le=600.0)

    @model_validator(mode="after")
    def _no_key_without_effect(self) -> Data:
        idle = ("clips", "split", "seed", "captions_per_clip") if self.manifest else ("folder", "clip_s")
        for name in idle:
            if name in self.model_fields_set and getattr(self, name) != type(self).model_fields[name].default:
                where = "SynthCaps, and a manifest is given" if self.manifest else "a manifest, and none is given"
                raise ValueError(f"{name} is a key for {where}; remove one of them")
        return self


class Rates(Settings):
    """How a training optimises: clips per update over all processes, AdamW's peak learning rate, its warm-up in updates and its decay to 0.

    clip_norm: gradients are scaled down to this norm. ema: decay of the averaged weights that are kept in the end; none by default.
    autocast: False keeps the networks in float32 under mixed precision.
    """

    batch: int = Field(default=32, ge=1, le=1_000_000)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    warm_up: int = Field(default=200, ge=0)
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0.0)
    clip_norm: float = Field(default=1.0, gt=0.0)
    ema: float | None = Field(default=None, gt=0.0, lt=1.0)
    autocast: bool = True


class Optimisation(Rates):
    """One training: its number of updates, and how it optimises."""

    updates: int = Field(ge=1)


class Runtime(Settings):
    """Where and how trainings run. precision: bf16 runs networks whose recipe allows it under autocast. save_every_s: seconds between checkpoints."""

    device: Literal["auto", "cpu"] = "auto"
    precision: Literal["no", "bf16"] = "no"
    threads: int | None = Field(default=None, ge=1, le=1024)
    tracker: str | None = None
    save_every_s: float = Field(default=60.0, ge=0.0)
    log_every: int = Field(default=50, ge=1)


class CodecRecipe(Optimisation):
    """latent_noise: standard deviation of the noise that the decoder learns to bear. latent_penalty: weight of the latents' mean square.

    causal: a decoder that looks at the past alone, for streaming. encoder: a bundle's folder, whose codec's encoder, latents and sizes are kept and
    whose decoder is where training starts.
    """

    channels: int = Field(default=16, ge=1, le=16_384)
    bands: int = Field(default=96, ge=8, le=16_384)
    dim: int = Field(default=192, ge=8, le=16_384)
    hidden: int = Field(default=512, ge=8, le=16_384)
    encoder_blocks: int = Field(default=3, ge=3, le=256)
    decoder_blocks: int = Field(default=6, ge=3, le=256)
    latent_noise: float = Field(default=0.1, ge=0.0, le=10.0)
    latent_penalty: float = Field(default=0.01, ge=0.0, le=100.0)
    causal: bool = False
    encoder: PathText | None = None

    @model_validator(mode="after")
    def _no_size_of_its_own(self) -> CodecRecipe:
        idle = self.model_fields_set & {"channels", "bands", "dim", "hidden", "encoder_blocks", "decoder_blocks", "latent_penalty"}
        changed = sorted(name for name in idle if getattr(self, name) != type(self).model_fields[name].default)
        if self.encoder and changed:
            raise ValueError(f"{changed[0]} has no effect beside encoder, whose codec's sizes and latents are kept; remove one of them")
        return self


class EmbedderRecipe(Optimisation):
    """dim: of the embedding and of the joint space. widths: channels of the convolutions, each of which halves time and frequency.

    noise_share: share of training clips to which noise is added.
    """

    dim: int = Field(default=128, ge=8, le=16_384)
    widths: tuple[int, ...] = (24, 48, 96, 160)
    noise_share: float = Field(default=0.5, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _buildable(self) -> EmbedderRecipe:
        if self.dim % EMBEDDER_HEADS:
            raise ValueError(f"dim = {self.dim} is no multiple of {EMBEDDER_HEADS}, the number of attention heads")
        if not 1 <= len(self.widths) <= 6 or not all(1 <= width <= 4096 for width in self.widths):
            raise ValueError("widths must be one to six numbers from 1 to 4096")
        return self

    def check_length(self, clip_s: float) -> None:
        """Raises ConfigError where clips of this length make more frames than attention has positions for."""
        frames = -(-round(100 * clip_s) // 2 ** len(self.widths))
        if frames > _MOST_FRAMES:
            longest = _MOST_FRAMES * 2 ** len(self.widths) / 100
            allowed = f"the {longest:g} s that {len(self.widths)} widths allow"
            raise ConfigError(f"embedder: clips of {clip_s:g} s are longer than {allowed}; add a width or shorten data.clip_s")


class DenoiserRecipe(Optimisation):
    """The teacher: sizes of denoiser and text encoder, share of updates' captions that are dropped for classifier-free guidance."""

    dim: int = Field(default=128, ge=8, le=16_384)
    layers: int = Field(default=5, ge=1, le=256)
    heads: int = Field(default=4, ge=1, le=256)
    text_layers: int = Field(default=2, ge=1, le=256)
    drop_caption: float = Field(default=0.1, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _divides(self) -> DenoiserRecipe:
        for heads, of in ((self.heads, "heads"), (TEXT_HEADS, "attention heads of the text encoder")):
            if self.dim % heads:
                raise ValueError(f"dim = {self.dim} is no multiple of {heads}, the number of {of}")
        return self


class DitarRecipe(Optimisation):
    """The teacher of the family "ditar". patch: latent frames in a patch; history: patches that LocDiT sees before it. lm_dim, lm_layers: of the
    language model; dim, layers: of LocDiT; heads: of both.

    drop_state: share of patches whose state h is zero, for guidance. stop_weight: of the stop head's loss. history_noise: standard deviation of
    noise on the past that both networks see, against exposure bias.
    """

    patch: int = Field(default=4, ge=1, le=4096)
    history: int = Field(default=2, ge=0, le=256)
    lm_dim: int = Field(default=160, ge=8, le=16_384)
    lm_layers: int = Field(default=4, ge=1, le=256)
    aggregator_layers: int = Field(default=1, ge=1, le=256)
    dim: int = Field(default=128, ge=8, le=16_384)
    layers: int = Field(default=3, ge=1, le=256)
    heads: int = Field(default=4, ge=1, le=256)
    drop_state: float = Field(default=0.1, ge=0.0, lt=1.0)
    stop_weight: float = Field(default=0.1, ge=0.0, le=100.0)
    history_noise: float = Field(default=0.0, ge=0.0, le=10.0)

    @model_validator(mode="after")
    def _divides(self) -> DitarRecipe:
        for name in ("lm_dim", "dim"):
            if getattr(self, name) % self.heads:
                raise ValueError(f"{name} = {getattr(self, name)} is no multiple of {self.heads}, the number of heads")
        return self


class GuidedRecipe(Optimisation):
    """Stage 1 of guided distillation: scales s (1 = no guidance) are drawn uniformly from lowest_scale to highest_scale."""

    lowest_scale: float = Field(default=1.0, gt=0.0, le=100.0)
    highest_scale: float = Field(default=6.0, gt=0.0, le=100.0)

    @model_validator(mode="after")
    def _ordered(self) -> GuidedRecipe:
        if self.lowest_scale > self.highest_scale:
            raise ValueError(f"lowest_scale = {self.lowest_scale:g} is above highest_scale = {self.highest_scale:g}; swap them")
        return self


class DistillRecipe(Settings):
    """Progressive distillation: one stage for each entry of `steps` (the student's), with its entry of `updates` (or the only one).

    stage: how each of them optimises. gamma: of the weightings that have one; None is each weighting's own default.
    """

    weightings: tuple[str, ...] = Field(default=("constant", "truncated_snr", "snr_plus_one", "min_snr", "bsa"), min_length=1)
    steps: tuple[int, ...] = Field(default=(100, 50, 25, 5, 1), min_length=1)
    teacher_steps: int = Field(TEACHER_STEPS, ge=1)
    updates: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(4000,), min_length=1)
    stage: Rates = Rates(learning_rate=3e-4, warm_up=0, decay="linear", autocast=False)
    gamma: float | None = Field(default=None, gt=0.0)

    @field_validator("weightings")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_known(names, WEIGHTINGS, "weighting")
        return names

    @model_validator(mode="after")
    def _grids_divide(self) -> DistillRecipe:
        if len(self.updates) not in (1, len(self.steps)):
            raise ValueError(f"updates has {len(self.updates)} entries for {len(self.steps)} stages; give one for each, or one for all")
        for before, after in zip((self.teacher_steps, *self.steps), self.steps, strict=False):
            try:
                steps_ratio(before, after)
            except ConfigError as error:
                raise ValueError(str(error)) from error
            if before == after:
                raise ValueError(f"steps: {after} follows {before}; each stage must have fewer steps than its teacher")
        return self

    def stages(self) -> list[tuple[int, Optimisation]]:
        """Student's steps and recipe of each stage, in order."""
        updates = self.updates * len(self.steps) if len(self.updates) == 1 else self.updates
        return [(steps, Optimisation(updates=n, **self.stage.model_dump())) for steps, n in zip(self.steps, updates, strict=True)]


class TrainConfig(Settings):
    """`tta-bench train CONFIG`: every section that is there is trained, in this order. out: the folder of checkpoints and results.

    family: "latent" diffuses whole clips, "ditar" patch after patch; it says what `teacher` is.
    """

    out: PathText
    family: Literal["latent", "ditar"] = "latent"
    seed: int = 0
    data: Data = Data()
    runtime: Runtime = Runtime()
    codec: CodecRecipe | None = None
    embedder: EmbedderRecipe | None = None
    teacher: DenoiserRecipe | None = None
    guided: GuidedRecipe | None = None
    students: DistillRecipe | None = None


class DitarConfig(TrainConfig):
    """The same for the family "ditar"."""

    family: Literal["ditar"] = "ditar"
    teacher: DitarRecipe | None = None  # type: ignore[assignment]


def parse_training(values: Mapping[str, Any], source: str) -> TrainConfig:
    """The configuration of a training of whichever family. Raises ConfigError as `parse_settings` does."""
    return parse_settings(DitarConfig if values.get("family") == "ditar" else TrainConfig, values, source)
