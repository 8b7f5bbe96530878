"""Memory of the process that embeds clips with the large networks, at their full size, on two threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.unit.embedders.published import clap_file, clap_network, panns_file, roberta_files
from tta_bench.audio import write_audio

NAMES = ("panns-cnn14-16k", "clap-laion")
MOST_GIB = 4e9 / 2**30
CODE = """
import resource, sys
from pathlib import Path
from tta_bench.data.manifest import scan_folder
from tta_bench.embedders.load import load_embedder
from tta_bench.harness.features import EmbedOptions, embed_clips
from tta_bench.harness.progress import silent
from tta_bench.harness.store import FeatureCache
spec, folder = sys.argv[1:]
clips = scan_folder(Path(folder), "--generated", (".flac",))
found = embed_clips(clips, [load_embedder(spec)], FeatureCache(Path("cache")), EmbedOptions(False, 16, silent, "embedding"))
assert found.embedded == len(clips)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def peak_gib(name: str, clips: int, folder: Path) -> float:
    """Largest resident memory, GiB, of a process that embeds `clips` clips of 10 s under `evaluate`'s default batch of 16."""
    rng = np.random.default_rng(0)
    for i in range(clips):
        write_audio(folder / "audio" / f"{i:04d}.flac", 0.1 * rng.standard_normal(160_000).clip(-3, 3), 16_000)
    weights = folder / "weights.pt"
    if name == "clap-laion":
        pytest.importorskip("transformers")
        clap_file(weights, clap_network(roberta_files(folder), width=128, depths=(2, 2, 12, 2), text_layers=12))
    else:
        panns_file(weights, name)
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", CODE, f"{name}:{weights}", str(folder / "audio")]
    return float(subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_stays_under_4_gb(tmp_path: Path, name: str) -> None:
    assert 0.5 < peak_gib(name, 40, tmp_path) < MOST_GIB
