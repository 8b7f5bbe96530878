"""The grammar of SynthCaps: a scene in English, with synonyms and changes of word order. What it says is true of the audio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tta_bench.data.events import EVENT_CLASSES, EventClass
from tta_bench.data.scene import Event, Scene

_SOFT, _LOUD = ("soft", "quiet", "faint"), ("loud", "strong")
_LOW, _HIGH = ("low", "low-pitched", "deep"), ("high", "high-pitched")
_ADVERBS = {"soft": "softly", "quiet": "quietly", "faint": "faintly", "loud": "loudly", "slow": "slowly", "fast": "quickly", "rapid": "rapidly"}

_PAIR = {"clause": ("{a:clause} while {b:clause}", "{a:clause} as {b:clause}"),
         "noun": ("{a:noun} together with {b:noun}", "{a:noun} and {b:noun} at the same time", "{a:noun} over {b:noun}")}  # fmt: skip
_PAIR_ALONE = (*_PAIR["clause"], *_PAIR["noun"], "while {a:clause}, {b:clause}")  # the last would take in a group that follows
_TWO = ("{a:clause}, then {b:clause}", "{a:noun} followed by {b:noun}", "{b:noun} after {a:noun}", "first {a:noun}, then {b:noun}",
        "{a:clause} before {b:clause}", "{a:clause} and then {b:clause}")  # fmt: skip
_THREE = ("{a:clause}, then {b:clause}, then {c:clause}", "first {a:noun}, then {b:noun} and finally {c:noun}",
          "{a:noun} followed by {b:noun} and then {c:noun}")  # fmt: skip
_TWO_GROUPS = (("clause", "{a}, then {b}"), ("noun", "{a}, then {b}"), ("noun", "{a}, followed by {b}"), ("noun", "first {a}, and then {b}"))


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of the captions of `scene`, drawn by rng."""
    if all(len(group) == 1 for group in scene.groups):
        text = _singles(scene.events, rng)
    elif len(scene.groups) == 1:
        text = _pair(scene.groups[0], _PAIR_ALONE, rng)
    else:
        form, template = _TWO_GROUPS[int(rng.integers(len(_TWO_GROUPS)))]
        first, second = (_group(group, form, rng) for group in scene.groups)
        text = template.format(a=first, b=second)
    return text[:1].upper() + text[1:]


def _singles(events: Sequence[Event], rng: np.random.Generator) -> str:
    phrases = [_Phrase(event, rng) for event in events]
    if len(phrases) == 1:
        return format(phrases[0], _choose(("clause", "noun"), rng))
    template = _choose(_TWO if len(phrases) == 2 else _THREE, rng)
    return template.format(**dict(zip("abc", phrases, strict=False)))


def _group(group: Sequence[Event], form: str, rng: np.random.Generator) -> str:
    return format(_Phrase(group[0], rng), form) if len(group) == 1 else _pair(group, _PAIR[form], rng)


def _pair(group: Sequence[Event], templates: Sequence[str], rng: np.random.Generator) -> str:
    """Two events that sound together, in either order."""
    first, second = (group[i] for i in rng.permutation(2))
    return _choose(templates, rng).format(a=_Phrase(first, rng), b=_Phrase(second, rng))


class _Phrase:
    """An event in words: `format(phrase, "noun")` is "a loud high siren", `format(phrase, "clause")` "a high siren wails loudly"."""

    def __init__(self, event: Event, rng: np.random.Generator) -> None:
        self.event, self.kind, self.rng = event, EVENT_CLASSES[event.name], rng

    def __format__(self, form: str) -> str:
        words = _attributes(self.event, self.kind, self.rng)
        name = _choose(self.kind.names, self.rng)
        if form == "noun":
            return _with_article([*words, name], self.kind.bare)
        adverbs = [word for word in words if word in _ADVERBS and self.rng.random() < 0.5][:1]
        adjectives = [word for word in words if word not in adverbs]
        return " ".join(
            [_with_article([*adjectives, name], self.kind.bare), _choose(self.kind.verbs, self.rng), *(_ADVERBS[word] for word in adverbs)]
        )


def _attributes(event: Event, kind: EventClass, rng: np.random.Generator) -> list[str]:
    """Adjectives of what is out of the ordinary, in a drawn order."""
    words = []
    for level, (less, more) in ((event.loudness, (_SOFT, _LOUD)), (event.pitch, (_LOW, _HIGH)), (event.rate, kind.paces)):
        if level:
            words.append(_choose(more if level > 0 else less, rng))
    return [words[i] for i in rng.permutation(len(words))]


def _with_article(words: list[str], bare: bool) -> str:
    text = " ".join(words)
    return text if bare else f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _choose(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
