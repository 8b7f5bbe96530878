"""Reports of a small run: what stands in them is what was measured, in every format; a packed report renders again to the same."""

from __future__ import annotations

import contextlib
import csv
import html
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.harness.test_sweep import Tone, config_of
from tests.unit.harness.worlds import denoiser, save_bundle
from tta_bench.errors import ConfigError, InputError
from tta_bench.harness.run_config import RunConfig, resolve_run
from tta_bench.harness.sweep import sweep
from tta_bench.models.bundle import read_card, save_network, write_card
from tta_bench.report.figures import apart, pareto_front, steps_figure
from tta_bench.report.fresh import is_fresh
from tta_bench.report.merge import merged
from tta_bench.report.notes import length_notes
from tta_bench.report.page import weights
from tta_bench.report.render import render
from tta_bench.report.results import Estimate, Results, differences_of, results_of
from tta_bench.report.run_data import load_run
from tta_bench.report.speed import speed_up
from tta_bench.report.tables import results_csv, with_interval
from tta_bench.terminal import print_sweep

METRICS = ["fad", "kad", "kl", "clap", "fidelity_mel"]


def _with_students(folder: Path) -> None:
    """Two weightings: the guided student under other names, with what a student's card says."""
    save_bundle(folder)
    bins = [{"log_snr_low": float(a), "log_snr_high": float(a + 2), "loss": 0.1 + 0.01 * abs(a), "count": 9.0} for a in range(-6, 6, 2)]
    for weighting in ("constant", "bsa"):
        name = f"student-{weighting}-2"
        shutil.copy(folder / "guided.safetensors", folder / f"{name}.safetensors")
        card = read_card(folder, "guided") | {"name": name, "weighting": weighting, "gamma": 5.0, "steps": 2, "loss_by_level": bins}
        write_card(folder, name, card)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = tmp_path_factory.mktemp("bundle")
    _with_students(bundle)
    systems = [{"name": "teacher", "network": "teacher", "bundle": str(bundle), "steps": [4, 2], "samplers": ["ddim", "heun"]}]
    systems += [{"name": name, "network": f"student-{name}-{{steps}}", "bundle": str(bundle), "steps": [2]} for name in ("constant", "bsa")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTA_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        config = config_of(bundle, tmp_path_factory.mktemp("runs") / "small", systems=systems, metrics=METRICS, listening=2)
        return sweep(config).run


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "small")
    return tmp_path / "small"


class _Page(HTMLParser):
    """Counts what a browser would load, and checks that tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br", "use", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.attributes if name == tag]


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(copy: Path) -> None:
    path = render(copy)
    page = _Page(path.read_text())
    assert path == copy / "report" / "index.html"
    assert not page.open
    for tag, key in (("img", "src"), ("audio", "src"), ("link", "href")):
        assert all((item[key] or "").startswith("data:") for item in page.of(tag))
    assert not [item for item in page.of("script") if "src" in item]
    assert not re.search(r'(?:src|href)="https?:', path.read_text())
    assert all(item.get("alt") for item in page.of("img"))
    assert len(page.of("audio")) == len(page.of("img")) == 2 * 5  # reference, teacher at 4 and at 2 steps, two students
    pictures = [item for item in page.of("svg") if item.get("role") == "img"]
    assert len(pictures) == len(METRICS) + 4 + 4 + 1 + len(METRICS)  # curves, evaluations, seconds, weightings, power
    ids = [item["id"] for _, item in page.attributes if item.get("id")]
    assert len(ids) == len(set(ids))
    targets = {item["href"] for item in page.of("a") if (item.get("href") or "").startswith("#")}
    assert {str(target)[1:] for target in targets} <= set(ids)


def test_the_table_holds_the_means_over_seeds(copy: Path) -> None:
    results = results_of(load_run(copy))
    rows = list(csv.DictReader(io.StringIO(results_csv(results))))
    lines = [json.loads(line) for line in (copy / "records.jsonl").read_text().splitlines()]
    text = html.unescape(re.sub(r"<[^>]+>", "", (render(copy)).read_text()))
    for row in rows:
        values = [line["value"] for line in lines if (line["system"], line["sampler"] or "", str(line["steps"] or ""), line["metric"])
                  == (row["system"], row["sampler"], row["steps"], row["metric"])]  # fmt: skip
        assert float(row["value"]) == pytest.approx(np.mean(values), rel=1e-6)
        result = next(
            item
            for item in results.rows
            if (item.key.system, item.key.sampler or "", str(item.key.steps or "")) == (row["system"], row["sampler"], row["steps"])
        )
        column = next(column for column in results.columns if column.metric == row["metric"])
        assert with_interval(result.estimates[column])[0] in text
    assert len(rows) == len({(line["system"], line["sampler"], line["steps"], line["metric"]) for line in lines})


def test_intervals_are_over_clips_with_seeds_averaged(copy: Path) -> None:
    run = load_run(copy)
    key, score = next((key, score) for key, score in run.scores.items() if key.metric == "clap" and key.row.system == "bsa")
    result = next(row for row in results_of(run).rows if row.key == key.row)
    estimate = next(estimate for column, estimate in result.estimates.items() if column.metric == "clap")
    assert score.contributions is not None
    per_clip = score.contributions.mean(axis=0)
    assert estimate.half == pytest.approx(2.5705818 * per_clip.std(ddof=1) / np.sqrt(6), rel=1e-6)  # t of 5 degrees
    assert (estimate.n, result.seeds) == (6, 2)


def test_paired_differences_subtract_clip_by_clip(copy: Path) -> None:
    """Both students hold the same weights: every difference is exactly nothing, and without spread there is no interval."""
    run = load_run(copy)
    differences = differences_of(run, results_of(run))
    assert {(item.name, item.steps) for item in differences} == {("bsa", 2)}
    assert {item.estimate.value for item in differences} == {0.0}
    assert not any(item.clear for item in differences)


def test_the_best_is_never_an_anchor_and_never_a_partial_row(copy: Path) -> None:
    run = load_run(copy)
    results = results_of(run)
    clap = next(column for column in results.columns if column.metric == "clap")
    assert not {row.key for row in results.rows if row.is_anchor} & results.best(clap)
    best = next(iter(results.best(clap)))
    partial = [_with(row, clap, Estimate(0.999, n=5, n_excluded=1)) if row.key == best else row for row in results.rows]
    assert best not in Results(partial, results.columns, results.n).best(clap)


def _with(row: Any, column: Any, estimate: Estimate) -> Any:
    return replace(row, estimates={**row.estimates, column: estimate})


def test_a_packed_report_renders_again_without_the_run(copy: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    first = render(copy, packed)
    shutil.rmtree(copy)
    texts = {name: (packed / name).read_text() for name in ("index.html", "report.md", "results.csv", "tables.tex")}
    for name in texts:
        (packed / name).unlink()
    assert render(packed) == first
    assert {name: (packed / name).read_text() for name in texts} == texts


def test_rendering_twice_gives_the_same_bytes(copy: Path) -> None:
    first = render(copy).read_bytes()
    assert is_fresh(copy)
    assert render(copy).read_bytes() == first
    with (copy / "records.jsonl").open("a") as file:
        file.write((copy / "records.jsonl").read_text().splitlines()[0] + "\n")
    assert not is_fresh(copy)


def test_formats(copy: Path) -> None:
    assert render(copy, formats=("csv",)).name == "results.csv"
    assert {path.name for path in (copy / "report").iterdir()} == {"results.csv"}
    with pytest.raises(ConfigError, match="pdf: unknown format"):
        render(copy, formats=("pdf",))


def test_failures_and_partial_rows_are_shown(tmp_path: Path) -> None:
    values = {"out": str(tmp_path / "run"), "systems": [{"name": "tone", "steps": [8, 2]}], "clips": {"n": 6}, "seeds": [0],
              "metrics": ("fad", "clap"), "timing_repeats": 0, "anchors": False}  # fmt: skip

    class Half(Tone):
        def generate(self, clips: Any, *, steps: int, guidance_scale: float, seed: int) -> Any:
            if steps == 2:
                self.broken = ["test-000004"]
            return super().generate(clips, steps=steps, guidance_scale=guidance_scale, seed=seed)

    sweep(resolve_run(values, "t", "t"), {"tone": Half(checksum="<b>1</b>")})
    text = render(tmp_path / "run").read_text()
    assert "Incomplete: 1 failure (listed below)" in text
    assert "RuntimeError: no sound for test-000004" in text
    assert text.count("†") == 1 + 2  # the note, and both scores of the row
    markdown = (tmp_path / "run" / "report" / "report.md").read_text()
    assert markdown.count("†") == 1 + 2
    assert (tmp_path / "run" / "report" / "tables.tex").read_text().count("dagger") == 2
    assert "<b>1</b>" not in text


def test_what_is_no_run_or_is_damaged_is_said(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not the folder of a run \(it has no plan.json\)"):
        render(tmp_path)
    plan = json.loads((copy / "plan.json").read_text())
    (copy / "plan.json").write_text(json.dumps(plan | {"format": 99}))
    with pytest.raises(InputError, match="has format 99, this version reads 1; update tta_bench"):
        render(copy)
    (copy / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan\.json: cannot be read"):
        render(copy)
    (copy / "plan.json").write_text(json.dumps(plan))
    cell = next((copy / "cells").iterdir())
    (cell / "clips.npz").write_bytes(b"PK\3\4 no")
    with pytest.raises(InputError, match=r"clips\.npz: cannot be read"):
        render(copy)


def _pass(rows: dict[str, float], again: float | None) -> dict[str, Any]:
    def time(seconds: float) -> dict[str, Any]:
        return {"sampling_s": seconds, "decoding_s": None, "clips": 1, "audio_s": 1.0, "peak_memory_mib": None}

    return {"rows": {name: time(value) for name, value in rows.items()}, "again": None if again is None else time(again)}


def test_drift_of_the_machine_leaves_the_speed_up() -> None:
    """A machine that becomes slower evenly, to 1.5 times within a pass: rows of 4, 2, 2, 2 and again 4 seconds of work."""
    work = {"target": 4.0, "a": 2.0, "b": 2.0, "c": 2.0}
    middles = np.cumsum([*work.values(), 4.0]) - np.array([4.0, 2.0, 2.0, 2.0, 4.0]) / 2
    slow = 1.0 + 0.5 * (middles - middles[0]) / (middles[-1] - middles[0])
    drifting = _pass({name: seconds * factor for (name, seconds), factor in zip(work.items(), slow, strict=False)}, 4.0 * slow[-1])
    assert speed_up(drifting, "target", "a") == pytest.approx(2.0, rel=0.03)
    assert speed_up(drifting, "target", "c") == pytest.approx(2.0, rel=0.03)
    assert speed_up(drifting, "target", "target") == 1.0
    assert drifting["rows"]["target"]["sampling_s"] / drifting["rows"]["c"]["sampling_s"] < 1.5  # what it would be without
    assert speed_up(_pass(work, None), "target", "c") == 2.0
    assert speed_up(_pass({"target": 3.0}, None), "target", "target") == 1.0


def test_pairs_are_of_one_sampler(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    _with_students(folder)
    systems = [{"name": name, "network": f"student-{name}-{{steps}}", "bundle": str(folder), "steps": [2], "samplers": ["ddim", "heun"]}
               for name in ("constant", "bsa")]  # fmt: skip
    values = {
        "out": str(tmp_path / "run"),
        "systems": systems,
        "clips": {"n": 6},
        "seeds": [0],
        "metrics": ["clap"],
        "timing_repeats": 0,
        "anchors": False,
    }
    data = load_run(sweep(resolve_run(values, "t", "t")).run)
    differences = differences_of(data, results_of(data))
    assert [item.name for item in differences] == ["bsa", "bsa heun"]
    assert [item.estimate.value for item in differences] == [0.0, 0.0]  # the same weights: any other pair would differ


def test_students_at_other_steps_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    _with_students(folder)
    systems = [{"name": "bsa", "network": "student-bsa-2", "bundle": str(folder), "steps": [4, 2]}]
    values = {"out": str(tmp_path / "run"), "systems": systems, "clips": {"n": 4}, "seeds": [0], "metrics": ["clap"], "timing_repeats": 0,
              "anchors": False}  # fmt: skip
    page = render(sweep(resolve_run(values, "t", "t")).run)
    for path in (page, page.parent / "report.md"):
        assert "bsa at 4 steps is the student distilled for 2 steps." in path.read_text()
        assert "bsa at 2 steps is" not in path.read_text()


def _two_teachers(folder: Path, samplers: tuple[str, str] = ("ddim", "ddim"), names: tuple[str, str] = ("first", "second")) -> RunConfig:
    """Students of one weighting and one name in two bundles: other networks, other schedules."""
    systems = []
    for i, sampler in enumerate(samplers):
        bundle = folder / f"bundle{i}"
        _with_students(bundle)
        card = read_card(bundle, "student-bsa-2")
        if i:
            save_network(bundle, "student-bsa-2", denoiser(7), {})
            made = read_card(bundle, "student-bsa-2")
            schedule = {**card["schedule"], "log_snr_min": card["schedule"]["log_snr_min"] + 2.0}
            bins = [{**item, "loss": 2.0 * item["loss"]} for item in card["loss_by_level"]]
            write_card(bundle, "student-bsa-2", {**card, "sha256": made["sha256"], "parameters": 7, "schedule": schedule, "loss_by_level": bins})
        network = {"network": "student-bsa-2", "bundle": str(bundle), "steps": [2], "samplers": [sampler]}
        systems.append({"name": names[i], **network})
    values = {"out": str(folder / "run"), "systems": systems, "clips": {"n": 4}, "seeds": [0], "metrics": ["clap"], "timing_repeats": 0,
              "anchors": False, "baseline": "bsa"}  # fmt: skip
    return resolve_run(values, "t", "t")


def test_weights_of_two_teachers_students_are_both_drawn(tmp_path: Path) -> None:
    data = load_run(sweep(_two_teachers(tmp_path)).run)
    first, second = data.plan["weights"]
    assert (first["weighting"], first["steps"]) == (second["weighting"], second["steps"]) == ("bsa", 2)
    assert first["log_snr"] != second["log_snr"]
    (drawn,) = weights(data)
    assert "bsa (2)" in drawn["svg"]


def test_the_same_weights_are_drawn_once(run: Path) -> None:
    """Each student has two seeds, hence two cells."""
    assert [curve["weighting"] for curve in load_run(run).plan["weights"]] == ["constant", "bsa"]
    (drawn,) = weights(load_run(run))
    assert "(2)" not in drawn["svg"]


def test_two_networks_under_one_name_keep_their_cards(tmp_path: Path) -> None:
    data = load_run(sweep(_two_teachers(tmp_path, ("ddim", "heun"), ("bsa", "bsa"))).run)
    assert set(data.systems) == {"bsa | 2 | ddim", "bsa | 2 | heun"}
    found = {row.key.sampler: row.parameters for row in results_of(data).rows}
    assert found["heun"] == 7 != found["ddim"]
    assert {data.distilled_for(row) for row in data.rows} == {2}
    other = replace(data, plan={**data.plan, "run": "other"}, systems=dict(data.systems))
    assert merged([data, other]).systems == data.systems


def test_one_network_with_several_samplers_has_one_card(run: Path) -> None:
    assert {name for name in load_run(run).systems if name.startswith("teacher")} == {"teacher | 4", "teacher | 2"}


def test_rows_of_other_length_than_the_reference_are_named(tmp_path: Path) -> None:
    """Tones of 1 s beside scenes of 2.56 s; anchors are as long as the reference."""
    values = {"out": str(tmp_path / "run"), "systems": [{"name": "tone", "steps": [2, 8]}], "clips": {"n": 6}, "seeds": [0, 1],
              "metrics": ("fad", "clap"), "timing_repeats": 0}  # fmt: skip
    result = sweep(resolve_run(values, "t", "t"), {"tone": Tone(checksum="1")})
    assert result.complete
    known = {item["row"]: (item["generated_s"], item["reference_s"]) for item in result.lengths}
    assert known["tone | 8 steps | guidance 3"] == pytest.approx((1.0, 2.56))
    assert known["real audio"] == pytest.approx((2.56, 2.56))
    said = "tone | 8, 2 steps | guidance 3: generated clips last 1 s on average, the reference's 2.56 s; length changes FAD"
    assert [note for note in length_notes(load_run(result.run)) if said in note] == length_notes(load_run(result.run)) != []
    page = render(result.run, tmp_path / "packed")
    again = render(tmp_path / "packed")
    for text in (html.unescape(page.read_text()), html.unescape(again.read_text()), (tmp_path / "packed" / "report.md").read_text()):
        assert said in text
    other = replace(load_run(result.run), plan={**load_run(result.run).plan, "run": "b"}, scores={})
    assert len(length_notes(merged([load_run(result.run), other]))) == 2
    console_text = io.StringIO()
    with contextlib.redirect_stdout(console_text):
        print_sweep(result.run, result.failures, result.new)
    assert said in console_text.getvalue()


@pytest.mark.parametrize(("generated", "differ"), [(2.56, False), (2.35, False), (2.8, False), (2.25, True), (2.85, True)])
def test_a_tenth_is_let_pass(run: Path, generated: float, differ: bool) -> None:
    data = load_run(run)
    row = next(str(row) for row in data.rows if row.steps)
    assert bool(length_notes(replace(data, lengths=[{"row": row, "seed": 0, "generated_s": generated, "reference_s": 2.56}]))) is differ


def test_a_run_of_an_older_version_has_no_lengths(copy: Path) -> None:
    assert load_run(copy).lengths
    (copy / "lengths.json").unlink()
    assert not length_notes(load_run(copy))
    assert "clips last" not in render(copy).read_text()


def test_the_target_is_named_with_its_sampler(copy: Path) -> None:
    plan = json.loads((copy / "plan.json").read_text())
    assert plan["target"] == {"system": "teacher", "sampler": "ddim", "steps": 4}
    text = html.unescape(render(copy).read_text())
    named = "teacher at 4 steps with sampler ddim"
    assert f"<dt>target</dt><dd>{named}: what fidelity" in text
    assert re.search(rf'title="protocol [^"]*, to {named}"', text)
    assert f"Speed-up is relative to {named} under" in text
    assert f"refer to {named}." in (copy / "report" / "report.md").read_text()


def test_anchors_far_from_all_curves_are_named_at_the_edge(run: Path) -> None:
    results = results_of(load_run(run))
    column = next(column for column in results.columns if column.metric == "fad")
    axes = steps_figure(results, column).axes[0]
    words = [text.get_text() for text in axes.texts]
    low, high = axes.get_ylim()
    for row in (row for row in results.rows if row.is_anchor and row.key.system != "codec on the reference"):
        value = row.estimates[column].value
        assert value is not None
        if low <= value <= high:
            assert row.key.system in "; ".join(words).split("; ")
        else:
            assert f"{row.key.system}: {value:.3g} {'↑' if value > high else '↓'}" in "\n".join(words)
    assert any("↓" in word for word in words), "real audio is far below"


def test_labels_of_an_axis_have_room() -> None:
    assert apart([1, 5, 10, 20, 25, 50, 100, 200]) == [1, 5, 10, 25, 50, 100, 200]
    assert apart([1, 5, 8, 10, 80, 100, 160, 200, 320, 400]) == [1, 5, 10, 100, 200, 400]
    assert apart([4]) == [4]
    assert apart([]) == []


def test_pareto_front_by_hand() -> None:
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 3.0), (3.0, 3.5), (4.0, 1.0)]
    assert pareto_front(points, lower_is_better=True) == [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0)]
    assert pareto_front(points, lower_is_better=False) == [(1.0, 5.0)]


@pytest.mark.parametrize(("estimate", "shown"), [
    (Estimate(138.712, 123.1, 154.3), ("139", "16")), (Estimate(0.29731, 0.2841, 0.3105), ("0.297", "0.013")),
    (Estimate(0.9970, 0.9953, 0.9987), ("0.9970", "0.0017")), (Estimate(1.2, None, None), ("1.2", "")),
    (Estimate(-1e-17, -2e-9, 2e-9), ("0.000000", "0.000000")),
    (Estimate(None, status="not_finite"), ("not finite", "")), (None, ("—", "")),
])  # fmt: skip
def test_digits_follow_the_interval(estimate: Estimate | None, shown: tuple[str, str]) -> None:
    assert with_interval(estimate) == shown
