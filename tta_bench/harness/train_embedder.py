"""Training the embedder: tags and captions at once (contrastive, after Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from tta_bench.errors import ConfigError
from tta_bench.harness.corpus import Corpus
from tta_bench.harness.recipe import EmbedderRecipe
from tta_bench.harness.training import Batch, Objective, batch_indices, initial_weights
from tta_bench.models.bundle import Embedder
from tta_bench.models.embedder import EmbedderShape
from tta_bench.models.text import Vocabulary
from tta_bench.rng import generator

_NOISE_DB = (12.0, 40.0)  # signal-to-noise ratios of the noise that is added


class EmbedderObjective(Objective):
    """batch: "audio" (B, T), "tokens" (B, S), "labels" (B, K), "scenes" (B,) int: equal ones are not each other's negatives.

    Negatives are those of one process's share of the batch.
    """

    def __init__(self, network: Embedder) -> None:
        super().__init__()
        self.network = network
        self.log_scale = nn.Parameter(torch.tensor(2.65))  # ln(1 / 0.07)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        _, logits, joint = self.network.audio(batch["audio"])
        words = self.network.text(batch["tokens"])
        with torch.autocast(joint.device.type, enabled=False):
            tags = functional.binary_cross_entropy_with_logits(logits.float(), batch["labels"])
            joint, words = functional.normalize(joint.float(), dim=1), functional.normalize(words.float(), dim=1)
            similarity = self.log_scale.clamp(max=4.6).exp() * joint @ words.T
            same = batch["scenes"][:, None] == batch["scenes"]
            same.fill_diagonal_(False)
            similarity = similarity.masked_fill(same, -torch.inf)
            target = torch.arange(len(similarity), device=similarity.device)
            contrast = 0.5 * (functional.cross_entropy(similarity, target) + functional.cross_entropy(similarity.T, target))
        return {"loss": contrast + 5.0 * tags, "contrast": contrast, "tags": tags}


class EmbedderTask:
    """See `tta_bench.harness.training.Task`."""

    name = "embedder"

    def __init__(self, recipe: EmbedderRecipe, corpus: Corpus, seed: int) -> None:
        if corpus.labels is None:
            raise ConfigError("embedder: the training data has no labels to learn tags from; use SynthCaps or a manifest with a column label")
        self.recipe, self.corpus, self.labels, self.seed = recipe, corpus, corpus.labels, seed
        vocabulary = Vocabulary.of(caption for variants in corpus.captions for caption in variants)
        shape = EmbedderShape(len(corpus.classes), recipe.dim, recipe.dim, recipe.widths)
        with initial_weights(seed, self.name):
            self.objective = EmbedderObjective(Embedder(shape, vocabulary, corpus.classes))
        self.identity: Mapping[str, Any] = {"corpus": corpus.key, "shape": asdict(shape), "words": len(vocabulary)}

    def batch(self, step: int, share: npt.NDArray[np.int64], device: torch.device) -> Batch:
        """See `Task`."""
        chosen = batch_indices(self.seed, self.name, len(self.corpus), self.recipe.batch, step)[share]
        rng = generator(self.seed, "caption", self.name, step)
        variant = rng.random(self.recipe.batch)[share]
        captions = [self.corpus.captions[i][int(v * len(self.corpus.captions[i]))] for i, v in zip(chosen, variant, strict=True)]
        audio = _with_noise(
            self.corpus.samples(chosen), self.recipe.noise_share, generator(self.seed, "noise", self.name, step), share, self.recipe.batch
        )
        encoder = self.objective.network.text.encoder
        return {
            "audio": torch.from_numpy(audio).to(device),
            "tokens": encoder.tokenise(captions).to(device),
            "labels": torch.from_numpy(self.labels[chosen]).to(device),
            "scenes": torch.from_numpy(self.corpus.scenes[chosen]).to(device),
        }


def _with_noise(
    audio: npt.NDArray[np.float32], share_of_clips: float, rng: np.random.Generator, share: npt.NDArray[np.int64], batch: int
) -> npt.NDArray[np.float32]:
    """Some clips of this process's share with white noise, 12 to 40 dB below the clip's RMS."""
    below_db = rng.uniform(*_NOISE_DB, batch)[share]
    noisy = rng.random(batch)[share] < share_of_clips
    levels = np.sqrt(np.square(audio).mean(axis=1)) * 10.0 ** (-below_db / 20.0) * noisy
    drawn = rng.standard_normal((batch, audio.shape[1]), dtype=np.float32)[share]
    return np.asarray(audio + levels[:, None] * drawn, dtype=np.float32)
