"""Numbers that the published tools' own functions returned for seeded inputs, beside the repository; see its expected.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tta_bench.metrics.alignment import clap_score
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.divergence import kl_divergence
from tta_bench.metrics.frechet import frechet_distance
from tta_bench.metrics.inception import inception_score
from tta_bench.metrics.kernel import KernelInceptionDistance, kernel_distance, median_bandwidth
from tta_bench.metrics.neighbours import neighbour_score

pytestmark = pytest.mark.shared


@pytest.fixture
def inputs(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "parity" / "inputs.npz"))


@pytest.fixture
def expected(shared: Path) -> dict[str, Any]:
    return dict(json.loads((shared / "parity" / "expected.json").read_text()))


def test_frechet(inputs: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    exact = expected["exact float64 Frechet (nuclear norm)"]
    assert frechet_distance(inputs["feat_ref"], inputs["feat_gen"]) == pytest.approx(exact["feat"], rel=1e-9) == pytest.approx(12.9232380166)
    low_rank = frechet_distance(inputs["feat_ref_lowrank"], inputs["feat_gen_lowrank"])
    assert low_rank == pytest.approx(exact["lowrank"], rel=1e-9) == pytest.approx(31.9499954198)
    tools = {expected["audioldm_eval.fid(feat_gen,feat_ref)"]["frechet_distance"], expected["fadtk.calc_frechet_distance"]["v"]}
    assert all(frechet_distance(inputs["feat_ref"], inputs["feat_gen"]) == pytest.approx(value, rel=1e-8) for value in tools)


@pytest.mark.parametrize(
    ("protocol", "key", "field"),
    [
        ("kl_softmax", "exact float64 KL(ref||gen) softmax eps=0", "v"),
        ("kl_softmax", "av_bench.kl(no eps)", "kl_softmax"),
        ("kl_audioldm", "audioldm_eval.kl", "kullback_leibler_divergence_softmax"),
        ("kl_sigmoid", "audioldm_eval.kl", "kullback_leibler_divergence_sigmoid"),
        ("kl_reverse", "stable_audio_metrics.passt_kld = KL(eval||ref)", "v"),
    ],
)
def test_kl(inputs: dict[str, np.ndarray], expected: dict[str, Any], protocol: str, key: str, field: str) -> None:
    value = kl_divergence(inputs["logits_ref"], inputs["logits_gen"], protocol)
    assert value == pytest.approx(expected[key][field], abs=1e-5)


@pytest.mark.parametrize(("splits", "key"), [(10, "audioldm_eval.isc(splits=10,shuffle,seed2020)"), (1, "audioldm_eval.isc(splits=1,noshuffle)")])
def test_inception(inputs: dict[str, np.ndarray], expected: dict[str, Any], splits: int, key: str) -> None:
    mean, std = inception_score(inputs["logits_gen"], splits)
    assert mean == pytest.approx(expected[key]["inception_score_mean"], abs=1e-9)
    assert std == pytest.approx(expected[key]["inception_score_std"], abs=1e-9)


def test_kad(inputs: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    documented = expected["kadtk.kad documented (bandwidth from reference)"]
    assert median_bandwidth(inputs["feat_ref"]) == pytest.approx(documented["bandwidth"], rel=1e-6)
    assert kernel_distance(inputs["feat_ref"], inputs["feat_gen"]) == pytest.approx(documented["gaussian"], abs=1e-5)
    as_run = expected["kadtk.kad HEAD (bandwidth from eval)"]
    assert kernel_distance(inputs["feat_ref"], inputs["feat_gen"], as_run["bandwidth"]) == pytest.approx(as_run["gaussian"], abs=1e-4)


@pytest.mark.parametrize(
    ("size", "key"), [(50, "torch_fidelity.kid(subsets=100,size=50,poly3)"), (180, "audioldm_eval.kid(subsets=100,size=1000->180)")]
)
def test_kid(inputs: dict[str, np.ndarray], expected: dict[str, Any], size: int, key: str) -> None:
    batch = {"reference": ClipRows.of_matrix(inputs["feat_ref"]), "generated": ClipRows.of_matrix(inputs["feat_gen"])}
    score = KernelInceptionDistance.of(**batch, subset_size=size).compute()
    mean, std = (value for name, value in expected[key].items() if name != "src")
    assert score.value == pytest.approx(mean, rel=1e-6, abs=2e-5)
    assert score.details["subset_std"] == pytest.approx(std, rel=1e-5)


def test_neighbours(inputs: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    reference, generated = inputs["feat_ref"], inputs["feat_gen"]
    for key, k, kinds in (
        ("torch_fidelity.prc(k=3) input1=gen", 3, ("precision", "recall")),
        ("sony.prdc(k=5) reference,candidate", 5, ("precision", "recall", "density", "coverage")),
    ):
        for kind in kinds:
            assert neighbour_score(reference, generated, kind, k) == pytest.approx(expected[key][kind], abs=1e-7), (key, kind)


def test_clap(inputs: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    value = clap_score(inputs["text_emb"], inputs["audio_emb"])
    assert value == pytest.approx(expected["clap cosine mean (audiocraft/stable-audio/av_bench)"]["v"], abs=1e-7)
