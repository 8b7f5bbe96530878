"""A diagnosis as tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

import tta_bench
from tta_bench.console import console
from tta_bench.doctor import Ability, Diagnosis, Weights
from tta_bench.doctor_probe import Package

_STYLES = {"ok": "green", "there": "green", "absent": "yellow", "broken": "bold red", "damaged": "bold red"}
_KINDS = {"embedder": "embedders", "metric": "metrics", "system": "systems", "command": "commands"}


def print_diagnosis(found: Diagnosis) -> None:
    """Packages, weights, what can be computed, and what to do."""
    out = console()
    out.print(f"tta-bench {tta_bench.__version__}, Python {found.python}{_torch(found)}", markup=False)
    _packages(out, found)
    if found.weights:
        _weights(out, found.weights)
    if found.abilities:
        _abilities(out, found.abilities)
    _fixes(out, found)
    for problem in found.problems:
        out.print(Text(f"core: {problem}", style="bold red"))
    out.print("the core works" if found.core_works else "the core does not work", markup=False)


def _torch(found: Diagnosis) -> str:
    package = next((item for item in found.packages[""] if item.name == "torch" and item.facts), None)
    if package is None:
        return ""
    devices = package.facts.get("devices") or []
    build = f"CUDA {package.facts['cuda']}" if package.facts.get("cuda") else "CPU build"
    return f", PyTorch {package.version} ({build}; {', '.join(devices) or 'no CUDA device'})"


def _packages(out: Console, found: Diagnosis) -> None:
    """A line for each that an extra asks for; of the core only those that do not work, and how many do."""
    table = Table("packages", "", "version", "state", box=None, pad_edge=False)
    working = [item for item in found.packages[""] if item.status == "ok"]
    table.add_row("core", f"{len(working)} of {len(found.packages[''])}", "", Text("ok", style="green") if working else Text(""))
    for extra, packages in found.packages.items():
        for item in (item for item in packages if extra or item.status != "ok"):
            table.add_row(Text(f"[{extra}]" if extra not in ("", "beside") else extra or "core"), item.name, item.version or "-", _state(item))
    _print(out, table)


def _state(item: Package) -> Text:
    text = Text(item.status, style=_STYLES[item.status])
    return text.append(f": {item.reason}", style="default") if item.reason else text


def _weights(out: Console, weights: Sequence[Weights]) -> None:
    table = Table("weights", "size", "state", "needed by", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for item in weights:
        size = "" if item.size is None else f"{item.size / 1e6:,.0f} MB" if item.size >= 1e7 else f"{item.size / 1e6:.1f} MB"
        table.add_row(item.name, size, Text(item.status, style=_STYLES[item.status]), ", ".join(item.needed_by))
    _print(out, table)


def _abilities(out: Console, abilities: Sequence[Ability]) -> None:
    """By kind: what works, then what does not with what it lacks."""
    out.print()
    out.print("can be computed", style="bold")
    for kind, title in _KINDS.items():
        working = ", ".join(item.name for item in abilities if item.kind == kind and item.ok)
        out.print(Text(f"{title}: ").append(working or "none", style="green" if working else "yellow"))
    lacking = [item for item in abilities if not item.ok]
    if not lacking:
        return
    table = Table("cannot yet", "lacks", box=None, pad_edge=False)
    table.columns[0].overflow = "fold"
    for item in lacking:
        table.add_row(Text(item.name, style="yellow"), Text(_lacks(item)))
    _print(out, table)


def _lacks(item: Ability) -> str:
    extras, others = ([name for name in item.lacks if name.startswith("[") is bracket] for bracket in (True, False))
    what = "weights " if item.kind == "embedder" else ""
    return ", ".join([*extras, *([what + ", ".join(others)] if others else [])])


def _fixes(out: Console, found: Diagnosis) -> None:
    """Commands on lines of their own, never broken, so that they can be copied."""
    if not found.fixes:
        return
    out.print()
    out.print("to mend what is missing", style="bold")
    for fix in found.fixes:
        out.print(Text(f"  {fix.command}"), Text(f"# {fix.mends}", style="dim"), soft_wrap=True)


def _print(out: Console, table: Table) -> None:
    table.header_style = "bold"
    out.print()
    out.print(table)
