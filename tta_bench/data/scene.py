"""SynthCaps scenes: one to three events in order, drawn from (seed, split, index)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np

from tta_bench.data.events import EVENT_CLASSES
from tta_bench.errors import ConfigError
from tta_bench.rng import generator, stream_seed

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
HELD_OUT_SHARE = 0.15  # of the pairs of classes
_LAYOUTS = (((1,), 0.35), ((1, 1), 0.25), ((2,), 0.2), ((1, 1, 1), 0.1), ((2, 1), 0.05), ((1, 2), 0.05))  # events per group, probability


@dataclass(frozen=True)
class Event:
    """name: a key of EVENT_CLASSES. pitch, rate, loudness: -1 (low, slow, soft), 0 (ordinary, not mentioned) or 1 (high, fast, loud)."""

    name: str
    pitch: int = 0
    rate: int = 0
    loudness: int = 0


@dataclass(frozen=True)
class Scene:
    """groups: they follow one another ("then"); the events of a group sound together ("while")."""

    groups: tuple[tuple[Event, ...], ...]

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, in order."""
        return tuple(event for group in self.groups for event in group)

    @property
    def key(self) -> str:
        """Equal for scenes that every caption of one describes too: the order within a group does not matter."""
        groups = (sorted(f"{e.name}{e.pitch:+d}{e.rate:+d}{e.loudness:+d}" for e in group) for group in self.groups)
        return " > ".join(" & ".join(group) for group in groups)


def draw_scene(seed: int, split: Split, index: int) -> Scene:
    """Scene `index` of a split; the same for equal arguments, everywhere.

    Scenes of `train` and `val` never hold a held-out pair of classes; every scene of `test` with two or more events holds one at least,
    so that it asks for combinations never trained on. Raises ConfigError for another split.
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    rng = generator(seed, "scene", split, index)
    layouts, shares = zip(*_LAYOUTS, strict=True)
    layout = layouts[int(rng.choice(len(layouts), p=shares))]
    names = list(EVENT_CLASSES)
    while True:
        chosen = [names[i] for i in rng.permutation(len(names))[: sum(layout)]]
        new = any(is_held_out(a, b) for i, a in enumerate(chosen) for b in chosen[:i])
        if len(chosen) == 1 or new == (split == "test"):
            break
    events = iter([_draw_event(name, rng) for name in chosen])
    return Scene(tuple(tuple(next(events) for _ in range(count)) for count in layout))


def _draw_event(name: str, rng: np.random.Generator) -> Event:
    kind = EVENT_CLASSES[name]
    pitch, rate, loudness = (int(rng.choice(3, p=p)) - 1 for p in ((0.3, 0.4, 0.3), (0.3, 0.4, 0.3), (0.2, 0.6, 0.2)))
    return Event(name, pitch if kind.pitched else 0, rate if kind.paced else 0, loudness)


@cache
def is_held_out(a: str, b: str) -> bool:
    """Whether no training scene holds classes a and b together, in either order; the same pairs for every seed."""
    first, second = sorted((a, b))
    return stream_seed(0, "held out", first, second) % 1000 < 1000 * HELD_OUT_SHARE
