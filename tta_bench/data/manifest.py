"""Folders of audio files and lists of captions, checked before any work starts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tta_bench.audio import AUDIO_SUFFIXES
from tta_bench.data.table import Row, chosen, first_five, found, read_rows
from tta_bench.errors import InputError

_MASS_NOUNS = ("rain", "wind", "water", "teeth")  # last words of ESC-50 categories that take no article, besides plurals and -ing


@dataclass(frozen=True)
class ClipFile:
    """clip_id: the path below its folder without the suffix, with "/". path: the audio file."""

    clip_id: str
    path: Path


@dataclass(frozen=True)
class CaptionedClip:
    """path: its audio file. caption: never empty. label: its class, None where the list names none."""

    clip_id: str
    path: Path
    caption: str
    label: str | None = None


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
    columns, rows = read_rows(path, "--captions")
    key = next((name for name in ("clip_id", "file") if name in columns), None)
    if key is None or "caption" not in columns:
        raise InputError(f"--captions {path}: needs the columns caption and clip_id (or file), {found(columns)}; name them in its first line")
    for row in rows:
        clip_id = row.values[key] if key == "clip_id" else _without_suffix(row.values[key])
        if clip_id not in wanted:
            continue
        if clip_id in captions:
            raise InputError(f"{row.where}: clip {clip_id} is listed twice; keep one caption for each clip")
        captions[clip_id] = row.values["caption"].strip()
        if not captions[clip_id]:
            raise InputError(f"{row.where}: the caption of clip {clip_id} is empty; write one or remove the clip")
    missing = sorted(wanted - set(captions))
    if missing:
        raise InputError(f"{path}: {len(missing)} of {len(wanted)} clips have no caption: {first_five(missing)}; add them")
    return captions


def read_manifest(path: Path, folder: Path | None = None, only: str | None = None) -> list[CaptionedClip]:
    """The clips of a CSV sorted by clip id; its columns, others besides being passed over, say which of three layouts it has:

    `file`, `caption`, and where they are there `clip_id` (else the file without its suffix) and `label`: files are relative to `folder`
    (default: the CSV's own) or absolute. `youtube_id`, `start_time`, `caption` and mostly `audiocap_id`: AudioCaps, audio in `folder`
    (default: the CSV's own) called by audiocap_id, youtube_id, "Y" and youtube_id, or youtube_id "_" start_time; each caption of a clip is
    a clip. `filename`, `category`: ESC-50, audio in `folder` (default: `../audio`); where exactly its ESC-10 is there, ESC-10.

    only: the name of a list, a column that marks its clips with 1 (`tta_bench.data.table.chosen`); of other clips nothing needs to be there.
    Raises InputError naming file, line or ids for anything that a training would stumble over, except the content of audio files.
    """
    columns, rows = read_rows(path, "manifest")
    read = next((read for needs, read in _LAYOUTS if set(needs) <= set(columns)), None)
    if read is None:
        known = ", or ".join(" and ".join(needs) for needs, _ in _LAYOUTS)
        raise InputError(f"manifest {path}: needs the columns {known}, {found(columns)}; name them in its first line")
    if not rows:
        raise InputError(f"manifest {path}: lists no clips; add a line for each")
    if only is not None:
        rows = chosen(path, "manifest", columns, rows, only)
    if folder is not None and not _holds(Path.is_dir, folder):
        raise InputError(f"folder {folder}: is not a folder; name the one that holds the audio of {path}")
    clips = read(path, rows, folder)
    odd = [clip.clip_id for clip in clips if _leads_out(clip.clip_id)]
    if odd:
        raise InputError(f"manifest {path}: {len(odd)} clip ids cannot name a file in a folder: {first_five(odd)}; choose others, e.g. without '..'")
    _refuse_repeats(path, "clip ids", (clip.clip_id for clip in clips))
    missing = sorted({str(clip.path) for clip in clips if not _holds(Path.is_file, clip.path)})
    if missing:
        total = len({clip.path for clip in clips})
        advice = "correct the paths, name the folder that holds them, or remove their lines"
        raise InputError(f"manifest {path}: {len(missing)} of {total} audio files do not exist: {first_five(missing)}; {advice}")
    return sorted(clips, key=lambda clip: clip.clip_id)


def _read_files(path: Path, rows: Sequence[Row], folder: Path | None) -> list[CaptionedClip]:
    folder = folder or path.parent
    clips = []
    for row in rows:
        clip_id = row.need("clip_id") if "clip_id" in row.values else _without_suffix(row.need("file")).lstrip("/")
        label = row.values.get("label", "").strip() or None
        clips.append(CaptionedClip(clip_id, _inside(row, "file", folder), row.need("caption"), label))
    _refuse_repeats(path, "audio files", (os.path.normpath(clip.path.absolute()) for clip in clips))
    return clips


def _read_audiocaps(path: Path, rows: Sequence[Row], folder: Path | None) -> list[CaptionedClip]:
    folder = folder or path.parent
    try:
        files = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in AUDIO_SUFFIXES}
    except OSError as error:
        raise InputError(f"folder {folder}: cannot be listed ({error.strerror}); check its path and permissions") from error
    clips = []
    for row in rows:
        video = row.need("youtube_id")
        if "/" in video:
            raise InputError(f"{row.where}: youtube_id {video} is not one; correct it")
        timed = f"{video}_{row.need('start_time')}"
        clip_id = row.need("audiocap_id") if "audiocap_id" in row.values else timed
        file = next((files[stem] for stem in (clip_id, timed, f"Y{video}", video) if stem in files), folder / f"{video}.wav")
        clips.append(CaptionedClip(clip_id, file, row.need("caption")))
    return clips


def _read_esc(path: Path, rows: Sequence[Row], folder: Path | None) -> list[CaptionedClip]:
    folder = folder or path.absolute().parent.parent / "audio"
    clips, subset = [], []
    for row in rows:
        category = row.need("category")
        file = _inside(row, "filename", folder)
        clips.append(CaptionedClip(_without_suffix(row.need("filename")), file, f"the sound of {_with_article(category)}", category))
        if row.values.get("esc10") == "True":
            subset.append(clips[-1])
    return subset if subset and [clip for clip in clips if _holds(Path.is_file, clip.path)] == subset else clips


_LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[Path, Sequence[Row], Path | None], list[CaptionedClip]]], ...] = (
    (("file", "caption"), _read_files),
    (("youtube_id", "start_time", "caption"), _read_audiocaps),
    (("filename", "category"), _read_esc),
)


def _inside(row: Row, column: str, folder: Path) -> Path:
    """`folder` / the value, unless a relative value leads out of it."""
    value = row.need(column)
    if not Path(value).is_absolute() and _leads_out(value):
        raise InputError(f"{row.where}: {column} {value} leads out of {folder}; name a folder that holds all audio, or write absolute paths")
    return folder / value


def _leads_out(value: str) -> bool:
    path = Path(os.path.normpath(value))
    return path.is_absolute() or path.parts[:1] == ("..",)


def _holds(check: Callable[[Path], bool], path: Path) -> bool:
    """Whether it does; not where the path is too long or behind a closed folder."""
    try:
        return check(path)
    except OSError:
        return False


def _refuse_repeats(path: Path, what: str, values: Iterable[str]) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise InputError(f"manifest {path}: {len(repeated)} {what} are listed more than once: {first_five(repeated)}; keep one line of each")


def _with_article(category: str) -> str:
    """ "crying_baby" as "a crying baby", "sea_waves" as "sea waves"."""
    text = category.replace("_", " ")
    bare = text.endswith(("s", "ing")) or text.rsplit(" ", 1)[-1] in _MASS_NOUNS
    return text if bare else f"{'an' if text[0].lower() in 'aeiou' else 'a'} {text}"


def _without_suffix(file: str) -> str:
    name = file.rsplit("/", 1)[-1]
    suffix = name.rfind(".")
    return file[: suffix - len(name)] if suffix > 0 else file
