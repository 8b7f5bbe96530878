"""`evaluate` end to end on five-second clips: time for 300, and peak memory while their number grows tenfold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tta_bench.audio import write_audio

# Peak of anonymous memory, sampled by a thread: pages of memory-mapped features are the system's to drop and do not count.
MEASURE = """
import json, sys, threading, time
import tta_bench
peak, stop = 0, threading.Event()
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))
def watch():
    global peak
    while not stop.wait(0.02):
        peak = max(peak, anonymous())
threading.Thread(target=watch, daemon=True).start()
generated, reference, embedder, out = sys.argv[1:]
start = time.perf_counter()
result = tta_bench.evaluate(generated, reference, embedders=[embedder], out=out)
seconds = time.perf_counter() - start
stop.set()
print(json.dumps({"seconds": seconds, "peak_mib": peak / 1024, "n": result.records[0].n, "statuses": [r.status for r in result.records]}))
"""


def _folder(path: Path, clips: int, seed: int) -> Path:
    for i in range(clips):
        rng = np.random.default_rng([seed, i])
        tone = np.sin(2 * np.pi * rng.uniform(100, 4000) * np.arange(80_000) / 16_000 + 5 * np.cumsum(rng.standard_normal(80_000)) / 400)
        write_audio(path / f"{i:05d}.flac", 0.2 * tone + 0.05 * rng.standard_normal(80_000), 16_000)
    return path


def _measure(folder: Path, clips: int, embedder: str) -> dict[str, Any]:
    sides = [_folder(folder / f"{side}{clips}", clips, seed) for seed, side in enumerate(("generated", "reference"))]
    arguments = [*map(str, sides), embedder, str(folder / f"run{clips}")]
    result = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout))


@pytest.mark.shared
def test_300_clips_with_yamnet(benchmark: Any, tmp_path: Path, shared: Path) -> None:
    """Both folders hold 150 clips of 5 s; nothing is cached."""
    embedder = f"yamnet:{shared / 'weights' / 'yamnet' / 'yamnet.safetensors'}"
    measured = benchmark.pedantic(_measure, args=(tmp_path, 150, embedder), rounds=1)
    benchmark.extra_info.update(measured)
    assert measured["n"] == 150


@pytest.mark.shared
def test_memory_stays_flat_while_clips_grow_tenfold(benchmark: Any, tmp_path: Path, shared: Path) -> None:
    embedder = f"yamnet:{shared / 'weights' / 'yamnet' / 'yamnet.safetensors'}"
    small = _measure(tmp_path, 150, embedder)
    large = benchmark.pedantic(_measure, args=(tmp_path, 1500, embedder), rounds=1)
    benchmark.extra_info.update({"small": small, "large": large, "ratio": large["peak_mib"] / small["peak_mib"]})
    assert large["n"] == 1500
