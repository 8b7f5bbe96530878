"""The bundled embedder's networks: a convolutional tagger of log-mels, and a text tower that shares its joint space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tta_bench.models.attention import TransformerBlock
from tta_bench.models.text import TextEncoder, TextShape, Vocabulary
from tta_bench.spectrum import LogMel

FRONT_END = LogMel(16_000, 400, 160, 512, 64, 50.0, 7_800.0, "slaney", 1, True, "offset", 1e-4)
EMBEDDER_HEADS = 4
FRAME_SAMPLES = 2_560  # .16 s: the hop of the log-mel, halved four times


@dataclass(frozen=True)
class EmbedderShape:
    """Sizes. classes: K. dim: of the embedding. joint: of the space shared with text."""

    classes: int
    dim: int = 128
    joint: int = 128
    widths: tuple[int, ...] = (24, 48, 96, 160)


class AudioTower(nn.Module):
    """(B, T) audio at 16 kHz -> frames' features; convolutions halve time and frequency four times, then attention over time keeps order."""

    window: Tensor
    matrix: Tensor

    def __init__(self, shape: EmbedderShape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("window", torch.from_numpy(FRONT_END.hann).float(), persistent=False)
        self.register_buffer("matrix", torch.from_numpy(FRONT_END.matrix * 100.0).float(), persistent=False)
        layers: list[nn.Module] = []
        before = 1
        for width in shape.widths:
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.convolutions = nn.Sequential(*layers)
        self.flatten = nn.Linear(before * FRONT_END.bands // 2 ** len(shape.widths), shape.dim)
        self.positions = nn.Parameter(0.02 * torch.randn(64, shape.dim))
        self.order = TransformerBlock(shape.dim, EMBEDDER_HEADS, 2)
        self.embed = nn.Linear(2 * shape.dim, shape.dim)
        self.tag = nn.Linear(shape.dim, shape.classes)
        self.project = nn.Linear(shape.dim, shape.joint)

    def log_mel(self, audio: Tensor) -> Tensor:
        """(B, T) -> (B, 1, frames, 64) log-mels, frames = T / 160; float32 whatever autocast says."""
        with torch.autocast(audio.device.type, enabled=False):
            margin = (FRONT_END.window - FRONT_END.hop) // 2
            frames = functional.pad(audio.float(), (margin, margin)).unfold(1, FRONT_END.window, FRONT_END.hop) * self.window
            mel = torch.fft.rfft(frames, FRONT_END.n_fft).abs() @ self.matrix
            return (torch.log(mel + FRONT_END.floor * 100.0)[:, None] + 1.0) / 3.0

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T) -> embedding (B, D), logits (B, K) before the sigmoid, joint (B, E) not normalised."""
        return self.head(self.frames(audio))

    def frames(self, audio: Tensor) -> Tensor:
        """(B, T) -> (B, F, D), a frame for each `FRAME_SAMPLES` begun; a frame knows no more of the clip than a fraction of a second around it."""
        x = self.convolutions(self.log_mel(audio).contiguous(memory_format=torch.channels_last))
        frames: Tensor = self.flatten(x.permute(0, 2, 1, 3).flatten(2))
        return frames

    def head(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, F, D) -> as `forward`; of any number of consecutive frames up to 64."""
        frames = self.order(frames + self.positions[: frames.shape[1]])
        pooled = torch.cat([frames.mean(dim=1), frames.amax(dim=1)], dim=1)
        embedding = self.embed(functional.gelu(pooled))
        return embedding, self.tag(functional.gelu(embedding)), self.project(functional.gelu(embedding))


class TextTower(nn.Module):
    """(B, S) tokens -> (B, E) in the joint space, not normalised: mean over the words' states."""

    def __init__(self, vocabulary: Vocabulary, joint: int, shape: TextShape | None = None) -> None:
        super().__init__()
        self.encoder = TextEncoder(vocabulary, shape or TextShape(dim=96))
        self.project = nn.Linear(self.encoder.shape.dim, joint)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, S) -> (B, E)."""
        states, mask = self.encoder(tokens)
        weights = mask.to(states)[:, :, None]
        joint: Tensor = self.project((states * weights).sum(dim=1) / weights.sum(dim=1))
        return joint
