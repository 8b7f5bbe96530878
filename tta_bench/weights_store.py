"""The user's own copies of published weights: each converted once to safetensors, with a note of where it came from; only that is used.

`NAME/` in the cache's folder `weights` holds the converted file (or, of text, the files themselves) and `NAME.json`, written last: without
that note the weights are not there.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from tta_bench.download import Expected, Progress, download, hashes, silent
from tta_bench.errors import UntrustedPickle, WeightsError
from tta_bench.files import cannot_write, locked, sha256_file, write_text
from tta_bench.weights import cache_folder
from tta_bench.weights_convert import Readers, convert
from tta_bench.weights_table import TABLE, Entry, Published, entry

_SCHEMA = 1


@dataclass(frozen=True)
class Added:
    """What add and pull did: the weights' path, and what a person should know about it."""

    name: str
    path: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """Whether weights are there. path: what a reader opens. source_sha256: of the files they were made from, by name."""

    entry: Entry
    status: Literal["absent", "there", "damaged"]
    path: Path
    source_sha256: Mapping[str, str]
    official: bool


def store_folder() -> Path:
    """Where the weights are kept: $TTA_BENCH_CACHE/weights, or the user's cache folder."""
    return cache_folder() / "weights"


def find(name: str) -> Path | None:
    """The converted file called `name` (of text weights, their folder), or None where it is not there or not whole."""
    found = state(name)
    return found.path if found.status == "there" else None


def checkpoint(name: str) -> Path:
    """As `find`. Raises WeightsError with the commands that bring the weights where they are absent or damaged."""
    found = state(name)
    if found.status == "absent":
        raise WeightsError(f"{name}: these weights are not here; run `tta-bench weights pull {name}`, or `tta-bench weights add FILE` if you have it")
    if found.status == "damaged":
        raise WeightsError(_damage(found.path, name))
    return found.path


def state(name: str) -> State:
    """What is there of `name`, by its note and the sizes of its files; `verify` reads them whole. Raises WeightsError for an unknown name."""
    wanted = entry(name)
    note = _note(name)
    folder = store_folder() / name
    path = folder if wanted.kind == "text" else folder / f"{name}.safetensors"
    if note is None:
        return State(wanted, "damaged" if _note_path(name).exists() else "absent", path, {}, False)
    whole = all(file.is_file() and file.stat().st_size == item["size"] for file, item in _stored(name, note))
    sources = {file: item["sha256"] for file, item in note["sources"].items()}
    complete = {item.file for item in wanted.files} <= set(sources)
    official = all(sources.get(file.file) == file.sha256 for file in wanted.files)
    return State(wanted, ("there" if complete else "absent") if whole else "damaged", path, sources, official)


def states() -> list[State]:
    """The state of every entry of the table, in its order."""
    return [state(name) for name in TABLE]


def verify(names: Sequence[str] = ()) -> dict[str, Path]:
    """Read the weights called `names` (all that are there, by default) and compare them with their notes; the paths that are as they were.

    Raises WeightsError that names every file which is absent or has changed.
    """
    wanted = [state(name) for name in names] or [found for found in states() if found.status != "absent"]
    problems, paths = [], {}
    for found in wanted:
        name = found.entry.name
        if found.status == "absent":
            problems.append(f"{name}: not here; run `tta-bench weights pull {name}`")
            continue
        note = _note(name)
        bad = (
            [file for file, item in _stored(name, note) if not file.is_file() or sha256_file(file) != item["sha256"]] if note else [_note_path(name)]
        )
        problems.extend(_damage(file, name) for file in bad)
        paths[name] = found.path
    if problems:
        raise WeightsError("; ".join(problems))
    return paths


def add(path: Path, name: str | None = None, trust_pickle: str | None = None, *, sha256: str | None = None, readers: Readers | None = None) -> Added:
    """Take a checkpoint that the user has into the store; the file itself stays as it is.

    name: which weights it is; by default known by its file name or its hash. trust_pickle: see `read_checkpoint`. sha256: the file's own, where
    another than the official file is meant. readers: by kind of file, what reads its tensors. Raises WeightsError where the file is not what
    was published, or differs from the one that is there; the store is then as it was.
    """
    with locked(store_folder(), "$TTA_BENCH_CACHE"):
        return _add(path, name, trust_pickle, sha256, None, readers or {})


def pull(
    name: str,
    address: str | None = None,
    progress: Progress = silent,
    *,
    trust_pickle: str | None = None,
    sha256: str | None = None,
    readers: Readers | None = None,
) -> Added:
    """Fetch weights from where they were published, or from `address` (of a folder, with / at its end, where they are several files), and add them.

    Raises WeightsError and StorageError as `download` and `add` do. A whole file that needs trust is kept, so that it is not fetched twice.
    """
    wanted = entry(name)
    if address is not None and len(wanted.files) > 1 and not address.endswith("/"):
        raise WeightsError(f"{address}: {name} is {len(wanted.files)} files; give the address of their folder, with / at its end")
    if sha256 is not None and len(wanted.files) > 1:
        raise WeightsError(f"{name}: is {len(wanted.files)} files, which one SHA-256 cannot name; download them and add each")
    added = None
    with locked(store_folder(), "$TTA_BENCH_CACHE"):
        for file in wanted.files:
            if _is_needed(name, file, sha256):
                source = file.address if address is None else f"{address}{file.file}" if address.endswith("/") else address
                added = _pull(wanted, file, source, progress, trust_pickle, sha256, readers or {})
    return added or Added(name, checkpoint(name), (f"{name} is here already; `tta-bench weights verify {name}` checks it",))


def remove(name: str) -> bool:
    """Take weights out of the store, the note first; whether there were any. What was downloaded in part goes too."""
    wanted = entry(name)
    with locked(store_folder(), "$TTA_BENCH_CACHE"):
        there = _note_path(name).exists()
        try:
            _note_path(name).unlink(missing_ok=True)
            if (store_folder() / name).exists():
                shutil.rmtree(store_folder() / name)
            for file in wanted.files:
                for leftover in (_downloads() / name).glob(f"{file.file}*"):
                    leftover.unlink()
        except OSError as error:
            raise cannot_write(store_folder() / name, error) from error
    return there


def _is_needed(name: str, file: Published, sha256: str | None) -> bool:
    """Whether the file must be fetched. Raises WeightsError where another one is there than the one that is meant."""
    found = state(name)
    there = found.source_sha256.get(file.file)
    if there is not None and sha256 is not None and there != sha256.lower():
        raise WeightsError(_taken_from(name, there))
    return there is None or found.status == "damaged"


def _taken_from(name: str, sha256: str) -> str:
    return f"{name} was taken from a file with {sha256}; for the other one, run `tta-bench weights remove {name}` first"


def _pull(wanted: Entry, file: Published, source: str, progress: Progress, trust: str | None, sha256: str | None, readers: Readers) -> Added:
    target = _downloads() / wanted.name / file.file
    official = Expected(file.sha256, file.size, file.md5)
    expected = Expected(sha256.lower()) if sha256 else official
    known = expected.sha256 or (trust.lower() if trust else None)
    if not (target.is_file() and known is not None and sha256_file(target) == known):
        download(source, target, expected, progress)
    try:
        added = _add(target, wanted.name, trust, sha256, source, readers)
    except UntrustedPickle as error:
        own = f" --sha256 {sha256}" if sha256 else ""
        raise UntrustedPickle(f"{error} --name {wanted.name}{own}") from error
    except WeightsError:
        target.unlink(missing_ok=True)
        raise
    target.unlink(missing_ok=True)
    return added


def _add(path: Path, name: str | None, trust: str | None, sha256: str | None, source: str | None, readers: Readers) -> Added:
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder; name the file in it")
    try:
        found = hashes(path)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: does not exist; check the path") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    wanted, file = _recognised(path, name, found)
    first_use = _check_identity(path, wanted, file, found, sha256)
    before = state(wanted.name)
    if before.status != "damaged" and before.source_sha256.get(file.file) == found[0]:
        return Added(wanted.name, before.path, (f"{wanted.name}: this very file is here already",))
    if (there := before.source_sha256.get(file.file, found[0])) != found[0]:
        raise WeightsError(f"{path}: has the SHA-256 {found[0]}, but {_taken_from(wanted.name, there)}")
    stored = convert(path, store_folder() / wanted.name, wanted, file, trust, readers)
    note = {"sha256": found[0], "size": path.stat().st_size, "address": source, "file": path.name, "pickle_trusted": trust is not None}
    _write_note(wanted, file, note, stored)
    notes = (f"no official SHA-256 of {file.file} is known: this file's was recorded, {found[0]}; another file will be refused",) if first_use else ()
    missing = sorted({item.file for item in wanted.files} - set(state(wanted.name).source_sha256))
    return Added(wanted.name, before.path, (*notes, *(f"{wanted.name} still needs {file}" for file in missing)))


def _recognised(path: Path, name: str | None, found: tuple[str, str]) -> tuple[Entry, Published]:
    """Which weights, and which of their files: by hash, then by file name."""
    among = [entry(name)] if name else list(TABLE.values())
    pairs = [(item, file) for item in among for file in item.files]
    for item, file in pairs:
        if found[0] == file.sha256 or found[1] == file.md5:
            return item, file
    for item, file in pairs:
        if unquote(path.name) == file.file:
            return item, file
    if name and len(pairs) == 1:
        return pairs[0]
    if name:
        raise WeightsError(f"{path}: which file of {name} is it? Give it its own name: {', '.join(file.file for _, file in pairs)}")
    raise WeightsError(f"{path}: is not known by its name or its hash ({found[0]}); say which weights it is by --name: {', '.join(TABLE)}")


def _check_identity(path: Path, wanted: Entry, file: Published, found: tuple[str, str], sha256: str | None) -> bool:
    """Whether nothing is known to compare the file with, so that its first use is trusted."""
    if sha256 is not None:
        if found[0] != sha256.lower():
            raise WeightsError(f"{path}: has the SHA-256 {found[0]}, not {sha256}; it is another file than the one you mean")
        return False
    for kind, got, official in (("SHA-256", found[0], file.sha256), ("MD5", found[1], file.md5)):
        if official is not None and got != official:
            raise WeightsError(
                f"{path}: has the {kind} {got}, but {file.file} as published has {official}; fetch it again from {file.address}, "
                f"or, if you mean this very file as {wanted.name}: --sha256 {found[0]}"
            )
    return file.sha256 is None and file.md5 is None


def _write_note(wanted: Entry, file: Published, source: dict[str, Any], stored: Mapping[str, Any]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    source = source | {"published_at": file.address, "official": source["sha256"] == file.sha256, "added": now}
    before = (_note(wanted.name) if wanted.kind == "text" else None) or {"sources": {}, "stored": {}}
    note = {
        "schema": _SCHEMA, "name": wanted.name, "licence": wanted.licence,
        "sources": before["sources"] | {file.file: source}, "stored": before["stored"] | dict(stored),
    }  # fmt: skip
    write_text(_note_path(wanted.name), json.dumps(note, indent=1) + "\n")


def _note(name: str) -> dict[str, Any] | None:
    """The note of `name`; None where there is none, or one that cannot be used."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        note = json.loads(_note_path(name).read_text("utf-8"))
        parts = (*note["sources"].values(), *note["stored"].values())
        if note["schema"] == _SCHEMA and note["name"] == name and note["stored"] and all({"sha256", "size"} <= set(part) for part in parts):
            return dict(note)
    return None


def _stored(name: str, note: Mapping[str, Any]) -> list[tuple[Path, Mapping[str, Any]]]:
    """The store's files of `name`; only their last names count, so that no note leads elsewhere."""
    return [(store_folder() / name / os.path.basename(file), item) for file, item in note["stored"].items()]  # noqa: PTH119 - no path of ours


def _note_path(name: str) -> Path:
    return store_folder() / f"{name}.json"


def _downloads() -> Path:
    return store_folder() / "downloads"


def _damage(path: Path, name: str) -> str:
    return f"{path}: is not as it was when it was added; run `tta-bench weights remove {name}`, then pull or add it again"
