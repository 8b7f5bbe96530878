"""Whether a finished run and what it was made from are as they were left: then nothing is to be done, and nothing of what would do it is loaded.

A file counts as unchanged while its size and its times of modification and change are what they were, as for git or make; whenever one is not,
the sweep itself looks at the content of everything.
"""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tta_bench.errors import StorageError
from tta_bench.files import digest, write_text
from tta_bench.harness.environment import environment_id

STAMP = "finished.json"
_NOT_LOOKED_AT = (STAMP, ".lock", "report")  # the report says itself what it was made from
_CLOCK_NS = 50_000_000  # file systems read a clock that ticks less often


def default_folder(name: str, quick: bool) -> str:
    """Where the run of configuration `name` goes if nothing else is said."""
    return str(Path("runs") / (f"{name}-quick" if quick else name))


def request_key(values: Mapping[str, Any], quick: bool) -> str:
    """Fingerprint of what a command asked for: keys of its configuration, and the folder that their paths start from."""
    return digest([repr(values), quick, str(Path.cwd()), platform.node(), environment_id()])


def write_stamp(run: Path, request: str, inputs: Iterable[Path], started_ns: int) -> None:
    """Note that `request` is done, in full. inputs: files and folders outside the run that it was made from; if one was touched after `started_ns`
    (time.time_ns), nothing tells which content was read, and nothing is noted, as where something cannot be looked at: the stamp only saves time.
    """
    paths = [str(path.absolute()) for path in dict.fromkeys(inputs)]
    (run / STAMP).unlink(missing_ok=True)
    with contextlib.suppress(OSError, StorageError):
        if all(max(facts[2:]) < started_ns - _CLOCK_NS for path in paths for facts in _facts(Path(path), run.absolute())):
            write_text(run / STAMP, json.dumps({"request": request, "inputs": paths, "state": _state(run, paths)}, indent=1) + "\n")


def is_as_left(run: Path, request: str) -> bool:
    """Whether `request` was done in full and neither the run nor its inputs were touched since."""
    try:
        noted = json.loads((run / STAMP).read_text(encoding="utf-8"))
        return bool(noted["request"] == request and noted["state"] == _state(run, noted["inputs"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _state(run: Path, inputs: Iterable[str]) -> str:
    """Fingerprint of names, sizes and times. Raises OSError for an input that is gone."""
    mine = (path for path in sorted(run.iterdir()) if path.name not in _NOT_LOOKED_AT and not path.name.startswith(f".{STAMP}"))
    theirs = (facts for path in inputs for facts in _facts(Path(path), run.absolute()))
    return digest([*(facts for path in mine for facts in _facts(path)), *theirs])


def _facts(path: Path, besides: Path | None = None) -> Iterator[list[Any]]:
    """Path, size, times of a file, or of all files below a folder; without what lies in `besides`."""
    if path.is_dir():
        for part in sorted(path.iterdir()):
            if part != besides:
                yield from _facts(part, besides)
    else:
        found = path.stat() if path.exists() else path.lstat()  # of a link that leads nowhere
        yield [str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns]
