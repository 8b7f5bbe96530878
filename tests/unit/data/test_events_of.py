"""What captions say, against the scenes that they were made of."""

from __future__ import annotations

import numpy as np
import pytest

from tta_bench.data.captions import caption
from tta_bench.data.events import EVENT_CLASSES
from tta_bench.data.events_of import event_groups, events_of
from tta_bench.data.scene import SPLITS, Event, Scene, Split, draw_scene
from tta_bench.data.synth import other_caption


@pytest.mark.parametrize("split", SPLITS)
def test_a_caption_says_what_its_scene_says(split: Split) -> None:
    for index in range(1_500):
        said = tuple(tuple(sorted(event.name for event in group)) for group in draw_scene(7, split, index).groups)
        for variant in range(3):
            text = other_caption(7, split, index, variant)
            assert event_groups(text) == said, text
            assert events_of(text) == tuple(name for group in said for name in group)


def test_every_name_verb_and_adjective_of_every_class(rng: np.random.Generator) -> None:
    """Every class beside every other: no name, verb or adjective is taken for another class."""
    names = list(EVENT_CLASSES)
    for a in names:
        for b in names:
            if a == b:
                continue
            first, second = (Event(name, *(int(level) for level in rng.integers(-1, 2, 3))) for name in (a, b))
            assert event_groups(caption(Scene(((first,), (second,))), rng)) == ((a,), (b,))
            assert event_groups(caption(Scene(((first, second),)), rng)) == (tuple(sorted((a, b))),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A dog barks", (("dog",),)),
        ("A telephone bell after a church bell", (("bell",), ("phone",))),
        ("While a siren wails, a drum beats", (("drum", "siren"),)),
        ("First a knock, then rain and finally a horn", (("knock",), ("rain",), ("horn",))),
        ("Rain and a bird at the same time, followed by an electric drill", (("bird", "rain"), ("drill",))),
        ("After a whoosh, applause erupts", (("whoosh",), ("applause",))),
        ("Before a whoosh, applause erupts", (("applause",), ("whoosh",))),
        ("A guitar after wind, then a clock ticks", (("wind",), ("guitar",), ("clock",))),
        ("  A DOG   barks. A bird sings.", (("dog",), ("bird",))),
        ("A dog barks, then a dog barks", (("dog",),)),
        ("A man speaks while dishes clink", ()),
        ("Hotdogs, windows, a rainbow and birdsong", ()),
        ("", ()),
    ],
)
def test_by_hand(text: str, said: tuple[tuple[str, ...], ...]) -> None:
    assert event_groups(text) == said
