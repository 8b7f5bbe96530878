"""Text encoder: words to vectors, for the denoiser's cross-attention and for the embedder's text tower."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta_bench.errors import InputError
from tta_bench.models.attention import TransformerBlock

PAD, UNKNOWN = 0, 1
TEXT_HEADS = 4
_WORD = re.compile(r"[a-z0-9]+|,")


@dataclass(frozen=True)
class Vocabulary:
    """words[i] has the token i + 2; 0 is padding, 1 any other word. Case and punctuation other than commas are dropped."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, captions: Iterable[str], at_most: int = 8192) -> Vocabulary:
        """The words of a training set, the most frequent first. Raises InputError where there are none."""
        counts = Counter(word for caption in captions for word in _split(caption))
        if not set(counts) - {","}:
            raise InputError("the training captions hold no words that can be read (a to z, 0 to 9); write them in Latin letters")
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ordered[: at_most - 2]))

    def __len__(self) -> int:
        return len(self.words) + 2

    def tokens(self, captions: Sequence[str], at_most: int) -> Tensor:
        """(B, S) int64, padded at the end with 0 to the longest caption, which is cut at `at_most` words; S >= 1."""
        index = {word: i + 2 for i, word in enumerate(self.words)}
        rows = [[index.get(word, UNKNOWN) for word in _split(caption)][:at_most] or [UNKNOWN] for caption in captions]
        length = max(map(len, rows), default=1)
        return torch.tensor([row + [PAD] * (length - len(row)) for row in rows], dtype=torch.int64).reshape(len(rows), length)


def has_words(caption: str) -> bool:
    """Whether the caption holds anything that an encoder reads as a word, known or not: a to z, 0 to 9."""
    return any(word != "," for word in _split(caption))


def _split(caption: str) -> list[str]:
    return _WORD.findall(caption.lower())


@dataclass(frozen=True)
class TextShape:
    """Sizes of a text encoder. at_most: words per caption, the rest is cut."""

    dim: int = 128
    layers: int = 2
    heads: int = TEXT_HEADS
    at_most: int = 48


class TextEncoder(nn.Module):
    """(B, S) tokens -> (B, S, D) states: a pre-norm transformer with learned positions. Padding changes nothing."""

    def __init__(self, vocabulary: Vocabulary, shape: TextShape | None = None) -> None:
        super().__init__()
        self.vocabulary, self.shape = vocabulary, shape or TextShape()
        s = self.shape
        self.words = nn.Embedding(len(vocabulary), s.dim)
        self.positions = nn.Parameter(0.02 * torch.randn(s.at_most, s.dim))
        self.layers = nn.ModuleList(TransformerBlock(s.dim, s.heads) for _ in range(s.layers))
        self.norm = nn.LayerNorm(s.dim)
        nn.init.normal_(self.words.weight, std=0.3)

    def tokenise(self, captions: Sequence[str]) -> Tensor:
        """(B, S) int64 on the CPU."""
        return self.vocabulary.tokens(captions, self.shape.at_most)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) -> states (B, S, D), and mask (B, S) bool, True where there is a word."""
        mask = tokens != PAD
        x = self.words(tokens) + self.positions[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x), mask
