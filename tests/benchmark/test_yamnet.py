"""YAMNet in batches against one file per call, as peers run their networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tta_bench.embedders.protocol import pad_batch
from tta_bench.embedders.yamnet import YamnetEmbedder

pytestmark = pytest.mark.shared


@pytest.mark.parametrize("seconds", [0.96, 5.0])
@pytest.mark.parametrize("batch", [1, 16])
def test_embed_32_clips(benchmark: Any, shared: Path, seconds: float, batch: int) -> None:
    yamnet = YamnetEmbedder(shared / "weights" / "yamnet" / "yamnet.safetensors")
    rng = np.random.default_rng(0)
    clips = [0.1 * rng.standard_normal(round(16_000 * seconds)).astype(np.float32) for _ in range(32)]

    def run() -> int:
        return sum(len(yamnet.embed(*pad_batch(clips[i : i + batch])).embeddings) for i in range(0, 32, batch))

    benchmark.extra_info["threads"] = torch.get_num_threads()
    assert benchmark.pedantic(run, rounds=5, warmup_rounds=1) == 32
