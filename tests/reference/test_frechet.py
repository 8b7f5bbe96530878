"""Our Frechet distance against frechet_audio_distance's, on features and on folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frechet_audio_distance import FrechetAudioDistance

from tests.reference.conftest import write_clips
from tta_bench.audio import resample
from tta_bench.config import EvaluateConfig
from tta_bench.embedders.vggish import VggishEmbedder
from tta_bench.errors import MetricError
from tta_bench.harness.evaluate import evaluate
from tta_bench.harness.reference_networks import FadNetwork
from tta_bench.harness.reference_packages import load_packages
from tta_bench.harness.reference_weights import find_network, staged
from tta_bench.metrics.frechet import frechet_distance


@pytest.fixture(scope="module")
def package(hub: Path) -> Any:
    return FrechetAudioDistance(ckpt_dir=str(hub), model_name="vggish")


@pytest.mark.parametrize(("n", "m", "dim"), [(400, 380, 128), (150, 900, 128), (900, 700, 512)])
def test_on_features(package: Any, rng: np.random.Generator, n: int, m: int, dim: int) -> None:
    mixing = rng.standard_normal((dim, dim)) / dim**0.5
    left = rng.standard_normal((n, dim)) @ mixing
    right = rng.standard_normal((m, dim)) @ (1.1 * mixing) + rng.uniform(-0.3, 0.3, dim)
    theirs = package.calculate_frechet_distance(*package.calculate_embd_statistics(left), *package.calculate_embd_statistics(right))
    assert frechet_distance(left, right) == pytest.approx(theirs, rel=1e-6)


def test_on_folders(package: Any, hub: Path, clips: dict[str, np.ndarray], tmp_path: Path) -> None:
    """At 16 kHz, since the package's resampler is another. Of fewer rows than dimensions the package's root of a singular product is less exact."""
    low = {name: resample(samples, 48_000, 16_000) for name, samples in clips.items()}
    write_clips(tmp_path / "reference", low, rate=16_000)
    write_clips(tmp_path / "generated", low, noise=0.05, rate=16_000)
    theirs = package.score(str(tmp_path / "reference"), str(tmp_path / "generated"))
    assert theirs > 1
    settings = EvaluateConfig(generated=tmp_path / "generated", reference=tmp_path / "reference", metric=("fad",), out=tmp_path / "run")
    ours = evaluate(settings, [VggishEmbedder(hub / "checkpoints" / "vggish-10086976.pth")])
    assert ours.records[0].value == pytest.approx(theirs, rel=1e-6)


def test_no_distance_is_an_error_and_never_a_number(hub: Path, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((300, 128))
    network = find_network(f"vggish:{hub}")
    with staged(network) as there:
        fad = FadNetwork(load_packages(), network, there, "cpu")
    assert fad.distance(rows[:150], rows[150:]) == (pytest.approx(frechet_distance(rows[:150], rows[150:]), rel=1e-6), False)
    with pytest.raises(MetricError, match="the generated set has 1; add clips"):
        fad.distance(rows, rows[:1])
    with pytest.raises(MetricError, match=r"no distance|came out as") as caught:
        fad.distance(rows, np.full((150, 128), np.inf))
    assert caught.value.status == "not_finite"
