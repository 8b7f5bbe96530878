"""What a caption in SynthCaps' words says: which events sound, and in which order. Read from the words alone, so it works for any caption of them."""

from __future__ import annotations

import re
from itertools import pairwise

from tta_bench.data.events import EVENT_CLASSES

_CLASS_OF = {name: kind.name for kind in EVENT_CLASSES.values() for name in kind.names}
_LONGEST_FIRST = sorted(_CLASS_OF, key=len, reverse=True)  # "telephone bell" is no bell
_MENTION = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, _LONGEST_FIRST))})(?![\w-])")
_THEN = re.compile(r"\b(?:then|followed by|before|finally|after (?:which|that)|afterwards)\b")
_AFTER = re.compile(r"\bafter\b")
_TOGETHER = re.compile(r"\b(?:while|as|together with|with|over|and|at the same time)\b")


def event_groups(caption: str) -> tuple[tuple[str, ...], ...]:
    """Classes (keys of EVENT_CLASSES) in the order in which they are to sound; those of a group sound together, sorted by name.

    A class counts where it is first mentioned; mentions that no word joins follow one another. Empty for a caption without a known event.
    """
    text = " ".join(caption.lower().split())
    mentions = list(_MENTION.finditer(text))
    if not mentions:
        return ()
    names = [_CLASS_OF[mention[0]] for mention in mentions]
    joints = [_joint(text[a.end() : b.start()]) for a, b in pairwise(mentions)]
    if joints and joints[0] == "":
        joints[0] = _opening(text[: mentions[0].start()])
    groups, last, seen = [[names[0]]], 0, {names[0]}
    for name, joint in zip(names[1:], joints, strict=True):
        if name in seen:
            continue
        seen.add(name)
        if joint == "together":
            groups[last].append(name)
        else:
            last = last if joint == "after" else len(groups)
            groups.insert(last, [name])
    return tuple(tuple(sorted(group)) for group in groups)


def events_of(caption: str) -> tuple[str, ...]:
    """The same as one sequence."""
    return tuple(name for group in event_groups(caption) for name in group)


def _joint(words: str) -> str:
    """How what follows `words` stands to what goes before: "then", "after" (it sounds earlier), "together", or "" where they do not say."""
    if _THEN.search(words):
        return "then"
    if _AFTER.search(words):
        return "after"
    return "together" if _TOGETHER.search(words) else ""


def _opening(words: str) -> str:
    """The same where a clause opens the sentence: "while A, B", "after A, B", "before A, B"."""
    return {"while": "together", "as": "together", "before": "after"}.get(words.partition(" ")[0], "then")
