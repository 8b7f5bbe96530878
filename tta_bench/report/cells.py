"""Pieces of the page: heads and cells of its tables, rows of plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from matplotlib.figure import Figure

from tta_bench.report import figures
from tta_bench.report.results import Column


def head(label: str, text: bool = False, title: str = "") -> dict[str, Any]:
    """Of a column. text: whether its cells are words."""
    return {"label": label, "text": text, "title": title}


def cell(text: str, value: float | None, half: str = "", kind: str = "", title: str = "") -> dict[str, Any]:
    """text: shown, `half` behind it; value: what sorting goes by."""
    return {"text": text, "sort": "" if value is None else f"{value:.8g}", "half": half, "kind": kind, "title": title}


def plots(columns: Iterable[Column], draw: Callable[[Column], Figure], prefix: str, against: str) -> list[dict[str, str]]:
    """One plot for each column. prefix: of ids and file names."""
    drawn = []
    for i, column in enumerate(columns):
        text = f"{column.label} against {against}"
        drawn.append({"svg": figures.svg(draw(column), f"{prefix}{i}", text), "caption": text, "name": f"{prefix}-{column.metric}-{column.embedder}"})
    return drawn
