"""Memory of embedding a thousand clips of 10 s: what `tests/system/test_memory.py` asserts for a few batches does not grow with more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.system.test_memory import MOST_GIB, NAMES, peak_gib


@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_clips(benchmark: Any, tmp_path: Path, name: str) -> None:
    peak = benchmark.pedantic(lambda: peak_gib(name, 1000, tmp_path), rounds=1, iterations=1)
    benchmark.extra_info["peak_gib"] = peak
    assert peak < MOST_GIB
