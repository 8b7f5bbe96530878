"""Whether a report is up to date; without loading what would render it."""

from __future__ import annotations

from pathlib import Path

from tta_bench.files import digest, sha256_file

_INPUTS = ("plan.json", "records.jsonl", "timing.json", "failures.json", "clipped.json", "systems.json", "config.toml", "environment.json")


def is_fresh(folder: Path) -> bool:
    """Whether folder/report was rendered from what the run holds now, by this code."""
    try:
        return (folder / "report" / "made-from.txt").read_text(encoding="utf-8").strip() == made_from(folder)
    except (OSError, UnicodeDecodeError):
        return False


def made_from(folder: Path) -> str:
    """Fingerprint of what a report is rendered from: this code and the run's files."""
    code = sorted(Path(__file__).parent.rglob("*.[jp]*"))
    inputs = [folder / name for name in _INPUTS if (folder / name).exists()]
    return digest([path.name, sha256_file(path)] for path in (*code, *inputs) if path.is_file())
