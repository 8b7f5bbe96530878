"""Rows to read a table against: real audio that is not the reference, and audio through the codec. They take captions and ignore steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import tta_bench.data
from tta_bench.data.scene import Split, draw_scene
from tta_bench.data.sounds.dsp import SAMPLE_RATE_HZ
from tta_bench.data.synth import SYNTH_VERSION, render_scene
from tta_bench.files import digest, sha256_file
from tta_bench.models.bundle import load_network, read_card
from tta_bench.models.codec import Codec
from tta_bench.rng import generator
from tta_bench.systems.protocol import Clip

Audio = npt.NDArray[np.float32]
Source = Callable[[Clip], Audio]


@cache
def synth_code() -> str:
    """SHA-256 of what renders SynthCaps: another one may render other audio."""
    root = Path(tta_bench.data.__path__[0])
    return digest([SYNTH_VERSION, *(sha256_file(path) for path in sorted(root.rglob("*.py")) if path.name != "manifest.py")])


def rendered_again(seed: int, split: Split, index: int) -> Audio:
    """Another rendering of the same scene: what a perfect generator would make of the caption, none of it in the reference."""
    return render_scene(draw_scene(seed, split, index), generator(seed, "audio again", split, index))


@dataclass(frozen=True)
class RealAudio:
    """Audio that is there: `source(clip)` gives (T,) at `sample_rate_hz`."""

    name: str
    source: Source
    checksum: str
    sample_rate_hz: int = SAMPLE_RATE_HZ

    def generate(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[tuple[str, Audio]]:
        """As a system does; steps, guidance and seed change nothing."""
        for clip in clips:
            yield clip.clip_id, self.source(clip)


@dataclass(frozen=True)
class Reconstruction:
    """Audio of another set through the codec of a bundle and back."""

    name: str
    real: RealAudio
    folder: Path
    device: str = "cpu"
    batch_size: int = 32

    @property
    def checksum(self) -> str:
        """Of the audio and of the codec."""
        return digest([self.real.checksum, read_card(self.folder, "codec")["sha256"]])

    @property
    def sample_rate_hz(self) -> int:
        """Of the codec."""
        return int(read_card(self.folder, "codec")["shape"]["sample_rate_hz"])

    @torch.inference_mode()
    def generate(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[tuple[str, Audio]]:
        """As a system does; steps, guidance and seed change nothing. Clips keep their length up to the codec's frame."""
        codec = load_network(self.folder, "codec", Codec)[0].to(self.device)
        for start in range(0, len(clips), self.batch_size):
            part = clips[start : start + self.batch_size]
            audio = [self.real.source(clip) for clip in part]
            for clip, samples in zip(part, reconstructed(codec, audio), strict=True):
                yield clip.clip_id, samples


def reconstructed(codec: Codec, audio: Sequence[Audio]) -> list[Audio]:
    """[(T,), ...] at the codec's rate through encoder and decoder; clips of one length run together."""
    device = next(codec.parameters()).device
    frame = codec.shape.samples_per_latent
    made: dict[int, Audio] = {}
    for length in sorted({len(samples) for samples in audio}):
        where = [i for i, samples in enumerate(audio) if len(samples) == length]
        padded = np.stack([np.pad(audio[i], (0, -length % frame)) for i in where])
        back = codec.decode(codec.encode(torch.from_numpy(padded).to(device))).float().cpu().numpy()
        made |= {i: samples[:length] for i, samples in zip(where, back, strict=True)}
    return [made[i] for i in range(len(audio))]
