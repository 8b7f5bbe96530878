"""Patch size, history and temperature over trainings: which rows stand together, which curves they make, and how sure they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from tta_bench.report.ditar_page import DitarPage
from tta_bench.report.patches import changes_along, series_along, variants_of
from tta_bench.report.results import Column, Estimate, Result, Results
from tta_bench.report.run_data import RunData
from tta_bench.report.speed import Speed
from tta_bench.report.streams import streams_of
from tta_bench.rows import RowKey

FAD = Column("fad", "bundled", "FAD", "lower", "", "fad")
CLAP = Column("clap", "bundled", "CLAP", "higher", "", "clap")


def world(*networks: dict[str, Any], streams: list[dict[str, Any]] | None = None) -> tuple[RunData, Results]:
    """Rows and cards of DiTAR teachers; each network: patch, history, seed, fad, and whatever differs from the default."""
    rows, cards = [], {}
    for i, network in enumerate(networks):
        temperature, steps = network.get("temperature", 1.0), network.get("steps", 10)
        sampler = "ddim" if temperature == 1.0 else f"ddim, temperature {temperature:g}"
        name = network.get("name", f"net{i}")
        key = RowKey(name, sampler, steps, network.get("guidance", 2.0))
        estimates = {FAD: Estimate(network["fad"], network["fad"] - 1.0, network["fad"] + 1.0, network.get("n", 64))}
        rows.append(Result(key, str(key), "ditar", None, 80, 1, estimates, Speed(), None))
        cards[f"{name} | {steps} | {sampler}"] = {
            "patch": network["patch"], "history": network["history"], "patches": 32 // network["patch"], "temperature": temperature,
            "seed": network["seed"], "checksum": name, **network.get("card", {}),
            "recipe": {"patch": network["patch"], "history": network["history"], "updates": network.get("updates", 100)},
        }  # fmt: skip
    plan = {"cells": [{"cell": str(i), **row.key._asdict(), "seed": 0} for i, row in enumerate(rows)]}
    return RunData(Path("run"), plan, {}, cards, streams=streams or []), Results(rows, [FAD], 64)


def trained(patch: int, history: int, *values: float, **changes: Any) -> list[dict[str, Any]]:
    return [{"patch": patch, "history": history, "seed": seed, "fad": value, **changes} for seed, value in enumerate(values)]


def test_rows_that_differ_in_their_training_seed_stand_together_with_an_interval_over_trainings() -> None:
    run, results = world(*trained(4, 2, 10.0, 12.0, 17.0), *trained(4, 0, 30.0), *trained(4, 2, 99.0, updates=500))
    three, one, other = variants_of(run, results)
    estimate = three.estimate(FAD)
    assert estimate is not None
    half = stats.t.ppf(0.975, 2) * stats.sem([10.0, 12.0, 17.0])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((13.0, 13.0 - half, 13.0 + half))
    assert estimate.n == 3
    assert one.estimate(FAD) == Estimate(30.0, 29.0, 31.0, 64)  # its own, over clips
    assert list(other.rows) == [0]
    assert three.estimate(CLAP) is None


def test_a_training_without_a_value_leaves_no_mean() -> None:
    run, results = world(*trained(4, 2, 10.0, 12.0))
    second = results.rows[1]
    results.rows[1] = Result(second.key, second.label, "ditar", None, 80, 1, {FAD: Estimate(None, status="too_few_clips")}, Speed(), None)
    (variant,) = variants_of(run, results)
    assert variant.estimate(FAD) is None


def test_curves_over_patch_size_end_with_the_whole_clip_and_leave_out_what_differs_otherwise() -> None:
    networks = [*trained(1, 2, 1.0, 2.0), *trained(4, 2, 3.0, 4.0), *trained(32, 0, 9.0, 9.5), *trained(4, 0, 5.0), *trained(8, 2, 7.0, steps=50)]
    run, results = world(*networks)
    variants = variants_of(run, results)
    (two, none) = series_along(variants, "patch")
    assert [place for place, _ in two.points] == [1, 4, 32]
    assert (two.label, none.label) == ("history 2", "history 0")
    assert [place for place, _ in none.points] == [4, 32]
    (over_history,) = series_along(variants, "history")
    assert [place for place, _ in over_history.points] == [0, 2]
    assert over_history.label == "DiTAR"
    assert series_along(variants, "temperature") == []


def test_curves_over_temperature() -> None:
    networks = [one for t in (1.0, 0.0, 0.5) for one in trained(4, 2, 1.0 + t, 2.0 + t, 3.0 + t, temperature=t)]
    for i, network in enumerate(networks):
        network["name"] = f"seed{i % 3}"
    run, results = world(*networks, *trained(1, 2, 5.0))
    (line,) = series_along(variants_of(run, results), "temperature")
    assert [place for place, _ in line.points] == [0.0, 0.5, 1.0]


def test_changes_are_paired_by_training_seed() -> None:
    run, results = world(*trained(4, 0, 100.0, 200.0, 300.0), *trained(4, 2, 90.0, 191.0, 289.0), *trained(4, 4, 50.0))
    (line,) = series_along(variants_of(run, results), "history")
    (change,) = changes_along(line, [FAD])  # one training is no pair of them
    assert (change.before, change.after, change.what) == (0, 2, "history 0 → 2 patches")
    estimate = change.estimates[FAD]
    half = stats.t.ppf(0.975, 2) * stats.sem([-10.0, -9.0, -11.0])
    assert (estimate.value, estimate.half) == pytest.approx((-10.0, half))
    assert estimate.leaves_out_zero
    shifted = [{**network, "seed": seed} for seed, network in zip((0, 1, 2), trained(4, 2, 5.0, 91.0, 190.0), strict=True)]
    run, results = world(*[{**network, "seed": seed} for seed, network in zip((1, 2, 3), trained(4, 0, 100.0, 200.0, 300.0), strict=True)], *shifted)
    (change,) = changes_along(series_along(variants_of(run, results), "history")[0], [FAD])
    assert (change.estimates[FAD].value, change.estimates[FAD].n) == (-9.5, 2)


def test_scores_over_other_numbers_of_clips_make_no_mean() -> None:
    few = {"n": 3}
    run, results = world(*trained(4, 2, 10.0, 12.0), *trained(4, 0, 20.0), *[{**network, **few, "seed": 1} for network in trained(4, 0, 30.0)])
    two, mixed = variants_of(run, results)
    assert two.estimate(FAD) is not None
    assert mixed.estimate(FAD) is None
    assert changes_along(series_along([two, mixed], "history")[0], [FAD]) == []


@pytest.mark.parametrize(
    "card",
    [
        {"role": "guided"},
        {"stop": False},
        {"data": {"clips": 100}},
        {"codec_sha256": "other"},
        {"teacher_recipe": {"history_noise": 0.3}},
        {"checksum": "b"},
    ],
    ids=str,
)
def test_what_decides_a_row_keeps_it_apart(card: dict[str, Any]) -> None:
    """Not the training seed alone: two networks of one seed are two points, with names of their own where nothing else tells them apart."""
    run, results = world(*trained(4, 2, 10.0), *trained(4, 2, 20.0, card=card), *trained(4, 0, 30.0), *trained(4, 0, 40.0, card=card))
    variants = variants_of(run, results)
    assert sorted(row.estimates[FAD].value or 0.0 for variant in variants for row in variant.rows.values()) == [10.0, 20.0, 30.0, 40.0]
    if "checksum" not in card:
        one, other = series_along(variants, "history")
        assert one.label != other.label
    lead = [[item["text"] for item in row["cells"][:9]] for row in DitarPage(run, results).context()["variants"]]
    assert len(lead) == len({tuple(cells) for cells in lead}) or not {"role", "stop", "checksum"} & card.keys()
    again, known = world(*trained(4, 2, 10.0), *trained(4, 2, 10.0, name="alias", card={"checksum": "net0"}))
    assert len(variants_of(again, known)) == 1  # one network under two names


def test_time_to_first_audio_is_of_one_machine_and_factors_are_of_one_clip() -> None:
    def reading(host: str, batch: int, first: float, row: str = "net0 | 10 steps | guidance 2") -> dict[str, Any]:
        return {"host": {"name": host}, "row": row, "batch": batch, "first_audio_s": first, "seconds": 2.0, "audio_s": 2.5 * batch, "streams": True}

    readings = [
        reading("old", 1, 9.0),
        reading("a", 4, 0.3),
        reading("a", 1, 0.1),
        reading("a", 1, 0.3),
        reading("a", 1, 0.2),
        reading("a", 1, 1.0, "gone"),
    ]
    run, results = world(*trained(4, 2, 1.0), streams=readings)
    one, four = streams_of(run)
    assert (one.batch, one.first_audio.median, one.first_audio.repeats) == (1, 0.2, 3)
    assert four.real_time_factor.median == pytest.approx(0.8)  # whoever waits for one of four clips waits as long
    assert four.throughput.median == pytest.approx(5.0)
    context = DitarPage(run, results).context()
    assert context["ditar"]
    assert [plot["name"] for plot in context["stream_plots"]] == ["streaming-0", "streaming-1"]
    table = [line for line in DitarPage(run, results).markdown() if line.startswith("|")]
    assert table[2].startswith(r"| net0 \| 10 steps \| guidance 2 | 1 | 0.2 |")
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1  # as many cells in each
    assert not context["variants"]


def test_a_page_shows_what_there_is_and_nothing_else() -> None:
    run, results = world(*trained(4, 2, 10.0, 12.0, 14.0), *trained(4, 0, 30.0, 33.0, 36.5))
    page = DitarPage(run, results)
    context = page.context()
    assert [plot["caption"] for plot in context["patch_plots"]] == ["FAD against history"]
    assert [[item["text"] for item in row["cells"][:9]] for row in context["variants"]] == [
        ["teacher", "4", "2", "8", "1", "10", "80", "2", "3"],
        ["teacher", "4", "0", "0", "1", "10", "80", "2", "3"],
    ]
    (change,) = context["changes"]
    assert change["cells"][-1]["kind"] == "clear"
    text = "\n".join(page.markdown())
    assert re.search(r"\| history 0 → 2 patches \| DiTAR \| \*\*-21\.2 ± ", text), text
    empty, rows = world(*trained(4, 2, 10.0))
    nothing = DitarPage(empty, rows)
    assert not nothing.context()["ditar"]
    assert nothing.markdown() == []
    assert json.dumps(nothing.context())
