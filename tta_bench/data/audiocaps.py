"""AudioCaps' test lists: published numbers are of three subsets of its test split, each with one caption for each clip.

964 clips (audioldm_eval), 886 of them (Tango), 882 of these (ConsistencyTTA), as the authors' repositories list them. One table of all three:
the start times, which audioldm_eval's list lacks, are AudioCaps' own.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tta_bench.data.table import first_five, found, read_rows
from tta_bench.errors import InputError
from tta_bench.files import write_text

LISTS = {"audioldm_eval": 964, "tango": 886, "consistencytta": 882}
_KEYS = (("wav", "caption"), ("location", "captions"))  # audioldm_eval's; Tango's and ConsistencyTTA's


def write_test_lists(test_csv: Path, lists: Mapping[str, Path], out: Path) -> dict[str, int]:
    """Write a manifest of the clips in any of `lists` (name -> the published JSON file) and how many clips each has.

    test_csv: AudioCaps' own test.csv. Columns of `out`: youtube_id, start_time, caption, and for each list 1 or 0. Raises InputError
    naming the file for one that cannot be used, a clip that is not AudioCaps', or one for which two lists have different captions.
    """
    starts = _starts(test_csv)
    captions: dict[str, str] = {}
    members: dict[str, set[str]] = {}
    for name, path in lists.items():
        listed = _listed(path, starts)
        members[name] = set(listed)
        odd = sorted(video for video, caption in listed.items() if captions.setdefault(video, caption) != caption)
        if odd:
            raise InputError(f"{path}: {len(odd)} clips have another caption than in the other lists: {first_five(odd)}; is this the published file?")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["youtube_id", "start_time", "caption", *members])
    for video in (video for video in starts if video in captions):
        writer.writerow([video, starts[video], captions[video], *(int(video in listed) for listed in members.values())])
    write_text(out, text.getvalue())
    return {name: len(listed) for name, listed in members.items()}


def _starts(path: Path) -> dict[str, str]:
    """Start time of each clip in the order of AudioCaps' file, which has five lines for each."""
    columns, rows = read_rows(path, "test split")
    if not {"youtube_id", "start_time", "caption"} <= set(columns):
        raise InputError(f"test split {path}: needs the columns youtube_id, start_time and caption, {found(columns)}; give AudioCaps' own test.csv")
    return {row.need("youtube_id"): row.need("start_time") for row in rows}


def _listed(path: Path, starts: Mapping[str, str]) -> dict[str, str]:
    """Caption of each clip of a published list."""
    listed: dict[str, str] = {}
    for item in _items(path):
        keys = next((keys for keys in _KEYS if all(isinstance(item.get(key), str) for key in keys)), None)
        if keys is None:
            raise InputError(f"{path}: an entry has neither wav and caption nor location and captions; give the list as it is published")
        stem = Path(item[keys[0]]).stem
        video = next((name for name in (stem.removeprefix("Y"), stem.rpartition("_")[0], stem) if name in starts), None)
        if video is None:
            raise InputError(f"{path}: {stem} is no clip of AudioCaps' test split; give the list as it is published, and AudioCaps' own test.csv")
        if video in listed:
            raise InputError(f"{path}: {video} is listed twice; give the list as it is published")
        listed[video] = item[keys[1]].strip()
    if not listed:
        raise InputError(f"{path}: lists no clips; give the list as it is published")
    return listed


def _items(path: Path) -> Iterator[dict[str, Any]]:
    """Entries of {"data": [...]}, or of one object a line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; give the list as it is published") from error
    try:
        try:
            whole = json.loads(text)
            items = whole["data"] if isinstance(whole, dict) and "data" in whole else [whole]
        except ValueError:
            items = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error}); give the list as it is published") from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{path}: holds no list of clips; give the list as it is published")
    yield from items
