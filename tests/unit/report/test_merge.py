"""Several runs in one report: nothing is lost, nothing stands twice, and what is not comparable is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.harness.test_sweep import Tone
from tta_bench.errors import ConfigError, InputError
from tta_bench.harness.run_config import resolve_run
from tta_bench.harness.sweep import sweep
from tta_bench.report.merge import merged
from tta_bench.report.render import render
from tta_bench.report.results import results_of
from tta_bench.report.run_data import load_run


class Loud(Tone):
    """The same tones, far beyond full scale."""

    def generate(self, clips: Any, *, steps: int, guidance_scale: float, seed: int) -> Any:
        for clip_id, samples in super().generate(clips, steps=steps, guidance_scale=guidance_scale, seed=seed):
            yield clip_id, np.asarray(samples * 20.0, dtype=np.float32)


def _run(folder: Path, system: Tone, steps: list[int], n: int = 6, metrics: tuple[str, ...] = ("fad", "clap")) -> Path:
    values = {"out": str(folder), "systems": [{"name": "tone", "steps": steps}], "clips": {"n": n}, "seeds": [0, 1],
              "metrics": metrics, "timing_repeats": 0, "listening": 1}  # fmt: skip
    return sweep(resolve_run(values, "t", "t"), {"tone": system}).run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTA_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {
            "long": _run(folder / "long", Tone(checksum="1"), [8, 4]),
            "short": _run(folder / "short", Tone(checksum="1"), [4, 2]),
            "loud": _run(folder / "loud", Loud(checksum="2"), [4]),
            "fewer": _run(folder / "fewer", Tone(checksum="1"), [4], n=5),
        }


def test_rows_of_one_system_in_two_runs_make_one_curve(runs: dict[str, Path]) -> None:
    whole = merged([load_run(runs["long"]), load_run(runs["short"])])
    rows = [str(row) for row in whole.rows if row.system == "tone"]
    assert rows == ["tone | 8 steps | guidance 3", "tone | 4 steps | guidance 3", "tone | 2 steps | guidance 3"]
    alone = {row.key: row.estimates for name in ("long", "short") for row in results_of(load_run(runs[name])).rows}
    assert {row.key: row.estimates for row in results_of(whole).rows} == alone


def test_another_system_of_the_same_name_gets_its_runs_name(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "both"
    text = render([runs["long"], runs["loud"]], out).read_text()
    whole = merged([load_run(runs["long"]), load_run(runs["loud"])])
    assert {row.system for row in whole.rows if "tone" in row.system} == {"tone", "tone (loud)"}
    assert len({row for row in whole.rows if row.system.startswith("real audio")}) == 1
    assert text.count("<audio") == 4  # the reference, tone at 8 and at 4 steps, the loud one
    assert "no audio" not in text
    assert "tone (loud) | 4 steps" in text
    assert load_run(out).name == "long, loud"
    markdown = (out / "report.md").read_text()
    render(out)  # from what was packed
    assert (out / "report.md").read_text() == markdown


def test_a_name_that_is_taken_is_not_given_again(runs: dict[str, Path], tmp_path: Path) -> None:
    values = {"out": str(tmp_path / "first"), "systems": [{"name": name, "steps": [4]} for name in ("tone", "tone (loud)")], "clips": {"n": 6},
              "seeds": [0, 1], "metrics": ["fad", "clap"], "timing_repeats": 0, "listening": 1}  # fmt: skip
    tones = {name: Tone(checksum=str(i)) for i, name in enumerate(("tone", "tone (loud)"))}
    first, loud = load_run(sweep(resolve_run(values, "t", "t"), tones).run), load_run(runs["loud"])
    whole = merged([first, loud])
    named = [str(row) for row in whole.rows if row.system.startswith("tone")]
    assert named == [f"{name} | 4 steps | guidance 3" for name in ("tone", "tone (loud)", "tone (loud) (loud)")]
    values_of = {str(row.key): row.estimates for row in results_of(whole).rows}
    assert values_of[named[2]] == next(row.estimates for row in results_of(loud).rows if row.key.system == "tone")


def test_the_same_audio_with_a_metric_more_is_the_same_row(runs: dict[str, Path], tmp_path: Path) -> None:
    run = _run(tmp_path / "more", Tone(checksum="1"), [8, 4], metrics=("fad", "clap", "kad"))
    whole = merged([load_run(runs["long"]), load_run(run)])
    assert whole.rows == load_run(runs["long"]).rows
    assert {column.metric for column in results_of(whole).columns} == {"fad", "clap", "kad"}
    assert all(estimate.value is not None for row in results_of(whole).rows for estimate in row.estimates.values())
    out = tmp_path / "packed"
    first = render([runs["long"], run], out).read_text()
    assert render(out).read_text() == first


def test_fidelity_to_another_teacher_is_left_out(runs: dict[str, Path], tmp_path: Path) -> None:
    metrics = ("clap", "fidelity_cosine")
    mine = _run(tmp_path / "mine", Tone(checksum="1"), [8, 4], metrics=metrics)
    same = _run(tmp_path / "same", Tone(checksum="1"), [8, 2], metrics=metrics)
    other = _run(tmp_path / "other", Loud(checksum="2"), [8, 1], metrics=metrics)
    rows = {str(row.key): {column.metric for column in row.estimates} for row in results_of(merged([*map(load_run, (mine, same, other))])).rows}
    assert rows["tone | 2 steps | guidance 3"] == {"clap", "fidelity_cosine"}
    assert rows["tone (other) | 1 step | guidance 3"] == {"clap"}
    assert "its fidelity is left out" in render([mine, other], tmp_path / "out").read_text()
    assert "its fidelity is left out" in render(tmp_path / "out").read_text()


def test_clipped_samples_are_counted(runs: dict[str, Path]) -> None:
    run = load_run(runs["loud"])
    (first, second) = run.clipped
    assert (first["row"], first["seed"], second["seed"], first["clips"]) == ("tone | 4 steps | guidance 3", 0, 1, 6)
    assert first["samples"] > 1000
    assert f"{first['samples'] + second['samples']} samples in 12 clips" in render(runs["loud"]).read_text()
    assert "No sample was beyond full scale" in render(runs["long"]).read_text()


def test_runs_on_other_clips_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fewer: was run on other clips than .*long"):
        render([runs["long"], runs["fewer"]], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="--out is missing"):
        render([runs["long"], runs["loud"]])
    with pytest.raises(ConfigError, match="is one of the runs"):
        render([runs["long"], runs["loud"]], runs["loud"])


def test_runs_under_another_protocol_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    other = load_run(runs["loud"])
    for key, score in other.scores.items():
        records = tuple(record.model_copy(update={"embedder_sha256": "0" * 64}) for record in score.records)
        other.scores[key] = replace(score, records=records)  # type: ignore[index]
    with pytest.raises(InputError, match=r"fad \(bundled\) was measured by another protocol, embedder or reference"):
        merged([load_run(runs["long"]), other])


def test_times_to_first_audio_stay_with_the_rows_that_are_new(runs: dict[str, Path]) -> None:
    def read(name: str, *rows: str) -> Any:
        run = load_run(runs[name])
        readings = [
            {"host": {"name": name}, "row": row, "batch": 1, "first_audio_s": 1.0, "seconds": 2.0, "audio_s": 2.0, "streams": True} for row in rows
        ]
        return replace(run, streams=readings)

    shared, mine, other = (f"tone | {steps} steps | guidance 3" for steps in (4, 8, 2))
    whole = merged([read("long", mine, shared), read("short", shared, other)])
    assert [(item["host"]["name"], item["row"]) for item in whole.streams] == [("long", mine), ("long", shared), ("short", other)]
    renamed = merged([load_run(runs["long"]), read("loud", shared)])
    assert [item["row"] for item in renamed.streams] == ["tone (loud) | 4 steps | guidance 3"]
