"""What is heard in a clip, and in which order: the bundled tagger tells classes of the whole clip, and places them by listening to parts of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tta_bench.data.events import EVENT_CLASSES
from tta_bench.data.events_of import event_groups
from tta_bench.embedders.bundled import WINDOW_SAMPLES, windows
from tta_bench.embedders.protocol import Features, Floats, check_batch
from tta_bench.errors import WeightsError
from tta_bench.models.bundle import Embedder as Network
from tta_bench.models.bundle import assets, load_network
from tta_bench.models.embedder import FRAME_SAMPLES

# Chosen on 384 clips of SynthCaps' validation split; of 2 to 4 windows, temperatures and distances beside these, none is better there.
PART_FRAMES = 4  # .64 s
TEMPERATURE = 2.0  # of the logits of parts
TOGETHER = 0.2  # of the clip: events whose centres are no further apart sound together


class EventsEmbedder:
    """embeddings (1, K) per clip: the place of each class of `EVENT_CLASSES`, 1 for those that sound first, 2 for the next; 0 where it is not heard.

    A class is heard where the tagger gives it more than even odds in some window of 2.56 s, as `bundled` has them. Its centre is the mean time of
    parts of .64 s every .16 s, each weighed by the sigmoid of the tagger's logit there over a temperature. In the order of their centres, a class
    that lies within .2 of the clip's length of the one before it shares its place. A class is heard once: repeats are one event.
    """

    name = "events"
    provides = frozenset({"embeddings"})
    sample_rate_hz = 16_000
    min_samples = 1_600

    def __init__(self, folder: Path | None = None, device: str = "cpu") -> None:
        self.network, card = load_network(folder or assets(), "embedder", Network)
        self.classes = self.network.classes
        unknown = sorted(set(EVENT_CLASSES) - set(self.classes))
        if unknown:
            raise WeightsError(
                f"{folder or assets()}: its tagger does not know {', '.join(unknown[:3])}; name a bundle that was trained on SynthCaps"
            )
        self.checksum = hashlib.sha256(f"{card['sha256']} events 1: {PART_FRAMES} {TEMPERATURE} {TOGETHER}".encode()).hexdigest()
        self.device = torch.device(device)
        self.network.to(self.device)

    @torch.inference_mode()
    def embed(self, audio: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Features:
        """See `Embedder`."""
        check_batch(audio, lengths, self.min_samples)
        parts = [windows(samples[:length]) for samples, length in zip(audio, lengths, strict=True)]
        tower = self.network.audio
        frames = torch.cat([tower.frames(part) for part in torch.split(torch.from_numpy(np.concatenate(parts)).to(self.device), 64)])
        tags = torch.cat([tower.head(part)[1] for part in torch.split(frames, 64)])
        split = [len(part) for part in parts]
        clips = zip(torch.split_with_sizes(frames, split), torch.split_with_sizes(tags, split), lengths, strict=True)
        return Features([self._places(mine, tag.amax(dim=0), int(length))[None] for mine, tag, length in clips])

    def embed_text(self, captions: Sequence[str]) -> Floats:
        """(B, K): the same of what captions say; zeros for one that names no event."""
        places = np.zeros((len(captions), len(self.classes)), dtype=np.float32)
        for row, caption in zip(places, captions, strict=True):
            for place, group in enumerate(event_groups(caption), 1):
                row[[self.classes.index(name) for name in group]] = place
        return places

    def _places(self, frames: Tensor, tags: Tensor, length: int) -> Floats:
        """frames (P, F, D) of a clip's windows, tags (K,) of all of it -> (K,)."""
        heard = torch.nonzero(tags > 0.0)[:, 0]
        places = np.zeros(len(tags), dtype=np.float32)
        if not len(heard):
            return places
        own = frames.flatten(0, 1)[: -(-min(length, len(frames) * WINDOW_SAMPLES) // FRAME_SAMPLES)]  # without the padding
        parts = own.unfold(0, min(PART_FRAMES, len(own)), 1).transpose(1, 2)
        weights = torch.sigmoid(self.network.audio.head(parts)[1][:, heard].double() / TEMPERATURE)
        times = torch.linspace(0.0, 1.0, len(parts), dtype=torch.float64, device=weights.device)
        centres = ((weights * times[:, None]).sum(dim=0) / weights.sum(dim=0)).cpu().numpy()
        order = np.argsort(centres, kind="stable")
        steps = np.diff(centres[order], prepend=-np.inf) > TOGETHER
        places[heard.cpu().numpy()[order]] = np.cumsum(steps)
        return places
