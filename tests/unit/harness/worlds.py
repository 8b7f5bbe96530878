"""A world small enough to train in: random networks and latents in a bundle's folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from tta_bench.diffusion.schedule import CosineSchedule
from tta_bench.harness.teachers import BundleTeacher
from tta_bench.harness.train_teacher import LatentCorpus
from tta_bench.harness.training import initial_weights
from tta_bench.models.bundle import save_network
from tta_bench.models.codec import Codec, CodecShape
from tta_bench.models.denoiser import Denoiser, DenoiserShape
from tta_bench.models.ditar import LMShape, LocDiT, LocDiTShape, PatchLM
from tta_bench.models.text import TextEncoder, TextShape, Vocabulary

N = TypeVar("N", bound=nn.Module)
CAPTIONS = ["a dog barks", "rain", "a bell, then wind", "an engine idles", "a bird chirps loudly"]
SCHEDULE = CosineSchedule()
CODEC = CodecShape(channels=4, bands=24, dim=16, hidden=16, encoder_blocks=3, decoder_blocks=3)
DENOISER = DenoiserShape(channels=4, frames=8, dim=32, layers=2, heads=4, text_dim=32)


def stirred(network: N, seed: int = 0) -> N:
    """No weight at its special initial value: zero gates would hide what a test looks for."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def text_encoder() -> TextEncoder:
    with initial_weights(0, "text"):
        return stirred(TextEncoder(Vocabulary.of(CAPTIONS), TextShape(dim=32, layers=1, heads=4, at_most=12)))


def denoiser(seed: int = 0) -> Denoiser:
    with initial_weights(seed, "denoiser"):
        return stirred(Denoiser(DENOISER), seed)


def teacher(steps: int = 200, seed: int = 0) -> BundleTeacher:
    return BundleTeacher(denoiser(seed), text_encoder(), f"teacher {seed}", SCHEDULE, steps)


def latent_corpus(clips: int = 40, channels: int = 4, frames: int = 8) -> LatentCorpus:
    rng = np.random.default_rng(5)
    latents = rng.standard_normal((clips, channels, frames)).astype(np.float32)
    return LatentCorpus("toy", latents, [(CAPTIONS[i % len(CAPTIONS)],) for i in range(clips)])


def ditar(seed: int = 0, patch: int = 2, history: int = 2, frames: int = 8) -> tuple[PatchLM, LocDiT]:
    """A language model and a LocDiT that fit each other. history: in patches."""
    lm = LMShape(channels=4, patch=patch, patches=frames // patch, dim=32, layers=2, heads=4, at_most=12)
    locdit = LocDiTShape(channels=4, patch=patch, history=history * patch, state_dim=32, dim=32, layers=2, heads=4)
    with initial_weights(seed, "ditar"):
        return stirred(PatchLM(Vocabulary.of(CAPTIONS), lm), seed), stirred(LocDiT(locdit), seed)


def save_ditar(folder: Path) -> None:
    """codec, language model, a teacher and a guided student for scales 1 to 6, of one family."""
    lm, locdit = ditar()
    codec = save_network(folder, "codec", stirred(Codec(CODEC)), {})
    beside = save_network(folder, "lm", lm, {"codec_sha256": codec["sha256"]})
    facts = {"codec_sha256": codec["sha256"], "lm_sha256": beside["sha256"], "schedule": dataclasses.asdict(SCHEDULE), "steps": 200}
    save_network(folder, "teacher", locdit, facts | {"role": "teacher"})
    save_network(folder, "guided", ditar(1)[1], facts | {"role": "guided", "guidance_scales": [1.0, 6.0]})


def save_bundle(folder: Path) -> None:
    """codec, text, teacher and a guided student for scales 1 to 6, of one family."""
    codec = save_network(folder, "codec", stirred(Codec(CODEC)), {})
    text = save_network(folder, "text", text_encoder(), {})
    facts = {"codec_sha256": codec["sha256"], "text_sha256": text["sha256"], "schedule": dataclasses.asdict(SCHEDULE), "steps": 200}
    save_network(folder, "teacher", denoiser(), facts)
    save_network(folder, "guided", denoiser(1), {**facts, "guidance_scales": [1.0, 6.0]})
