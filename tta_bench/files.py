"""Writing files so that a crash, a full disk or a second process never leaves half of one, and naming content by its hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tta_bench.errors import InputError, StorageError


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` only once it is whole: temporary name, sync, rename.

    Raises StorageError naming the file where it cannot be written (disk full, read-only, no permission); nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, flag: str) -> Iterator[None]:
    """Keep other processes out of `folder` meanwhile; the system lets go of the lock when the process ends, however it ends.

    Raises InputError where another process holds it (naming `flag`, by which another folder is chosen), or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(f"{folder}: another process is at work in this folder; wait until it is done, or choose another by {flag}") from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def cannot_write(path: Path, error: OSError) -> StorageError:
    """The error that a person reads where `path` cannot be written."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return StorageError(f"{path}: cannot be written (a file is where a folder must be); choose another folder")
    return StorageError(f"{path}: cannot be written ({error.strerror or error}); choose another folder or make room")


def write_text(path: Path, text: str) -> None:
    """`text` as UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(parts: Iterable[Any]) -> str:
    """Hex SHA-256 of JSON-able parts in their order, each on a line: the fingerprint of a configuration or of a set."""
    state = hashlib.sha256()
    for part in parts:
        state.update(json.dumps(part, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return state.hexdigest()
