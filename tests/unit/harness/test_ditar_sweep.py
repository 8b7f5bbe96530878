"""DiTAR in sweeps: temperatures and stops as rows, evaluations, time to first audio, and what cannot be asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.harness.worlds import save_bundle, save_ditar
from tta_bench.audio import read_audio
from tta_bench.errors import ConfigError
from tta_bench.harness.run_config import RunConfig, resolve_run
from tta_bench.harness.sweep import Sweep, sweep
from tta_bench.models.bundle import load_network, read_card, save_network, write_card
from tta_bench.models.ditar import PatchLM
from tta_bench.report.media import listening_columns
from tta_bench.report.merge import merged
from tta_bench.report.notes import steps_notes
from tta_bench.report.patches import series_along, variants_of
from tta_bench.report.render import render
from tta_bench.report.results import results_of
from tta_bench.report.run_data import RunData, load_run


def config_of(folder: Path, **changes: Any) -> RunConfig:
    bundle = str(folder / "bundle")
    systems = [
        {"name": "teacher", "network": "teacher", "bundle": bundle, "steps": [4], "streaming_batches": [2]},
        {"name": "ditar", "network": "ditar/teacher", "bundle": bundle, "steps": [4], "temperatures": [1.0, 0.5, 0.0], "stop": False},
        {"name": "ditar guided", "network": "ditar/guided", "bundle": bundle, "steps": [2], "samplers": ["heun"], "streaming_batches": [1, 3]},
    ]
    values = {
        "out": str(folder / "run"),
        "systems": systems,
        "clips": {"n": 6},
        "seeds": [0, 1],
        "timing_repeats": 2,
        "batch_size": 4,
        "anchors": False,
    }
    return resolve_run({**values, "metrics": ["fad", "kad", "diversity", "fidelity_mel"], **changes}, "test", "test")


def save_with_stop(folder: Path, bias: float) -> None:
    """The DiTAR bundle, its clips ending at once (above 0) or never."""
    save_ditar(folder)
    lm, card = load_network(folder, "lm", PatchLM)
    lm.stop.bias.data.fill_(bias)
    kept = save_network(folder, "lm", lm, {"codec_sha256": card["codec_sha256"]})
    for name in ("teacher", "guided"):
        write_card(folder, name, {**read_card(folder, name), "lm_sha256": kept["sha256"]})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ditar")
    save_bundle(folder / "bundle")
    save_with_stop(folder / "bundle" / "ditar", -100.0)
    return folder


@pytest.fixture(scope="module")
def done(world: Path) -> Sweep:
    return sweep(config_of(world))


@pytest.fixture(scope="module")
def run(done: Sweep) -> RunData:
    assert done.complete, done.failures
    return load_run(done.run)


def test_temperatures_are_rows_with_the_evaluations_that_they_spend(run: RunData) -> None:
    nfe = {(cell["system"], cell["sampler"]): cell["nfe"] for cell in run.plan["cells"]}
    assert nfe == {
        ("teacher", "ddim"): 8,
        ("ditar", "ddim"): 4 * 4 * 2,  # patches, steps, branches of guidance
        ("ditar", "ddim, temperature 0.5"): 4 * 5 * 2,
        ("ditar", "ddim, temperature 0"): 4 * 4 * 2,
        ("ditar guided", "heun"): 4 * 2,
    }
    cards = [run.card_of(row) for row in run.rows]
    assert [card.get("temperature") for card in cards] == [None, 1.0, 0.5, 0.0, 1.0]
    assert {(card["patch"], card["patches"], card["history"]) for card in cards[1:]} == {(2, 4, 2)}
    assert {cell["family"] for cell in run.plan["cells"]} == {"latent", "ditar"}


def test_at_temperature_zero_seeds_agree_and_diversity_is_zero(run: RunData) -> None:
    cold = {cell["seed"]: cell["cell"] for cell in run.plan["cells"] if cell["sampler"] == "ddim, temperature 0"}
    clip = next(iter(run.plan["captions"]))
    one, other = (read_audio(run.audio_of(cold[seed], clip)).samples for seed in (0, 1))
    assert np.array_equal(one, other)
    diversity = {key.row.sampler: score.value for key, score in run.scores.items() if key.metric == "diversity" and key.row.system == "ditar"}
    assert diversity["ddim, temperature 0"] == pytest.approx(0.0, abs=1e-6)
    assert diversity["ddim"] > 1e-4


def test_fidelity_is_of_systems_that_the_same_noise_should_lead_to_the_same_audio(run: RunData, world: Path, tmp_path: Path) -> None:
    assert not [key for key in run.scores if key.metric == "fidelity_mel"]  # the target is the latent teacher, and no other system is of its family
    config = config_of(world, out=str(tmp_path / "b"), target="ditar", seeds=[0], timing_repeats=0, metrics=["fidelity_mel"])
    made = load_run(sweep(config).run)
    named = {(key.row.system, key.row.sampler) for key in made.scores if key.metric == "fidelity_mel"}
    assert named == {("ditar", "ddim, temperature 0.5"), ("ditar", "ddim, temperature 0"), ("ditar guided", "heun")}


def test_time_to_first_audio_is_read_for_the_batches_asked_for_and_once(run: RunData, done: Sweep, world: Path) -> None:
    readings = run.streams
    asked = {("teacher", 2), ("ditar guided", 1), ("ditar guided", 3)}
    assert {(item["row"].split(" | ")[0], item["batch"]) for item in readings} == asked
    assert len(readings) == 2 * len(asked)
    for item in readings:
        assert 0 < item["first_audio_s"] <= item["seconds"]
        assert item["audio_s"] == pytest.approx(item["batch"] * 10_240 / 16_000)
        assert item["streams"] == (item["row"] != "teacher | 4 steps | guidance 3")
        if not item["streams"]:
            assert item["first_audio_s"] == item["seconds"]
    before = (done.run / "streaming.json").read_bytes()
    sweep(config_of(world))
    assert (done.run / "streaming.json").read_bytes() == before
    (done.run / "streaming.json").write_text("{")
    sweep(config_of(world))
    assert len(json.loads((done.run / "streaming.json").read_text())["readings"]) == len(readings)


def test_a_report_says_what_a_step_of_it_is_and_plays_the_first_system_of_each_family(run: RunData, tmp_path: Path) -> None:
    (note,) = steps_notes(run)
    assert "are of each patch" in note
    report = render(run.folder, tmp_path / "report").parent
    assert note in (report / "report.md").read_text(encoding="utf-8")
    assert note in (report / "index.html").read_text(encoding="utf-8")
    assert [str(row) for row in listening_columns(run)[:3]] == ["None", "teacher | 4 steps | guidance 3", "ditar | 4 steps | guidance 3"]
    alone = [cell for cell in run.plan["cells"] if cell["family"] != "ditar"]
    assert steps_notes(replace(run, plan={**run.plan, "cells": alone})) == []


def test_every_codec_has_anchors_of_its_own(world: Path, tmp_path: Path) -> None:
    """The first of the run under the plain names, another under its system's."""
    both = config_of(world, out=str(tmp_path / "both"), anchors=True, seeds=[0], timing_repeats=0, metrics=["kl"])
    alone = tuple(system for system in both.systems if system.name != "teacher")
    runs = [sweep(both), sweep(both.model_copy(update={"out": tmp_path / "alone", "systems": alone}))]
    cells = [{cell["system"]: cell for cell in load_run(made.run).plan["cells"] if cell["family"] == "reference"} for made in runs]
    assert list(cells[0]) == ["real audio", *(f"{name}{own}" for name in ("reconstruction", "codec on the reference") for own in ("", ", ditar"))]
    assert list(cells[1]) == ["real audio", "reconstruction", "codec on the reference"]
    for name in ("reconstruction", "codec on the reference"):
        audio = [
            _audio_of(made, mine[full]) for made, mine, full in zip([*runs, runs[0]], [*cells, cells[0]], [f"{name}, ditar", name, name], strict=True)
        ]
        assert np.array_equal(audio[0], audio[1])
        assert not np.array_equal(audio[0], audio[2])
    with pytest.raises(ConfigError, match="what a row of real audio is called"):
        config_of(world, systems=[{"name": "reconstruction, ditar", "network": "teacher", "steps": [1]}])


def test_several_codecs_of_one_system_are_told_apart(tmp_path: Path) -> None:
    for name in ("first", "1", "2"):
        save_bundle(tmp_path / "bundle" / name)
    systems = [{"name": "x", "network": f"{folder}/teacher", "bundle": str(tmp_path / "bundle"), "steps": steps}
               for folder, steps in (("first", [4]), ("{steps}", [1, 2]))]  # fmt: skip
    made = sweep(config_of(tmp_path, systems=systems, anchors=True, seeds=[0], timing_repeats=0, metrics=["kl"]))
    names = [cell["system"] for cell in load_run(made.run).plan["cells"] if cell["family"] == "reference"]
    assert len(names) == len(set(names)) == 1 + 2 * 3


def _audio_of(made: Sweep, cell: dict[str, Any]) -> Any:
    path = sorted((made.run / "cells" / cell["cell"]).rglob("*.flac"))[0]
    return read_audio(path).samples


def test_a_clip_may_end_or_go_on(world: Path, tmp_path: Path) -> None:
    """With `stop`, an eager stop head ends clips after a patch; without, they are as long as can be."""
    folder = tmp_path / "ditar"
    save_with_stop(folder, 100.0)
    system = {"name": "a", "network": "teacher", "bundle": str(folder), "steps": [1], "streaming_batches": [2]}
    values = {"metrics": ["fad"], "seeds": [0], "timing_repeats": 2, "anchors": False, "clips": {"n": 4}}
    for stop in (True, False):  # in one folder: what is there is not taken for what is asked for
        made = sweep(resolve_run({**values, "out": str(tmp_path / "run"), "systems": [{**system, "stop": stop}]}, "test", "test"))
        audio_s = 0.16 if stop else 0.64
        assert made.lengths[0]["generated_s"] == audio_s
        readings = json.loads((made.run / "streaming.json").read_text())["readings"]
        assert [item["audio_s"] for item in readings] == [2 * audio_s] * 2  # nor are its times
        passes = json.loads((made.run / "timing.json").read_text())["passes"]
        assert {item["audio_s"] / item["clips"] for timed in passes for item in timed["rows"].values()} == {audio_s}
        assert load_run(made.run).card_of(load_run(made.run).rows[0])["stop"] == stop


def test_runs_at_two_temperatures_make_one_curve(world: Path, tmp_path: Path) -> None:
    def at(temperature: float) -> RunData:
        system = {
            "name": "a",
            "network": "ditar/teacher",
            "bundle": str(world / "bundle"),
            "steps": [2],
            "temperatures": [temperature],
            "streaming_batches": [1],
        }
        return load_run(sweep(config_of(world, out=str(tmp_path / f"{temperature}"), systems=[system], metrics=["clap"], timing_repeats=0)).run)

    for runs in ([at(1.0), at(0.5)], [at(0.5), at(1.0)]):
        whole = merged(runs)
        assert len(whole.streams) == 2  # read once each, though nothing else is timed
        (line,) = series_along(variants_of(whole, results_of(whole)), "temperature")
        assert [place for place, _ in line.points] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ({"network": "teacher", "temperatures": [0.5]}, "temperatures of x: network 'teacher' is no DiTAR"),
        ({"network": "teacher", "stop": False}, "stop of x: network 'teacher' is no DiTAR"),
        ({"network": "ditar/teacher", "temperatures": [0.5]}, "temperatures of x: 0.5 is no point of 1 step of ddim; take 0 or 1"),
        ({"network": "ditar/teacher", "temperatures": [1.5]}, r"temperatures\.0"),
        ({"network": "ditar/teacher", "temperatures": [1.0, 1.0]}, "is there twice"),
        ({"network": "ditar/lm"}, "'lm' of x is of kind lm, not a denoiser"),
        ({"network": "ditar/teacher", "streaming_batches": [0]}, r"streaming_batches\.0"),
        ({"pipeline": "p", "streaming_batches": [1]}, "streaming_batches goes with network"),
        ({"audio": "a", "temperatures": [0.5]}, "temperatures goes with network"),
    ],
)
def test_what_cannot_be(world: Path, tmp_path: Path, system: dict[str, Any], message: str) -> None:
    bundle = {"bundle": str(world / "bundle")} if "network" in system else {}
    with pytest.raises(ConfigError, match=message):
        sweep(config_of(world, out=str(tmp_path / "o"), systems=[{"name": "x", "steps": [1], **bundle, **system}]))
