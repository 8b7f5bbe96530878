from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from tta_bench.errors import MetricError
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.score import mean_score
from tta_bench.metrics.suite import METRICS, MetricSpec

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
STORED = json.loads((GOLDEN / "metrics.json").read_text())


def _made() -> dict[str, dict[str, float]]:
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.golden_values())


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, float]]:
    return _made()


@pytest.mark.parametrize("name", METRICS)
def test_golden_values(made: dict[str, dict[str, float]], name: str) -> None:
    assert STORED["metric_versions"][name] == METRICS[name].version, "run tests/golden/make.py with a new metric version"
    for field, value in STORED["values"][name].items():
        assert made[name][field] == pytest.approx(value, rel=STORED["rtol"], abs=1e-12), field


def test_defaults_and_names() -> None:
    assert [name for name, spec in METRICS.items() if spec.default] == ["fad", "kad", "kl", "is", "clap"]
    assert len({spec.protocol for spec in METRICS.values()}) == len(METRICS)


def test_pooling_is_part_of_the_protocol(rng: np.random.Generator) -> None:
    ids = [f"{i}" for i in range(30)]
    x, y = (ClipRows.of(ids, list(rng.standard_normal((30, 4, 3)) + shift)) for shift in (0.0, 0.4))
    assert METRICS["fad"].score(x, y).value != METRICS["fad_clip"].score(x, y).value
    assert METRICS["fad_clip"].score(x, y).value == METRICS["fad"].score(x.pooled(), y.pooled()).value
    assert METRICS["fad"].score(x, y).n == 30


def test_a_score_that_is_not_finite_is_an_error_with_a_status() -> None:
    class Broken:
        def __init__(self, **sides: ClipRows) -> None:
            pass

        def compute(self) -> object:
            return mean_score(["a", "b"], np.array([np.nan, 1.0]))

    spec = MetricSpec("broken", "broken", Broken, "embeddings", "nothing", "lower")  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="broken came out as nan") as caught:
        spec.score(ClipRows(), ClipRows())
    assert caught.value.status == "not_finite"
