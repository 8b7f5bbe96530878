"""Scores of a row over its seeds, and events, in a whole run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.harness.test_sweep import Tone, tone_config
from tta_bench.audio import read_audio
from tta_bench.config import EvaluateConfig
from tta_bench.embedders.bundled import BundledEmbedder
from tta_bench.errors import ExtraMissing, InputError
from tta_bench.harness.plan import helper_embedders, make_plan
from tta_bench.harness.run_config import input_files
from tta_bench.harness.sweep import Sweep, sweep
from tta_bench.metrics.diversity import diversity
from tta_bench.models.bundle import assets
from tta_bench.records import Record
from tta_bench.report.merge import merged
from tta_bench.report.results import differences_of, results_of
from tta_bench.report.run_data import RunData, load_run, pack_run
from tta_bench.rows import RowScore, load_saved, load_scores, save_scores


def _run(out: Path, seeds: list[int] | None = None, broken: tuple[str, ...] = (), **changes: Any) -> Sweep:
    changes = {"seeds": [0, 1, 2] if seeds is None else seeds, "metrics": ("clap", "diversity"), **changes}
    return sweep(tone_config(out, **changes), {"tone": Tone("tone", broken)})


def _diversities(result: Sweep) -> list[Record]:
    return [record for record in result.records if record.metric == "diversity"]


def _scores(run: Path) -> dict[int | None, RowScore]:
    return {key.row.steps: score for key, score in load_scores(run).items() if key.metric == "diversity"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTA_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return _run(tmp_path_factory.mktemp("runs") / "three")


def test_one_record_for_each_row_and_it_is_right(finished: Sweep) -> None:
    """Against the audio on disk, embedded and compared by hand."""
    assert finished.complete
    records = _diversities(finished)
    assert [(record.steps, record.seed, record.n, record.status) for record in records] == [(8, None, 6, "ok"), (2, None, 6, "ok")]
    plan = json.loads((finished.run / "plan.json").read_text())
    embedder = BundledEmbedder()
    for record in records:
        cells = [cell["cell"] for cell in plan["cells"] if cell["steps"] == record.steps]
        assert len(cells) == 3
        assert record.cell == cells[0]
        samples = []
        for cell in cells:
            paths = sorted((finished.run / "cells" / cell / "audio").iterdir())
            audio = np.stack([read_audio(path).samples for path in paths])
            samples.append(np.stack([rows.mean(axis=0) for rows in embedder.embed(audio, np.full(len(audio), audio.shape[1])).embeddings]))
        assert record.value == pytest.approx(diversity(np.stack(samples, axis=1)), abs=1e-5)
        assert record.ci_low is not None
        assert record.ci_high is not None
        assert 0 < record.ci_low < record.value < record.ci_high


def test_reports_and_baselines_show_it_like_any_other(finished: Sweep, tmp_path: Path) -> None:
    score = _scores(finished.run)[2]
    assert (score.status, score.seeds, score.planned) == ("ok", (None,), 3)
    run = load_run(finished.run)
    results = results_of(run)
    column = next(column for column in results.columns if column.metric == "diversity")
    assert (column.label, column.direction) == ("diversity", "higher")
    estimate = results.rows[1].estimates[column]
    assert (estimate.value, estimate.n, estimate.low is not None) == (score.value, 6, True)
    assert all(results.comparable(row, column) for row in results.rows)
    assert differences_of(run, results) == []  # of weightings, and there are none
    pack_run(run, tmp_path / "packed")
    again = results_of(load_run(tmp_path / "packed"))
    assert again.rows[1].estimates[column].value == score.value
    assert again.rows[1].estimates[column].low == pytest.approx(estimate.low, rel=1e-5)
    save_scores(load_scores(finished.run).values(), tmp_path / "base.jsonl")
    assert {key.metric for key in load_saved(tmp_path / "base.jsonl")} == {"clap", "diversity"}


def test_nothing_is_done_twice_and_another_seed_makes_another_score(finished: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(finished.run).new == 0
    out = tmp_path / "grows"
    two = _run(out, [0, 1])
    four = _run(out, [0, 1, 2, 3])
    assert four.new == 2 * 2 + 2  # clap of two cells and diversity, at two step counts
    assert _scores(out)[2].value == _diversities(four)[1].value != _diversities(two)[1].value
    back = _run(out, [0, 1])
    assert back.new == 0
    assert _scores(out)[2].value == _diversities(two)[1].value


def test_one_seed_has_none_and_the_report_says_why(finished: Sweep, tmp_path: Path) -> None:
    result = _run(tmp_path / "one", [0])
    assert result.complete
    assert not _diversities(result)
    run = load_run(result.run)
    assert run.plan["notes"] == ["diversity compares samples of different seeds, and this run has one seed: not computed."]
    assert ["diversity", "bundled"] not in run.plan["scores"]
    assert load_run(finished.run).plan["notes"] == []
    again = _run(finished.run.parent / "shrinks", [0, 1])
    assert _scores(again.run)
    _run(again.run, [0])
    assert not _scores(again.run)  # a score over other seeds than the run's never shows


def test_a_row_of_which_a_clip_is_missing_has_none(tmp_path: Path) -> None:
    result = _run(tmp_path / "run", broken=("test-000003",))
    assert not result.complete
    assert not _diversities(result)
    mended = _run(tmp_path / "run")
    assert mended.complete
    assert [record.n for record in _diversities(mended)] == [6, 6]


def test_the_same_audio_in_two_runs_is_one_row(finished: Sweep, tmp_path: Path) -> None:
    """Whichever of them has diversity; and where only the second has, the row gets it."""
    plain = _run(tmp_path / "plain", metrics=("clap",))
    for first, second in ((plain, finished), (finished, plain)):
        whole = merged([load_run(first.run), load_run(second.run)])
        results = results_of(whole)
        assert len(results.rows) == 2
        column = next(column for column in results.columns if column.metric == "diversity")
        assert results.rows[0].estimates[column].value == _diversities(finished)[0].value
    other = merged([load_run(finished.run), _relabelled(load_run(_run(tmp_path / "other", [3, 4, 5]).run))])
    assert len(results_of(other).rows) == 4


def _relabelled(run: RunData) -> RunData:
    return replace(run, plan={**run.plan, "run": "other"})


def test_events_need_no_mention_among_embedders_and_serve_nothing_else(tmp_path: Path) -> None:
    result = _run(tmp_path / "run", [0], metrics=("fad", "event_error_rate"))
    assert result.complete
    assert [(record.metric, record.embedder) for record in result.records] == [("fad", "bundled"), ("event_error_rate", "events")] * 2
    tones = result.records[1]
    assert tones.value is not None
    assert tones.value > 0.7  # none of its captions asks for what it makes
    assert tones.details["events"] > 6
    assert helper_embedders(("fad", "event_error_rate", "fidelity_mel"), ("bundled:there",)) == ["events:there", "log_mel"]
    assert helper_embedders(("event_error_rate",), ("bundled", "events:here")) == []
    alone = tone_config(tmp_path / "alone", metrics=("event_error_rate",), embedders=("mel",))
    assert assets() / "embedder.safetensors" in input_files(alone)  # a tagger that changes makes the run look again


def test_without_jiwer_nothing_is_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    tone = Tone("tone")
    with pytest.raises(ExtraMissing, match="events"):
        sweep(tone_config(tmp_path / "run", metrics=("event_error_rate",)), {"tone": tone})
    assert not tone.asked


def test_a_single_folder_has_no_seeds(tmp_path: Path) -> None:
    config = EvaluateConfig(generated=tmp_path, reference=tmp_path, metric=("diversity",))
    with pytest.raises(InputError, match="several seeds"):
        make_plan(config, [BundledEmbedder()], has_captions=False)
