"""Folders of audio files and lists of captions, checked before any work starts."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tta_bench.errors import InputError


@dataclass(frozen=True)
class ClipFile:
    """clip_id: the path below its folder without the suffix, with "/". path: the audio file."""

    clip_id: str
    path: Path


def scan_folder(folder: Path, what: str, suffixes: Sequence[str]) -> list[ClipFile]:
    """All audio files below `folder` sorted by clip id; hidden files and other suffixes are passed over.

    what: how messages call the folder ("--generated"). Raises InputError where it is missing, not a folder, unreadable, without audio,
    or where two files have the same clip id.
    """
    try:
        if not folder.exists():
            raise InputError(f"{what} {folder}: does not exist; check the path")
        if not folder.is_dir():
            raise InputError(f"{what} {folder}: is a file; name the folder that holds the audio")
        files = [path for path in _walk(folder) if path.suffix.lower() in suffixes and path.is_file()]
        next(folder.iterdir(), None)
    except OSError as error:
        raise InputError(f"{what} {folder}: cannot be listed ({error.strerror}); check its path and permissions") from error
    odd = next((path for path in files if not _is_text(path)), None)
    if odd is not None:
        raise InputError(f"{what} {folder}: the name of {os.fsencode(odd)!r} is not UTF-8; rename the file")
    if not files:
        raise InputError(f"{what} {folder}: holds no audio ({', '.join(suffixes)}); check the path or convert the files")
    clips = sorted((ClipFile(path.relative_to(folder).with_suffix("").as_posix(), path) for path in files), key=lambda clip: clip.clip_id)
    repeated = [clip_id for clip_id, count in Counter(clip.clip_id for clip in clips).items() if count > 1]
    if repeated:
        names = ", ".join(clip.path.name for clip in clips if clip.clip_id == repeated[0])
        raise InputError(f"{what} {folder}: {len(repeated)} clip ids occur twice, e.g. {repeated[0]} ({names}); keep one file of each")
    return clips


def _walk(folder: Path) -> Iterator[Path]:
    """Visible files below a folder; links to folders are followed, each real folder once."""
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from (Path(root) / name for name in files if not name.startswith("."))
        seen.add(real)


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_captions(path: Path, clip_ids: Sequence[str]) -> dict[str, str]:
    """Caption of each of `clip_ids` from a CSV with the columns `caption` and `clip_id` (or `file`, whose suffix is dropped).

    Captions of other clips are passed over. Raises InputError naming file, line or ids for a missing column, an empty caption,
    a clip that is listed twice, or clips without a caption.
    """
    captions: dict[str, str] = {}
    wanted = set(clip_ids)
    for number, clip_id, caption in _caption_rows(path):
        if clip_id not in wanted:
            continue
        if clip_id in captions:
            raise InputError(f"{path}, line {number}: clip {clip_id} is listed twice; keep one caption for each clip")
        if not caption.strip():
            raise InputError(f"{path}, line {number}: the caption of clip {clip_id} is empty; write one or remove the clip")
        captions[clip_id] = caption.strip()
    missing = sorted(wanted - set(captions))
    if missing:
        listed = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise InputError(f"{path}: {len(missing)} of {len(wanted)} clips have no caption: {listed}; add them")
    return captions


def _caption_rows(path: Path) -> list[tuple[int, str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"--captions {path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--captions {path}: is not UTF-8 text; save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = list(reader.fieldnames or [])
        key = next((name for name in ("clip_id", "file") if name in columns), None)
        if key is None or "caption" not in columns:
            found = ", ".join(columns) or "none"
            raise InputError(f"--captions {path}: needs the columns caption and clip_id (or file), found: {found}; name them in its first line")
        return [(reader.line_num, _clip_id(row[key] or "", key), row["caption"] or "") for row in reader]
    except csv.Error as error:
        raise InputError(f"--captions {path}, line {reader.line_num}: is not valid CSV ({error}); correct the line") from error


def _clip_id(value: str, key: str) -> str:
    name = value.rsplit("/", 1)[-1]
    suffix = name.rfind(".")
    return value[: suffix - len(name)] if key == "file" and suffix > 0 else value
