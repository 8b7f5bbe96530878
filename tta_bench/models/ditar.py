"""DiTAR (Jia et al. 2025, arXiv 2502.03930): a causal language model over patches of latents, and a diffusion transformer for one patch.

Latents (C, L) are cut into patches of P frames. `PatchLM` reads the caption and the patches so far, each as one vector, and gives a state h for
the next patch; `LocDiT` predicts v of that patch from [h | the frames before it | the noisy patch]. Both know nothing of schedules or samplers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tta_bench.models.attention import KeyValues, TransformerBlock
from tta_bench.models.denoiser import Block, ScalarEmbedding, modulated
from tta_bench.models.text import PAD, Vocabulary


@dataclass(frozen=True)
class LMShape:
    """Sizes of the language model. channels, patch: of the latent frames in a patch. patches: in the longest clip, which is where generation
    ends if not before. aggregator_layers: of the encoder that makes one vector of a patch. at_most: words per caption."""

    channels: int = 16
    patch: int = 4
    patches: int = 8
    dim: int = 160
    layers: int = 4
    heads: int = 4
    aggregator_layers: int = 1
    at_most: int = 48


@dataclass(frozen=True)
class LocDiTShape:
    """Sizes of the diffusion transformer. history: clean frames that it sees before the patch. state_dim: of h. log_snr_limit: see
    `tta_bench.models.denoiser.DenoiserShape`."""

    channels: int = 16
    patch: int = 4
    history: int = 8
    state_dim: int = 160
    dim: int = 128
    layers: int = 3
    heads: int = 4
    mlp_ratio: int = 2
    log_snr_limit: float = 10.0


@dataclass(frozen=True)
class LMState:
    """What the language model keeps of a batch: keys and values of each layer, and which positions are not padding, (B, S) bool."""

    layers: tuple[KeyValues, ...]
    mask: Tensor
    patches: int = 0

    def keep(self, rows: Tensor) -> LMState:
        """Only some clips of the batch; rows: their indices, or a (B,) mask."""
        return LMState(tuple((k[rows], v[rows]) for k, v in self.layers), self.mask[rows], self.patches)


class Aggregator(nn.Module):
    """(N, C, P) patches -> (N, D): a bidirectional transformer over the frames and one learned token, whose output it is."""

    def __init__(self, shape: LMShape) -> None:
        super().__init__()
        self.inward = nn.Linear(shape.channels, shape.dim)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, shape.dim))
        self.positions = nn.Parameter(0.02 * torch.randn(shape.patch, shape.dim))
        self.layers = nn.ModuleList(TransformerBlock(shape.dim, shape.heads) for _ in range(shape.aggregator_layers))

    def forward(self, patches: Tensor) -> Tensor:
        """(N, C, P) -> (N, D)."""
        x = self.inward(patches.transpose(1, 2)) + self.positions
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        for layer in self.layers:
            x = layer(x)
        vector: Tensor = x[:, 0]
        return vector


class PatchLM(nn.Module):
    """Words and patches -> a state h for each next patch, and whether the clip ends. A pre-norm causal transformer over [words, start, patches]
    with learned positions; padding of captions changes nothing."""

    def __init__(self, vocabulary: Vocabulary, shape: LMShape | None = None) -> None:
        super().__init__()
        self.vocabulary, self.shape = vocabulary, shape or LMShape()
        s = self.shape
        self.words = nn.Embedding(len(vocabulary), s.dim)
        nn.init.normal_(self.words.weight, std=0.3)
        self.word_positions = nn.Parameter(0.02 * torch.randn(s.at_most, s.dim))
        self.start = nn.Parameter(0.02 * torch.randn(1, 1, s.dim))
        self.aggregator = Aggregator(s)
        self.patch_positions = nn.Parameter(0.02 * torch.randn(s.patches, s.dim))
        self.layers = nn.ModuleList(TransformerBlock(s.dim, s.heads) for _ in range(s.layers))
        self.norm = nn.LayerNorm(s.dim)
        self.stop = nn.Linear(s.dim, 1)

    def tokenise(self, captions: Sequence[str]) -> Tensor:
        """(B, S) int64 on the CPU."""
        return self.vocabulary.tokens(captions, self.shape.at_most)

    def forward(self, tokens: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (B, S), patches (B, N, C, P), N <= shape.patches -> h (B, N, D), that of each patch seen before it; logits (B, N) of the clip's
        ending with each patch."""
        prefix, mask = self._prefix(tokens)
        x = torch.cat([prefix, self._patch_vectors(patches, 0)], dim=1)
        seen = torch.cat([mask, mask.new_ones(patches.shape[:2])], dim=1)
        allowed = seen[:, None] & torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        for layer in self.layers:
            x = layer(x, allowed)
        states: Tensor = self.norm(x)[:, prefix.shape[1] - 1 :]
        return states[:, :-1], self.stop(states[:, 1:])[..., 0]

    def begin(self, tokens: Tensor) -> tuple[LMState, Tensor]:
        """tokens (B, S) -> what is kept of them, and h (B, D) of the first patch."""
        prefix, mask = self._prefix(tokens)
        causal = mask[:, None] & torch.ones(prefix.shape[1], prefix.shape[1], dtype=torch.bool, device=prefix.device).tril()
        state, x = self._extended(prefix, causal, LMState((), mask))
        return state, x[:, -1]

    def advance(self, state: LMState, patch: Tensor) -> tuple[LMState, Tensor, Tensor]:
        """A patch (B, C, P) more -> what is kept, h (B, D) of the next patch, and the logit (B,) of the clip's ending with this one.

        Raises ValueError beyond the longest clip.
        """
        if state.patches >= self.shape.patches:
            raise ValueError(f"the clip has {state.patches} patches already, as many as this network knows")
        x = self._patch_vectors(patch[:, None], state.patches)
        mask = torch.cat([state.mask, state.mask.new_ones(len(patch), 1)], dim=1)
        after, x = self._extended(x, mask[:, None], LMState(state.layers, mask, state.patches + 1))
        return after, x[:, 0], self.stop(x[:, 0])[:, 0]

    def _extended(self, x: Tensor, allowed: Tensor, state: LMState) -> tuple[LMState, Tensor]:
        caches: list[KeyValues] = []
        for i, layer in enumerate(self.layers):
            x, cache = layer.extend(x, allowed, state.layers[i] if state.layers else None)  # type: ignore[operator]
            caches.append(cache)
        return LMState(tuple(caches), state.mask, state.patches), self.norm(x)

    def _prefix(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Words and start (B, S + 1, D), and which of them are there."""
        words = self.words(tokens) + self.word_positions[: tokens.shape[1]]
        mask = torch.cat([tokens != PAD, torch.ones_like(tokens[:, :1], dtype=torch.bool)], dim=1)
        return torch.cat([words, self.start.expand(len(tokens), -1, -1)], dim=1), mask

    def _patch_vectors(self, patches: Tensor, first: int) -> Tensor:
        """(B, N, D) of patches (B, N, C, P), the first of which is number `first` of its clip."""
        batch, count = patches.shape[:2]
        vectors: Tensor = self.aggregator(patches.flatten(0, 1)).reshape(batch, count, -1)
        return vectors + self.patch_positions[first : first + count]


class LocDiT(nn.Module):
    """z (N, C, P) at log_snr (N,), h (N, D) (zeros: none), history (N, C, H) of which the last `known` (N,) frames are there, and a guidance scale
    (N,) (None: not guided) -> v (N, C, P). Bidirectional; noise level and scale as in `tta_bench.models.denoiser.Denoiser`."""

    def __init__(self, shape: LocDiTShape | None = None) -> None:
        super().__init__()
        self.shape = shape or LocDiTShape()
        s = self.shape
        self.state = nn.Linear(s.state_dim, s.dim)
        self.inward = nn.Linear(s.channels, s.dim)
        self.past = nn.Linear(s.channels, s.dim)
        self.absent = nn.Parameter(0.02 * torch.randn(s.dim))
        self.positions = nn.Parameter(0.02 * torch.randn(1 + s.history + s.patch, s.dim))
        self.noise_level = ScalarEmbedding(s.dim, lowest=0.05, highest=5.0)
        self.guidance = ScalarEmbedding(s.dim, lowest=0.5, highest=20.0)
        nn.init.zeros_(self.guidance.out.weight)
        nn.init.zeros_(self.guidance.out.bias)
        self.modulation = nn.Linear(s.dim, 6 * s.dim)
        self.blocks = nn.ModuleList(Block(s.dim, s.heads, s.mlp_ratio) for _ in range(s.layers))
        self.last_offset = nn.Parameter(torch.zeros(2, s.dim))
        self.outward = nn.Linear(s.dim, s.channels)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, z: Tensor, log_snr: Tensor, h: Tensor, history: Tensor, known: Tensor, guidance_scale: Tensor | None = None) -> Tensor:
        """See the class."""
        s = self.shape
        condition = self.noise_level(log_snr.clamp(-s.log_snr_limit, s.log_snr_limit))
        if guidance_scale is not None:
            condition = condition + self.guidance(4.0 * torch.log(guidance_scale))
        there = torch.arange(s.history, device=z.device) >= s.history - known[:, None]
        past = torch.where(there[..., None], self.past(history.transpose(1, 2)), self.absent)
        x = torch.cat([self.state(h)[:, None], past, self.inward(z.transpose(1, 2))], dim=1) + self.positions
        shared = self.modulation(functional.silu(condition)).reshape(len(condition), 6, -1)
        for block in self.blocks:
            x = block(x, shared)
        shift, scale = (condition[:, None] + self.last_offset).unbind(1)
        v: Tensor = self.outward(modulated(x[:, -s.patch :], shift, scale))
        return v.transpose(1, 2)


def patches_of(latents: Tensor, patch: int) -> Tensor:
    """(B, C, L) -> (B, L / P, C, P). Raises ValueError where P does not divide L."""
    if latents.shape[2] % patch:
        raise ValueError(f"{latents.shape[2]} frames are no whole number of patches of {patch}")
    batch, channels, frames = latents.shape
    return latents.reshape(batch, channels, frames // patch, patch).transpose(1, 2)


def frames_of(patches: Tensor) -> Tensor:
    """(B, N, C, P) -> (B, C, N P): the inverse of `patches_of`."""
    return patches.transpose(1, 2).flatten(2)


def histories(latents: Tensor, patch: int, history: int) -> tuple[Tensor, Tensor]:
    """The `history` frames before each patch of latents (B, C, L): (B, N, C, H), zeros before the start, and how many are there, (N,)."""
    count = latents.shape[2] // patch
    padded = functional.pad(latents, (history, 0))
    windows = torch.stack([padded[:, :, i * patch : i * patch + history] for i in range(count)], dim=1)
    return windows, (torch.arange(count, device=latents.device) * patch).clamp(max=history)
