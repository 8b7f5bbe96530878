"""Sweeps of a toy bundle: what is done once, what is done again, and what a failure costs."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tta_bench
from tests.unit.harness.worlds import save_bundle
from tta_bench.audio import read_audio
from tta_bench.errors import ConfigError, InputError, WeightsError
from tta_bench.files import locked
from tta_bench.gate import judge
from tta_bench.harness import cell_audio
from tta_bench.harness.run_config import RunConfig, quickened, resolve_run
from tta_bench.harness.sweep import Sweep, sweep
from tta_bench.harness.synth_set import SynthSet, write_synth_set
from tta_bench.models.bundle import load_network, save_network
from tta_bench.models.denoiser import Denoiser
from tta_bench.records import read_records
from tta_bench.report.run_data import load_run
from tta_bench.report.speed import chosen_passes
from tta_bench.rows import load_scores
from tta_bench.systems.latent import LatentSystem
from tta_bench.systems.protocol import Clip

METRICS = ("fad", "kad", "kl", "clap", "fidelity_mel", "fidelity_cosine")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    save_bundle(folder)
    return folder


def config_of(bundle: Path, out: Path, **changes: Any) -> RunConfig:
    systems = [
        {"name": "teacher", "network": "teacher", "bundle": str(bundle), "steps": [4, 2]},
        {"name": "guided", "network": "guided", "bundle": str(bundle), "steps": [2]},
    ]
    values = {"out": str(out), "systems": systems, "clips": {"n": 6}, "seeds": [0, 1], "metrics": METRICS, "timing_repeats": 2, "batch_size": 4}
    return resolve_run(values | changes, "test", "test")


class Tone:
    """A system in ten lines."""

    name, sample_rate_hz = "tone", 16_000

    def __init__(self, checksum: str | None = None, broken: Sequence[str] = (), amplitude: float = 0.3) -> None:
        self.asked: list[str] = []
        self.broken, self.amplitude = broken, amplitude
        if checksum:
            self.checksum = checksum

    def generate(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[tuple[str, np.ndarray]]:
        self.asked += [clip.clip_id for clip in clips]
        for clip in clips:
            if clip.clip_id in self.broken:
                raise RuntimeError(f"no sound for {clip.clip_id}")
            rng = np.random.default_rng([seed, steps, *clip.clip_id.encode()])
            yield clip.clip_id, (self.amplitude * np.sin(0.05 * rng.uniform(1, 4) * np.arange(16_000))).astype(np.float32)


def tone_config(out: Path, **changes: Any) -> RunConfig:
    values = {"out": str(out), "systems": [{"name": "tone", "steps": [8, 2]}], "clips": {"n": 6}, "seeds": [0], "metrics": ("fad", "clap"),
              "timing_repeats": 0, "batch_size": 4, "anchors": False}  # fmt: skip
    return resolve_run(values | changes, "test", "test")


def _no_model_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a network was asked")

    monkeypatch.setattr(LatentSystem, "latents", refuse)
    monkeypatch.setattr("tta_bench.embedders.bundled.BundledEmbedder.embed", refuse)


def _comparable(result: Sweep) -> list[dict[str, Any]]:
    return [record.model_dump(exclude={"created", "run"}) for record in read_records(result.run / "records.jsonl")]


@pytest.fixture(scope="module")
def finished(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTA_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return sweep(config_of(bundle, tmp_path_factory.mktemp("runs") / "whole"))


@pytest.fixture
def copied(finished: Sweep, bundle: Path, tmp_path: Path) -> tuple[RunConfig, Sweep]:
    out = tmp_path / "copy"
    shutil.copytree(finished.run, out)
    return config_of(bundle, out), finished


def test_every_cell_has_every_score(finished: Sweep) -> None:
    assert finished.complete
    rows = load_scores(finished.run)
    found = {(key.row.system, key.row.steps, key.metric): len(score.records) for key, score in rows.items()}
    for system, steps in (("teacher", 2), ("guided", 2)):
        assert {metric: found[system, steps, metric] for metric in METRICS} == dict.fromkeys(METRICS, 2)
    assert ("teacher", 4, "fidelity_mel") not in found  # the target itself
    anchors = {key.row.system for key in rows if key.row.steps is None}
    assert anchors == {"real audio", "reconstruction", "codec on the reference"}
    assert len(finished.records) == finished.new == len(_comparable(finished))


def test_seeds_are_averaged_and_n_counts_clips(finished: Sweep) -> None:
    score = next(score for key, score in load_scores(finished.run).items() if key.row.system == "guided" and key.metric == "clap")
    assert [record.n for record in score.records] == [6, 6]
    assert score.contributions is not None
    assert score.contributions.shape == (2, 6)
    assert score.value == pytest.approx(np.mean([record.value for record in score.records]))
    assert score.per_clip is not None
    assert score.per_clip.mean() == pytest.approx(score.value, abs=1e-7)


def test_the_same_noise_whatever_the_seed_list(finished: Sweep, bundle: Path, tmp_path: Path) -> None:
    alone = sweep(config_of(bundle, tmp_path / "alone", seeds=[1], timing_repeats=0, anchors=False))
    hashes = {record.generated_sha256 for record in finished.records if record.seed == 1}
    assert {record.generated_sha256 for record in alone.records} <= hashes


def test_the_second_call_asks_no_network(copied: tuple[RunConfig, Sweep], monkeypatch: pytest.MonkeyPatch) -> None:
    config, first = copied
    before = {path: path.stat().st_mtime_ns for path in config.out.rglob("*.flac")}
    lines = (config.out / "records.jsonl").read_bytes()
    _no_model_work(monkeypatch)
    again = sweep(config)
    assert again.new == 0
    assert again.complete
    assert [record.key for record in again.records] == [record.key for record in first.records]
    assert (config.out / "records.jsonl").read_bytes() == lines
    assert {path: path.stat().st_mtime_ns for path in config.out.rglob("*.flac")} == before


def test_scores_equal_those_of_evaluate_on_the_audio_that_was_written(finished: Sweep, tmp_path: Path) -> None:
    record = next(record for record in finished.records if record.system == "guided" and record.seed == 1)
    folder = finished.run / "cells" / record.cell / "audio"
    reference = finished.run / "reference" / "audio"
    metrics = ("fad", "kad", "kl", "clap")
    told = tta_bench.evaluate(
        folder, reference, captions=reference / "captions.csv", embedders=["bundled"], metrics=metrics, out=tmp_path / "evaluated"
    )
    swept = {item.metric: item for item in finished.records if item.cell == record.cell}
    for item in told.records:
        assert (item.value, item.std_error, item.n) == (swept[item.metric].value, swept[item.metric].std_error, swept[item.metric].n)
        assert item.reference_sha256 == swept[item.metric].reference_sha256
        assert item.generated_sha256 == swept[item.metric].generated_sha256


def test_fidelity_is_to_the_teacher_of_the_same_seed(finished: Sweep, tmp_path: Path) -> None:
    for seed in (0, 1):
        target = next(record for record in finished.records if (record.system, record.steps, record.seed) == ("teacher", 4, seed))
        swept = [record for record in finished.records if record.system == "guided" and record.seed == seed]
        folder, teacher = (finished.run / "cells" / cell / "audio" for cell in (swept[0].cell, target.cell))
        metrics = ("fidelity_mel", "fidelity_cosine")
        told = tta_bench.evaluate(folder, teacher, embedders=["bundled", "log_mel"], metrics=metrics, out=tmp_path / str(seed))
        evaluated = {(item.metric, item.embedder): item.value for item in told.records}
        for metric, embedder in (("fidelity_mel", "log_mel"), ("fidelity_cosine", "bundled")):
            assert [record.value for record in swept if record.metric == metric] == [evaluated[metric, embedder]]


def test_lost_records_are_scored_again_without_generating(copied: tuple[RunConfig, Sweep], monkeypatch: pytest.MonkeyPatch) -> None:
    config, first = copied
    path = config.out / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-9]) + lines[-9][:40])  # and a torn one
    monkeypatch.setattr(LatentSystem, "latents", None)
    again = sweep(config)
    assert again.new == 9
    assert _comparable(again) == _comparable(first)


def test_a_lost_or_changed_clip_costs_its_cell_only(copied: tuple[RunConfig, Sweep], monkeypatch: pytest.MonkeyPatch) -> None:
    config, first = copied
    cell = first.records[-1].cell
    clip = next((config.out / "cells" / cell / "audio").glob("*.flac"))
    content = clip.read_bytes()
    clip.unlink()
    made = []
    generate = cell_audio.generate_cell
    monkeypatch.setattr("tta_bench.harness.sweep.generate_cell", lambda cell, *rest: (made.append(cell.cell_id), generate(cell, *rest))[1])
    sweep(config)
    assert made == [cell]
    assert clip.read_bytes() == content


def test_audio_of_other_content_is_never_scored(copied: tuple[RunConfig, Sweep]) -> None:
    config, first = copied
    folder = config.out / "cells" / first.records[-1].cell
    clip, other = sorted((folder / "audio").glob("*.flac"))[:2]
    content = clip.read_bytes()
    clip.write_bytes(other.read_bytes())
    shutil.rmtree(folder / "features")
    (config.out / "records.jsonl").unlink()
    assert _comparable(sweep(config)) == _comparable(first)
    assert clip.read_bytes() == content


def test_a_metric_that_is_added_later_costs_no_generation(copied: tuple[RunConfig, Sweep], monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = copied
    monkeypatch.setattr(LatentSystem, "latents", None)
    again = sweep(config.model_copy(update={"metrics": (*METRICS, "coverage")}))
    assert {record.metric for record in again.records} == {*METRICS, "coverage"}
    assert again.new == sum(record.metric == "coverage" for record in again.records)


def test_timing_passes_hold_the_target_and_every_row(copied: tuple[RunConfig, Sweep]) -> None:
    config, _ = copied
    passes = json.loads((config.out / "timing.json").read_text())["passes"]
    assert [(item["batch"], item["source"]) for item in passes] == [(1, "passes")] * 2 + [(4, "passes")] * 2
    for item in passes:
        assert set(item["rows"]) == {"teacher | 4 steps | guidance 3", "teacher | 2 steps | guidance 3", "guided | 2 steps | guidance 3"}
        assert all(row["sampling_s"] > 0 and row["decoding_s"] > 0 and row["clips"] == item["batch"] for row in item["rows"].values())
    sweep(config.model_copy(update={"timing_repeats": 3}))
    assert len(json.loads((config.out / "timing.json").read_text())["passes"]) == 6  # one more for either batch


def test_a_clip_too_short_to_score_is_left_out_alone(tmp_path: Path) -> None:
    class Short(Tone):
        def generate(self, clips: Any, *, steps: int, guidance_scale: float, seed: int) -> Any:
            for clip_id, samples in super().generate(clips, steps=steps, guidance_scale=guidance_scale, seed=seed):
                yield clip_id, samples[:10] if clip_id == "test-000003" else samples

    result = sweep(tone_config(tmp_path / "run"), {"tone": Short(checksum="1")})
    assert {item["clip_id"] for item in result.failures} == {"test-000003"}
    assert "the audio has 10 samples, and embedders need 1600" in result.failures[0]["message"]
    assert {(record.n, record.n_excluded) for record in result.records} == {(5, 1)}


def test_a_network_that_is_replaced_meanwhile_is_not_taken_for_the_planned_one(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    config = config_of(tmp_path / "bundle", tmp_path / "run", seeds=[0], timing_repeats=0)
    mine = ("format", "kind", "name", "shape", "parameters", "bytes", "sha256", "card_sha256")
    swapped = False

    def swap(task: str, done: int, total: int, note: str = "") -> None:
        nonlocal swapped
        if not swapped and "guided" not in note and (tmp_path / "run" / "plan.json").exists():
            swapped = True
            network, card = load_network(tmp_path / "bundle", "guided", Denoiser)
            with torch.no_grad():
                next(network.parameters()).mul_(1.5)
            save_network(tmp_path / "bundle", "guided", network, {key: card[key] for key in card if key not in mine})

    result = sweep(config, progress=swap)
    assert swapped
    assert {item["row"] for item in result.failures} == {"guided | 2 steps | guidance 3"}
    assert all("was replaced while the run was at work" in item["message"] for item in result.failures)


def test_what_works_one_by_one_but_not_in_a_batch_costs_its_times_alone(tmp_path: Path) -> None:
    class Large(Tone):
        def generate(self, clips: Any, *, steps: int, guidance_scale: float, seed: int) -> Any:
            if len(clips) > 1 and steps == 2:
                raise RuntimeError("out of memory")
            return super().generate(clips, steps=steps, guidance_scale=guidance_scale, seed=seed)

    result = sweep(tone_config(tmp_path / "run", timing_repeats=2), {"tone": Large(checksum="1")})
    assert [(item["row"], item["message"]) for item in result.failures] == [
        ("tone | 2 steps | guidance 3", "could not be timed, 4 clips at a time: RuntimeError: out of memory")
    ]
    assert {(record.n, record.n_excluded) for record in result.records} == {(6, 0)}
    passes = json.loads((tmp_path / "run" / "timing.json").read_text())["passes"]
    assert [len(item["rows"]) for item in passes] == [2, 2, 1, 1]


def test_a_clip_that_was_not_asked_for_or_no_pair_is_said(tmp_path: Path) -> None:
    class Other(Tone):
        def generate(self, clips: Any, *, steps: int, guidance_scale: float, seed: int) -> Any:
            made = super().generate(clips, steps=steps, guidance_scale=guidance_scale, seed=seed)
            return (("zzz", samples) if steps == 2 else samples for _, samples in made)

    messages = {item["message"] for item in sweep(tone_config(tmp_path / "run"), {"tone": Other(checksum="1")}).failures}
    assert messages == {"the system gave a clip that was not asked for, zzz", "the system's generate must give pairs (clip_id, audio)"}


def test_a_manifest_without_a_number_is_taken_whole(tmp_path: Path) -> None:
    write_synth_set(SynthSet(out=tmp_path / "clips", n=7, split="val"))
    config = tone_config(tmp_path / "run", clips={"manifest": str(tmp_path / "clips" / "captions.csv")})
    assert {record.n for record in sweep(config, {"tone": Tone(checksum="1")}).records} == {7}
    assert quickened(config).clips.n == 7
    assert config_of(tmp_path, tmp_path / "run", clips={}).clips.n == 256


def test_a_clip_given_twice_is_said(tmp_path: Path) -> None:
    class Twice(Tone):
        def generate(self, clips: Any, *, steps: int, guidance_scale: float, seed: int) -> Any:
            first, *rest = super().generate(clips, steps=steps, guidance_scale=guidance_scale, seed=seed)
            yield from (first, first, *rest)

    result = sweep(tone_config(tmp_path / "run"), {"tone": Twice(checksum="1")})
    assert {item["message"] for item in result.failures} == {"the system gave test-000000 twice in one call; it must give each clip once"}


def test_what_was_damaged_is_made_again(copied: tuple[RunConfig, Sweep]) -> None:
    config, before = copied
    clip = config.out / "reference" / "audio" / "test-000000.flac"
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    values = next(config.out.glob("cells/*/clips.npz"))
    values.write_bytes(values.read_bytes()[:100])
    (config.out / "timing.json").write_text("{")
    result = sweep(config)
    assert result.complete
    assert clip.read_bytes() == whole
    assert _comparable(result) == _comparable(before)
    assert json.loads((config.out / "timing.json").read_text())["passes"]


@pytest.mark.parametrize("rate", [0, "16k", 16_000.5, True])
def test_an_impossible_rate_is_said_before_anything_is_generated(tmp_path: Path, rate: Any) -> None:
    tone = Tone(checksum="1")
    tone.sample_rate_hz = rate
    with pytest.raises(ConfigError, match="systems: sample_rate_hz of tone is"):
        sweep(tone_config(tmp_path / "run"), {"tone": tone})
    assert not tone.asked


def test_other_captions_are_another_measurement(bundle: Path, tmp_path: Path, copied: tuple[RunConfig, Sweep]) -> None:
    """Clip ids of SynthCaps are the same for every seed; the captions are not."""
    metrics = ["is_1_split", "fidelity_mel", "fidelity_cosine"]
    for seed in (0, 1):
        sweep(config_of(bundle, tmp_path / f"run{seed}", clips={"n": 6, "seed": seed}, metrics=metrics, timing_repeats=0))
    verdicts = judge(load_scores(tmp_path / "run0"), load_scores(tmp_path / "run1"))
    assert {item.verdict for item in verdicts} == {"INCOMPARABLE"}
    assert any("another captions" in item.reason for item in verdicts)


def test_a_seed_that_failed_blocks_and_is_no_baseline(tmp_path: Path) -> None:
    class Moody(Tone):
        def generate(self, clips: Any, *, steps: int, guidance_scale: float, seed: int) -> Any:
            if seed == 1:
                raise RuntimeError("not today")
            return super().generate(clips, steps=steps, guidance_scale=guidance_scale, seed=seed)

    config = tone_config(tmp_path / "good", seeds=[0, 1])
    sweep(config, {"tone": Tone(checksum="1")})
    sweep(config.model_copy(update={"out": tmp_path / "half"}), {"tone": Moody(checksum="1")})
    verdicts = judge(load_scores(tmp_path / "good"), load_scores(tmp_path / "half"))
    assert {(item.verdict, item.reason) for item in verdicts} == {("NOT_FINITE", "incomplete: 1 of 2 seeds have it")}


def test_times_of_the_generation_do_not_displace_measured_ones(bundle: Path, tmp_path: Path) -> None:
    for repeats in (0, 1, 0):
        sweep(config_of(bundle, tmp_path / "run", timing_repeats=repeats, metrics=["clap"], anchors=False))
    passes = json.loads((tmp_path / "run" / "timing.json").read_text())["passes"]
    assert [item["source"] for item in passes] == ["passes"] * 2 + ["generation"] * 2  # batches of 1 and of 4; a full batch of each seed
    large, small = chosen_passes(load_run(tmp_path / "run"))
    assert [(item["source"], item["batch"]) for item in (*large, *small)] == [("passes", 4), ("passes", 1)]


def test_a_system_of_ones_own_and_a_clip_that_fails(tmp_path: Path) -> None:
    tone = Tone(checksum="1", broken=["test-000002"])
    result = sweep(tone_config(tmp_path / "run"), {"tone": tone})
    assert not result.complete
    assert {(item["clip_id"], item["message"]) for item in result.failures} == {("test-000002", "RuntimeError: no sound for test-000002")}
    assert {(record.n, record.n_excluded) for record in result.records} == {(5, 1)}
    tone.broken = []
    again = sweep(tone_config(tmp_path / "run"), {"tone": tone})
    assert again.complete
    assert {(record.n, record.n_excluded) for record in again.records} == {(6, 0)}


def test_a_cell_that_fails_costs_no_other(tmp_path: Path) -> None:
    class Picky(Tone):
        def generate(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[tuple[str, np.ndarray]]:
            if steps == 8:
                raise MemoryError("no room")
            return super().generate(clips, steps=steps, guidance_scale=guidance_scale, seed=seed)

    result = sweep(tone_config(tmp_path / "run"), {"tone": Picky(checksum="1")})
    assert {record.steps for record in result.records} == {2}
    assert any("none of its clips" in item["message"] for item in result.failures)
    assert all("8 steps" in item["row"] for item in result.failures)


@pytest.mark.parametrize("samples", [np.full(16_000, np.nan, np.float32), np.zeros(0, np.float32), np.zeros((2, 16_000), np.float32), [0.0], None])
def test_audio_that_is_none_fails_its_clip(tmp_path: Path, samples: Any) -> None:
    class Odd(Tone):
        def generate(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[tuple[str, Any]]:
            for clip_id, audio in super().generate(clips, steps=steps, guidance_scale=guidance_scale, seed=seed):
                if clip_id != "test-000003":
                    yield clip_id, audio
                elif samples is not None:
                    yield clip_id, samples

    result = sweep(tone_config(tmp_path / "run"), {"tone": Odd(checksum="1")})
    assert {item["clip_id"] for item in result.failures} == {"test-000003"}
    assert {record.n for record in result.records} == {5}


def test_without_a_checksum_nothing_is_taken_for_granted(tmp_path: Path) -> None:
    tone = Tone()
    sweep(tone_config(tmp_path / "run"), {"tone": tone})
    asked = len(tone.asked)
    sweep(tone_config(tmp_path / "run"), {"tone": tone})
    assert len(tone.asked) == 2 * asked
    named = Tone(checksum="1")
    sweep(tone_config(tmp_path / "named"), {"tone": named})
    asked = len(named.asked)
    sweep(tone_config(tmp_path / "named"), {"tone": named})
    assert len(named.asked) == asked


def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path: Path) -> None:
    result = sweep(tone_config(tmp_path / "run"), {"tone": Tone(checksum="1", amplitude=1.5)})
    cell = result.run / "cells" / result.records[0].cell
    assert all(count > 0 for count in json.loads((cell / "generation.json").read_text())["clipped"].values())
    assert np.abs(read_audio(next((cell / "audio").glob("*.flac"))).samples).max() <= 1.0


def _hold(folder: Path, ready: Any, done: Any) -> None:
    with locked(folder, "--out"):
        ready.set()
        done.wait(30)


def test_a_folder_that_another_process_works_in_is_left_alone(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(tmp_path / "run", ready, done))
    other.start()
    try:
        assert ready.wait(30)
        with pytest.raises(InputError, match="another process is at work in this folder"):
            sweep(tone_config(tmp_path / "run"), {"tone": Tone(checksum="1")})
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    finally:
        done.set()
        other.join()
    assert sweep(tone_config(tmp_path / "run"), {"tone": Tone(checksum="1")}).complete


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(tmp_path / "run", ready, done))
    other.start()
    assert ready.wait(30)
    other.kill()
    other.join()
    with locked(tmp_path / "run", "--out"):
        pass


def test_what_cannot_be_run_is_said_before_anything_is_generated(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="baseline = 'min_snr' is none of the weightings"):
        sweep(config_of(bundle, tmp_path / "a", baseline="min_snr"))
    with pytest.raises(ConfigError, match="guided was distilled for 1 to 6, not 7"):
        sweep(config_of(bundle, tmp_path / "b", guidance_scales=[7.0]))
    with pytest.raises(WeightsError, match=r"nothing\.json"):
        sweep(config_of(bundle, tmp_path / "c", systems=[{"name": "x", "network": "nothing", "bundle": str(bundle), "steps": [2]}]))
    with pytest.raises(ConfigError, match="of kind codec, not a denoiser"):
        sweep(config_of(bundle, tmp_path / "d", systems=[{"name": "x", "network": "codec", "bundle": str(bundle), "steps": [2]}]))
    with pytest.raises(ConfigError, match="no object of that name was passed"):
        sweep(config_of(bundle, tmp_path / "e", systems=[{"name": "x", "steps": [2]}]))
    with pytest.raises(ConfigError, match="tone was passed, and no entry"):
        sweep(config_of(bundle, tmp_path / "f"), {"tone": Tone()})
    with pytest.raises(ConfigError, match="kl needs an embedder with class logits"):
        sweep(config_of(bundle, tmp_path / "g", embedders=["mel"]))
    assert not list(tmp_path.glob("*/cells"))


def test_a_manifest_as_clips_and_other_recordings_as_the_row_of_real_audio(tmp_path: Path) -> None:
    from tta_bench.harness.synth_set import SynthSet, write_synth_set

    own = write_synth_set(SynthSet(out=tmp_path / "own", n=6, split="test"))
    other = write_synth_set(SynthSet(out=tmp_path / "other", n=6, split="val"))
    clips = {"manifest": str(own), "n": 6, "real": str(other)}
    result = sweep(tone_config(tmp_path / "run", clips=clips, anchors=True, metrics=("fad", "kl", "clap")), {"tone": Tone(checksum="1")})
    assert result.complete
    found = {(record.system, record.metric) for record in result.records}
    assert ("real audio", "fad") in found
    assert ("real audio", "clap") in found
    assert ("real audio", "kl") not in found  # other captions: there is no pair
    with pytest.raises(InputError, match="holds 6 recordings of the reference too"):
        sweep(tone_config(tmp_path / "twice", clips={**clips, "real": str(own)}, anchors=True), {"tone": Tone(checksum="1")})
    with pytest.raises(ConfigError, match=r"clips.n = 7: .* lists 6 clips"):
        sweep(tone_config(tmp_path / "many", clips={**clips, "n": 7}), {"tone": Tone(checksum="1")})
