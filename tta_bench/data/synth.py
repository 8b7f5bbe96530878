"""SynthCaps: clips of 2.56 s at 16 kHz with captions, rendered from (seed, split, index) by plain signal processing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tta_bench.data.captions import caption
from tta_bench.data.events import EVENT_CLASSES
from tta_bench.data.scene import Event, Scene, Split, draw_scene
from tta_bench.data.sounds.dsp import SAMPLE_RATE_HZ, Array, coloured, fades
from tta_bench.rng import generator

SYNTH_VERSION = 1  # part of every card and cache key: raise it when audio or captions change
CLIP_SAMPLES = 40_960
PITCH_FACTOR, RATE_FACTOR = 1.6, 1.7  # from ordinary to high, and to fast
LEVELS_DB = {-1: -34.0, 0: -26.0, 1: -18.0}  # active RMS over full scale of soft, ordinary and loud events
_LEVEL_JITTER_DB, _PITCH_JITTER, _RATE_JITTER = 1.0, 0.05, 0.06
_FLOOR_DB = -66.0  # of the room; digital silence is in no recording
_CREST = 5.0  # an event whose peak is further above its active RMS is levelled by its peak
_GAP_S = 0.06
_PEAK = 0.97


@dataclass(frozen=True)
class SynthClip:
    """audio: (40960,) float32 in [-1, 1] at 16 kHz."""

    clip_id: str
    caption: str
    scene: Scene
    audio: npt.NDArray[np.float32]


def synth_clip(seed: int, split: Split, index: int) -> SynthClip:
    """Clip `index` of a split; the same for equal arguments."""
    scene = draw_scene(seed, split, index)
    text = caption(scene, generator(seed, "caption", split, index))
    return SynthClip(f"{split}-{index:06d}", text, scene, render_scene(scene, generator(seed, "audio", split, index)))


def other_caption(seed: int, split: Split, index: int, variant: int) -> str:
    """Another caption of the same scene; variant 0 is the clip's own."""
    return caption(draw_scene(seed, split, index), generator(seed, "caption", split, index, *([variant] if variant else [])))


def render_scene(scene: Scene, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(40960,) audio of a scene: its groups one after the other with short gaps, on the noise floor of a room."""
    out = 10.0 ** (_FLOOR_DB / 20.0) * coloured(CLIP_SAMPLES, -3.0, rng)
    for group, (start, stop) in zip(scene.groups, _spans(len(scene.groups), rng), strict=True):
        for event in group:
            out[start:stop] += render_event(event, stop - start, rng)
    peak = float(np.abs(out).max())
    return np.asarray(out * min(1.0, _PEAK / peak), dtype=np.float32)


def _spans(count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Start and stop of each group: most of the clip, unequal shares, gaps between."""
    shares = rng.uniform(0.8, 1.2, count)
    gap = int(_GAP_S * SAMPLE_RATE_HZ)
    edges = np.round(np.concatenate([[0.0], np.cumsum(shares)]) / shares.sum() * (CLIP_SAMPLES + gap)).astype(int)
    return [(int(a), int(b) - gap) for a, b in pairwise(edges)]


def render_event(event: Event, samples: int, rng: np.random.Generator) -> Array:
    """(samples,) audio of one event at its level, faded at both ends."""
    pitch = PITCH_FACTOR**event.pitch * np.exp(_PITCH_JITTER * rng.standard_normal())
    rate = RATE_FACTOR**event.rate * np.exp(_RATE_JITTER * rng.standard_normal())
    sound = EVENT_CLASSES[event.name].sound(float(pitch), float(rate), samples, rng) * fades(samples, 0.004, 0.02)
    target_db = LEVELS_DB[event.loudness] + rng.uniform(-_LEVEL_JITTER_DB, _LEVEL_JITTER_DB)
    return np.asarray(sound * (10.0 ** (target_db / 20.0) / level(sound)))


def level(sound: Array) -> float:
    """Active RMS (over the 20 ms frames within 30 dB of the loudest), or a fifth of the peak if that is more; of full scale."""
    size = SAMPLE_RATE_HZ // 50
    power = np.square(sound[: len(sound) // size * size]).reshape(-1, size).mean(axis=1)
    active = power[power >= 1e-3 * power.max()]
    return max(float(np.sqrt(active.mean())), float(np.abs(sound).max()) / _CREST, 1e-9)


def event_labels(scene: Scene) -> npt.NDArray[np.float32]:
    """(26,) 1 for the classes that sound in the scene, in the order of EVENT_CLASSES."""
    present = {event.name for event in scene.events}
    return np.array([name in present for name in EVENT_CLASSES], dtype=np.float32)
