"""Standard output. Apart from `terminal`, because `doctor` must speak where numpy or torch do not load."""

from __future__ import annotations

from rich.console import Console

_WIDTH_OF_A_FILE = 160


def console() -> Console:
    """Standard output; wide enough for the table where it is not a terminal."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=_WIDTH_OF_A_FILE)
