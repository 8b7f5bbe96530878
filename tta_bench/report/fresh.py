"""Whether a report is up to date; without loading what would render it."""

from __future__ import annotations

import json
from pathlib import Path

from tta_bench.files import digest, sha256_file, write_text

_INPUTS = (
    "plan.json", "records.jsonl", "timing.json", "failures.json", "clipped.json", "lengths.json", "systems.json", "config.toml", "environment.json",
)  # fmt: skip
_NOTE = "made-from.json"


def is_fresh(folder: Path) -> bool:
    """Whether folder/report was rendered from what the run holds now, by this code, and is as it was rendered."""
    try:
        noted = json.loads((folder / "report" / _NOTE).read_text(encoding="utf-8"))
        return bool(noted == {"made_from": made_from(folder), "files": _files(folder / "report")})
    except (OSError, ValueError):
        return False


def note_rendered(folder: Path) -> None:
    """Note of what folder/report was made, and which files it has."""
    report = folder / "report"
    write_text(report / _NOTE, json.dumps({"made_from": made_from(folder), "files": _files(report)}, indent=1) + "\n")


def _files(report: Path) -> dict[str, int]:
    """Sizes by name."""
    paths = (path for path in sorted(report.rglob("*")) if path.is_file() and path.name != _NOTE)
    return {path.relative_to(report).as_posix(): path.stat().st_size for path in paths}


def made_from(folder: Path) -> str:
    """Fingerprint of what a report is rendered from: this code and the run's files."""
    code = sorted(Path(__file__).parent.rglob("*"))
    inputs = [folder / name for name in _INPUTS if (folder / name).exists()]
    return digest([path.name, sha256_file(path)] for path in (*code, *inputs) if path.is_file() and path.suffix != ".pyc")
