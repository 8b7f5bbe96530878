"""A caption says all of its scene and nothing else: read back by a parser that knows the words, but not the grammar's templates."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tta_bench.data.captions import caption
from tta_bench.data.events import EVENT_CLASSES
from tta_bench.data.scene import SPLITS, Event, Scene, Split, draw_scene
from tta_bench.data.synth import other_caption
from tta_bench.rng import generator

PITCH = {"low": -1, "low-pitched": -1, "deep": -1, "high": 1, "high-pitched": 1}
LOUDNESS = {"soft": -1, "quiet": -1, "faint": -1, "loud": 1, "strong": 1, "softly": -1, "quietly": -1, "faintly": -1, "loudly": 1}
RATE = {"slowly": -1, "quickly": 1, "rapidly": 1}
NAMES = sorted(((name, kind.name) for kind in EVENT_CLASSES.values() for name in kind.names), key=lambda pair: -len(pair[0]))


def _event(text: str) -> Event:
    """Of "a loud high siren wails": one name, then one of its verbs or none; every other word is an attribute, each kind at most once."""
    name, kind = next((name, EVENT_CLASSES[of]) for name, of in NAMES if re.search(rf"(^| ){name}( |$)", text))
    before, after = re.split(rf"(?:^| ){name}(?: |$)", text, maxsplit=1)
    verb = next((verb for verb in kind.verbs if re.match(rf"{verb}( |$)", after)), "")
    words = [*before.split(), *after.removeprefix(verb).split()]
    if not kind.bare:
        assert words.pop(0) == ("an" if text.split()[1][0] in "aeiou" else "a"), text
    rates = RATE | {word: level for words, level in zip(kind.paces, (-1, 1), strict=True) for word in words}
    levels = []
    for known in (PITCH, rates, LOUDNESS):
        found = [word for word in words if word in known]
        assert len(found) <= 1, f"{found} are of one kind in {text!r}"
        levels.append(known[found[0]] if found else 0)
        words = [word for word in words if word not in found]
    assert not words, f"{words} mean nothing in {text!r}"
    return Event(kind.name, *levels)


def _group(text: str) -> tuple[Event, ...]:
    text = text.removeprefix("first ")
    if text.endswith(" at the same time"):
        parts = text.removesuffix(" at the same time").split(" and ")
    elif text.startswith("while "):
        parts = text.removeprefix("while ").split(", ")
    else:
        parts = re.split(r" while | as | together with | over ", text)
    return tuple(_event(part) for part in parts)


def parse(text: str) -> Scene:
    """The scene that a caption describes."""
    text = text[:1].lower() + text[1:]
    groups = re.split(r",? and then |,? and finally |,? then |,? followed by | before | after ", text)
    if " after " in text:
        groups = groups[::-1]
    return Scene(tuple(_group(group) for group in groups))


@given(st.integers(0, 2**40), st.sampled_from(SPLITS), st.integers(0, 10**6), st.integers(0, 9))
def test_a_caption_says_exactly_its_scene(seed: int, split: Split, index: int, variant: int) -> None:
    text = other_caption(seed, split, index, variant)
    assert parse(text).key == draw_scene(seed, split, index).key, text


def test_different_scenes_share_no_caption() -> None:
    """Follows from the one above; here without a parser, and over scenes that differ in little."""
    said: dict[str, str] = {}
    for i in range(5_000):
        key = draw_scene(0, SPLITS[i % 3], i).key
        for variant in range(3):
            assert said.setdefault(other_caption(0, SPLITS[i % 3], i, variant), key) == key
    changes = [Event("siren", *(step - 1 for step in np.unravel_index(i, (3, 3, 3)))) for i in range(27)]
    other = Event("dog", 1, 0, 0)
    for scene in [Scene(groups) for event in changes for groups in (((event,),), ((event, other),), ((event,), (other,)), ((other,), (event,)))]:
        for draw in range(40):
            assert said.setdefault(caption(scene, generator(0, "near", draw)), scene.key) == scene.key


@given(st.integers(0, 2**40), st.integers(0, 10**6))
def test_a_caption_is_neat(seed: int, index: int) -> None:
    text = other_caption(seed, "train", index, 0)
    assert re.fullmatch(r"[A-Z][a-z-]*(,? [a-z-]+)*", text), text
    assert not re.search(r"\b(a|an) (a|an)\b|\b(\w+) \3\b", text), text
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text.lower()), text
    assert text == other_caption(seed, "train", index, 0)


def test_article_before_an_adjective_and_before_a_name() -> None:
    said = {caption(Scene(((Event("engine", loudness=level),),)), generator(0, "article", draw)) for level in (0, 1) for draw in range(60)}
    starts = {" ".join(text.split()[:2]) for text in said}
    assert {"An engine", "A motor", "A car", "A loud", "A strong"} == starts


@pytest.mark.parametrize("bare", sorted(kind.name for kind in EVENT_CLASSES.values() if kind.bare))
def test_what_cannot_be_counted_takes_no_article(bare: str) -> None:
    for draw in range(20):
        assert not caption(Scene(((Event(bare),),)), generator(0, "bare", draw)).startswith(("A ", "An "))


def test_captions_of_one_scene_vary() -> None:
    for i in range(30):
        assert len({other_caption(0, "train", i, variant) for variant in range(20)}) >= 4
    pair = Scene(((Event("dog"),), (Event("bell"),)))
    said = [caption(pair, generator(0, "order", draw)) for draw in range(200)]
    assert len(set(said)) > 60
    assert all((text.index("dog") > text.index("bell")) == (" after " in text) for text in said)
    assert any(" after " in text for text in said)


def test_either_of_two_simultaneous_events_may_come_first() -> None:
    pair = Scene(((Event("dog"), Event("siren")),))
    said = [caption(pair, generator(0, "pair", draw)) for draw in range(100)]
    assert 20 < sum(text.index("dog") < text.index("siren") for text in said) < 80


def test_fronted_while_is_for_lone_pairs() -> None:
    """'While it rains, a dog barks, then a bell rings' would say that it rains on."""
    for layout in ((2, 1), (1, 2)):
        events = iter((Event("dog"), Event("siren"), Event("horn")))
        scene = Scene(tuple(tuple(next(events) for _ in range(count)) for count in layout))
        for draw in range(200):
            text = caption(scene, generator(0, "fronted", draw))
            assert not re.search(r"(^while|followed by while|first while|then while)", text.lower()), text
            assert not re.search(r"(followed by|first) .*\b(barks|woofs|wails|blares|honks|toots)\b", text.lower()), "a clause where a noun belongs"
