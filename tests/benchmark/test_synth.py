"""SynthCaps: 100 clips rendered, and 100 written as a folder, on one core."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from tta_bench.data.synth import synth_clip
from tta_bench.harness.synth_set import SynthSet, write_synth_set

CLIPS = 100


def test_render_clips(benchmark: Any) -> None:
    clips = benchmark.pedantic(lambda: [synth_clip(0, "train", i) for i in range(CLIPS)], rounds=3, warmup_rounds=1)
    assert len(clips) == CLIPS


def test_write_a_folder(benchmark: Any, tmp_path: Path) -> None:
    number = itertools.count()
    benchmark.pedantic(lambda: write_synth_set(SynthSet(out=tmp_path / str(next(number)), n=CLIPS)), rounds=3)
    assert len(list((tmp_path / "0").glob("*.flac"))) == CLIPS
