"""The systems of a run that names none: the networks that ship with the package, both families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tta_bench.diffusion.samplers import SAMPLERS
from tta_bench.diffusion.weighting import WEIGHTINGS
from tta_bench.models.bundle import assets, read_card

_STEPS = (200, 100, 50, 25, 5)
_QUICK_SOLVER_STEPS = (25, 5)
_PATCH_STEPS = (20, 10, 5, 1)  # of DiTAR, in each patch
_QUICK_PATCH_STEPS = (10, 1)
_BATCHES = (1, 2, 4, 8, 16, 32)
_STREAMED = "bsa"  # whose students' time to first audio is taken


def bundle_systems(quick: bool = False) -> list[dict[str, Any]]:
    """Latent diffusion: teacher and guided student with DDIM, teacher with Heun and DPM-Solver++(2M), all students. DiTAR, called "ditar ...":
    teacher, guided student and students with DDIM. `quick`: fewer rows of the slow ones, and no streaming.
    """
    teacher = {"name": "teacher", "network": "teacher"}
    solvers = {**teacher, "steps": _QUICK_SOLVER_STEPS if quick else _STEPS, "samplers": tuple(name for name in SAMPLERS if name != "ddim")}
    ditar = _family("ditar/", _QUICK_PATCH_STEPS if quick else _PATCH_STEPS, quick)
    latent = _family("", _STEPS, quick)
    return [latent[0], solvers, *latent[1:], *ditar]


def _family(folder: str, steps: tuple[int, ...], quick: bool) -> list[dict[str, Any]]:
    """Teacher, guided student and students of a folder of the package's networks."""
    title = folder.replace("/", " ")
    systems: list[dict[str, Any]] = [{"name": f"{title}{name}", "network": f"{folder}{name}", "steps": steps} for name in ("teacher", "guided")]
    students = _students(assets() / folder)
    for weighting in (name for name in WEIGHTINGS if name in students):
        system = {"name": f"{title}{weighting}", "network": f"{folder}student-{weighting}-{{steps}}", "steps": tuple(students[weighting])}
        streamed = {"streaming_batches": _BATCHES} if weighting == _STREAMED and not quick else {}
        systems.append({**system, **streamed})
    return systems


def _students(folder: Path) -> dict[str, list[int]]:
    """Step counts of students, falling, by weighting."""
    found: dict[str, list[int]] = {}
    for path in folder.glob("student-*.json"):
        card = read_card(folder, path.stem)
        found.setdefault(card["weighting"], []).append(card["steps"])
    return {weighting: sorted(counts, reverse=True) for weighting, counts in found.items()}
