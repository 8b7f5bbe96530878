from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import soundfile

import tta_bench
from tests.unit.harness.toys import ToyEmbedder, make_folder
from tta_bench.audio import read_audio, resample, write_audio
from tta_bench.embedders.protocol import Features
from tta_bench.errors import AudioError, InputError, MetricError
from tta_bench.harness.evaluate import Evaluation
from tta_bench.metrics.alignment import clap_score
from tta_bench.metrics.divergence import kl_divergence
from tta_bench.metrics.frechet import frechet_distance
from tta_bench.metrics.kernel import kernel_distance
from tta_bench.records import read_records
from tta_bench.terminal import print_evaluation


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return make_folder(tmp_path / "generated", seed=1), make_folder(tmp_path / "reference", seed=2)


def _run(folders: tuple[Path, Path], tmp_path: Path, toy: ToyEmbedder | None = None, **options: Any) -> Evaluation:
    return tta_bench.evaluate(*folders, embedders=[toy or ToyEmbedder()], out=tmp_path / "run", **options)


def _by_metric(result: Evaluation) -> dict[str, Any]:
    return {record.metric: record for record in result.records}


def _captions(path: Path, ids: list[str]) -> Path:
    path.write_text("clip_id,caption\n" + "".join(f"{clip_id},{'a' * (i + 1)}\n" for i, clip_id in enumerate(ids)))
    return path


def test_scores_are_those_of_the_plain_functions(folders: tuple[Path, Path], tmp_path: Path) -> None:
    ids = sorted(path.stem for path in folders[0].iterdir())
    result = _run(folders, tmp_path, captions=_captions(tmp_path / "c.csv", ids))
    toy, features = ToyEmbedder(), []
    for folder in folders:
        audio = [read_audio(folder / f"{clip_id}.flac").samples for clip_id in ids]
        features.append([toy.embed(samples[None], np.array([len(samples)])) for samples in audio])
    generated, reference = features
    rows = [np.concatenate([part.embeddings[0] for part in side]) for side in (reference, generated)]
    means = [np.stack([part.embeddings[0].mean(axis=0, dtype=np.float64) for part in side]) for side in (reference, generated)]
    logits = [np.concatenate([part.logits for part in side]) for side in (reference, generated)]
    found = _by_metric(result)
    assert found["fad"].value == pytest.approx(frechet_distance(*rows), rel=1e-9)
    assert found["kad"].value == pytest.approx(kernel_distance(*means), rel=1e-9)
    assert found["kl"].value == pytest.approx(kl_divergence(*logits), rel=1e-9)
    text, joint = toy.embed_text(["a" * (i + 1) for i in range(12)]), np.concatenate([part.joint for part in generated])
    assert found["clap"].value == pytest.approx(clap_score(text, joint), rel=1e-6)
    assert list(found) == ["fad", "kad", "kl", "is", "clap"]
    assert isinstance(result.frame(), pandas.DataFrame)


def test_every_record_says_what_it_is(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = _by_metric(_run(folders, tmp_path))
    fad, inception = found["fad"], found["is"]
    assert (fad.system, fad.reference, fad.family, fad.embedder, fad.n, fad.n_reference) == ("generated", "reference", "folder", "toy", 12, 12)
    assert fad.protocol == "frechet_patches"
    assert len(fad.generated_sha256) == len(fad.reference_sha256) == 64
    assert inception.reference is inception.reference_sha256 is inception.n_reference is None
    assert fad.code_version.startswith(tta_bench.__version__ + "+")
    run = tmp_path / "run"
    assert read_records(run / "records.jsonl") == list(found.values())
    assert "numpy" in json.loads((run / "environment.json").read_text())["packages"]
    with np.load(run / "cells" / fad.cell / "clips.npz") as values:
        assert values[f"{fad.values_name}/values"].mean() == pytest.approx(fad.value)
        assert list(values[f"{fad.values_name}/clip_ids"]) == [f"clip{i:02d}" for i in range(12)]


def test_the_same_call_again_computes_nothing(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first = _run(folders, tmp_path)
    toy = ToyEmbedder()
    again = _run(folders, tmp_path, toy)
    assert toy.batches == []
    assert again.records == first.records
    assert again.reused == 4
    more = _run(folders, tmp_path, toy, metrics=["fad", "coverage"])
    assert toy.batches == []
    assert [record.metric for record in read_records(tmp_path / "run" / "records.jsonl")] == ["fad", "kad", "kl", "is", "coverage"]
    assert more.reused == 1


def test_touching_embeds_nothing_and_editing_in_place_embeds_that_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first = _by_metric(_run(folders, tmp_path))["fad"]
    edited = folders[0] / "clip03.flac"
    before = edited.stat()
    os.utime(edited, (time.time() + 100, time.time() + 100))
    toy = ToyEmbedder()
    assert _by_metric(_run(folders, tmp_path, toy))["fad"] == first
    assert toy.batches == []
    samples = read_audio(edited).samples.copy()
    samples[1000:3000] = 0.9
    write_audio(edited, samples, 8_000)
    os.utime(edited, ns=(before.st_atime_ns, before.st_mtime_ns))  # same path, same time: other content
    second = _by_metric(_run(folders, tmp_path, toy))["fad"]
    assert toy.batches == [1]
    assert second.value != first.value
    assert second.cell != first.cell
    fresh = _by_metric(tta_bench.evaluate(*folders, embedders=[ToyEmbedder()], out=tmp_path / "fresh"))["fad"]
    assert fresh.value == second.value


def test_batch_size_and_folder_order_change_no_score(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = []
    for size in (1, 5, 64):
        monkeypatch.setenv("TTA_BENCH_CACHE", str(tmp_path / f"cache{size}"))
        result = tta_bench.evaluate(*folders, embedders=[ToyEmbedder()], out=tmp_path / f"run{size}", batch_size=size)
        scores.append([record.value for record in result.records if record.status == "ok"])
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
    np.testing.assert_allclose(scores[0], scores[2], rtol=1e-5)


def test_a_copy_elsewhere_scores_from_the_cache(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _run(folders, tmp_path)
    shutil.copytree(folders[0], tmp_path / "copy")
    toy = ToyEmbedder()
    tta_bench.evaluate(tmp_path / "copy", folders[1], embedders=[toy], out=tmp_path / "run2")
    assert toy.batches == []


def test_folders_without_common_ids_are_unpaired_not_paired_by_order(tmp_path: Path) -> None:
    folders = make_folder(tmp_path / "generated", seed=1), make_folder(tmp_path / "reference", seed=2, prefix="other")
    result = _run(folders, tmp_path)
    record = _by_metric(result)["kl"]
    assert (record.status, record.value, record.n) == ("unpaired", None, 0)
    assert _by_metric(result)["fad"].status == "ok"
    again = _run(folders, tmp_path)
    assert len(read_records(tmp_path / "run" / "records.jsonl")) == len(again.records) == 4
    with pytest.raises(InputError, match="--metric kl compares pairs, and the two folders share no clip ids"):
        _run(folders, tmp_path, metrics=["kl"])


def test_a_missing_partner_is_an_error_that_lists_it(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[1] / "clip04.flac").unlink()
    toy = ToyEmbedder()
    with pytest.raises(InputError, match="kl compares pairs, and 1 clips have no partner: clip04"):
        _run(folders, tmp_path, toy)
    assert toy.batches == []
    assert _by_metric(_run(folders, tmp_path, metrics=["fad"]))["fad"].n_reference == 11


def test_bad_files_stop_or_are_left_out_counted_and_listed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[0] / "clip05.flac").write_bytes(b"")
    write_audio(folders[0] / "clip06.flac", np.zeros(100), 8_000)
    (folders[1] / "clip07.flac").write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"clip07\.flac: cannot be decoded"):
        _run(folders, tmp_path)
    result = _run(folders, tmp_path, skip_bad=True)
    found = _by_metric(result)
    assert (found["fad"].n, found["fad"].n_excluded) == (10, 2)
    assert (found["fad"].n_reference, found["fad"].n_reference_excluded) == (11, 1)
    assert found["kl"].n == 9  # a pair needs both sides
    listed = json.loads((tmp_path / "run" / "cells" / found["fad"].cell / "clips.json").read_text())
    assert {(item["clip_id"], item["kind"]) for item in listed["excluded"]} == {("clip05", "empty"), ("clip06", "too_short")}
    assert "embedder toy needs 0.100 s" in next(item["message"] for item in listed["excluded"] if item["kind"] == "too_short")
    clean = tmp_path / "clean"
    shutil.copytree(folders[0], clean)
    for name in ("clip05", "clip06"):
        (clean / f"{name}.flac").unlink()
    shutil.copytree(folders[1], tmp_path / "clean_ref")
    (tmp_path / "clean_ref" / "clip07.flac").unlink()
    alone = tta_bench.evaluate(clean, tmp_path / "clean_ref", embedders=[ToyEmbedder()], metrics=["fad"], out=tmp_path / "run2")
    assert alone.records[0].value == found["fad"].value


@pytest.mark.parametrize(("seconds", "told"), [(1.0, True), (0.55, False), (0.46, False), (0.44, True)])
def test_clips_of_other_length_are_told(tmp_path: Path, seconds: float, told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        write_audio(tmp_path / "reference" / f"{i}.flac", 0.3 * rng.standard_normal(4_000), 8_000)
        write_audio(tmp_path / "generated" / f"{i}.flac", 0.3 * rng.standard_normal(round(8_000 * seconds)), 8_000)
    result = _run((tmp_path / "generated", tmp_path / "reference"), tmp_path)
    said = f"generated clips last {seconds:g} s on average, the reference's 0.5 s"
    assert any(said in note for note in result.notes) is told
    listed = json.loads((tmp_path / "run" / "cells" / result.records[0].cell / "clips.json").read_text())
    assert any(said in note for note in listed["notes"]) is told
    print_evaluation(result)
    assert (said in " ".join(capsys.readouterr().out.split())) is told


def test_silence_is_valid_audio_counted_and_listed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_audio(folders[0] / "clip02.flac", np.zeros(4_000), 8_000)
    write_audio(folders[0] / "clip03.flac", np.r_[np.full(1_000, 0.3), np.zeros(3_000)], 8_000)
    result = _run(folders, tmp_path)
    assert result.generated.mostly_silent == ["clip02", "clip03"]
    assert _by_metric(result)["fad"].n == 12
    listed = json.loads((tmp_path / "run" / "cells" / result.records[0].cell / "clips.json").read_text())
    shares = {clip["clip_id"]: clip["silent_share"] for clip in listed["clips"]}
    assert (shares["clip02"], shares["clip03"]) == (1.0, 0.75)
    assert shares["clip00"] < 0.1


def test_captions_without_a_joint_space_are_checked_and_said_to_need_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    ids = [path.stem for path in folders[0].iterdir()]
    result = tta_bench.evaluate(*folders, captions=_captions(tmp_path / "c.csv", ids), out=tmp_path / "run")
    assert [record.metric for record in result.records] == ["fad", "kad"]
    assert "not computed: clap needs an embedder with a joint text-audio space, and mel has none" in result.notes
    with pytest.raises(InputError, match="clap needs an embedder with a joint"):
        tta_bench.evaluate(*folders, captions=tmp_path / "c.csv", metrics=["clap"], out=tmp_path / "run")
    with pytest.raises(InputError, match="--metric clap compares with captions"):
        _run(folders, tmp_path, metrics=["clap"])
    with pytest.raises(InputError, match="1 of 12 clips have no caption: clip11"):
        tta_bench.evaluate(*folders, captions=_captions(tmp_path / "d.csv", sorted(ids)[:-1]), out=tmp_path / "run")


def test_too_few_clips_for_a_default_metric_is_a_status_and_by_name_an_error(tmp_path: Path) -> None:
    folders = make_folder(tmp_path / "g", n=4, seed=1), make_folder(tmp_path / "r", n=4, seed=2)
    record = _by_metric(_run(folders, tmp_path))["is"]
    assert record.status == "too_few_clips"
    assert "10 splits needs at least 20 clips, got 4" in (record.message or "")
    for _ in range(2):
        with pytest.raises(MetricError, match=r"--metric is: .*at least 20 clips"):
            _run(folders, tmp_path, metrics=["is"])


def test_an_embedder_that_breaks_its_word_is_an_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    class Short(ToyEmbedder):
        def embed(self, audio: np.ndarray, lengths: np.ndarray) -> Features:
            features = super().embed(audio, lengths)
            return Features(features.embeddings[:-1], features.logits, features.joint)

    class Infinite(ToyEmbedder):
        def embed(self, audio: np.ndarray, lengths: np.ndarray) -> Features:
            features = super().embed(audio, lengths)
            features.embeddings[0][0, 0] = np.inf
            return features

    with pytest.raises(InputError, match="one of each for every clip"):
        _run(folders, tmp_path, Short())
    with pytest.raises(InputError, match=r"NaN or infinity in the embeddings of .*clip00\.flac"):
        _run(folders, tmp_path, Infinite())


def test_other_rates_are_resampled_with_a_filter(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A folder at 48 kHz with the same sounds scores nearly the same; a tone above the embedder's Nyquist frequency does not appear."""
    high = tmp_path / "high"
    for path in sorted(folders[0].iterdir()):
        samples = resample(read_audio(path).samples, 8_000, 48_000)
        ultrasound = 0.2 * np.sin(2 * np.pi * 15_000 * np.arange(len(samples)) / 48_000)
        write_audio(high / path.name, samples + ultrasound, 48_000)
    plain = _by_metric(_run(folders, tmp_path))["fad"]
    resampled = _by_metric(tta_bench.evaluate(high, folders[1], embedders=[ToyEmbedder()], out=tmp_path / "run2"))["fad"]
    assert plain.std_error is not None
    assert abs(resampled.value - plain.value) < 0.2 * plain.std_error


def test_folders_of_the_same_names_get_runs_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = []
    for place in ("one", "two", "one"):
        if not (tmp_path / place).exists():
            make_folder(tmp_path / place / "g", seed=len(place))
            make_folder(tmp_path / place / "r", seed=9)
        runs.append(tta_bench.evaluate(f"{place}/g", f"{place}/r", embedders=[ToyEmbedder()]).run.name)
    assert runs == ["g-vs-r", "g-vs-r-2", "g-vs-r"]


def test_values_of_two_references_do_not_replace_each_other(folders: tuple[Path, Path], tmp_path: Path) -> None:
    other = make_folder(tmp_path / "other", seed=5)
    records = [tta_bench.evaluate(folders[0], side, embedders=[ToyEmbedder()], out=tmp_path / "run").records[0] for side in (folders[1], other)]
    assert records[0].cell == records[1].cell
    with np.load(tmp_path / "run" / "cells" / records[0].cell / "clips.npz") as values:
        for record in records:
            assert values[f"{record.values_name}/values"].mean() == pytest.approx(record.value)


def test_what_could_be_computed_is_kept_when_a_named_metric_fails(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(MetricError, match=r"--metric kid: .*at least 50 clips"):
        _run(folders, tmp_path, metrics=["kid", "fad"])
    assert [record.metric for record in read_records(tmp_path / "run" / "records.jsonl") if record.status == "ok"] == ["fad"]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"x" * 99])
def test_damaged_values_are_made_again(folders: tuple[Path, Path], tmp_path: Path, damage: bytes) -> None:
    first = _run(folders, tmp_path)
    path = tmp_path / "run" / "cells" / first.records[0].cell / "clips.npz"
    before = dict(np.load(path))
    path.write_bytes(damage)
    assert _by_metric(_run(folders, tmp_path)) == _by_metric(first)
    after = dict(np.load(path))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_damaged_cache_and_pack_are_made_again(folders: tuple[Path, Path], tmp_path: Path, cache: Path) -> None:
    first = _by_metric(_run(folders, tmp_path))
    for path in [*cache.rglob("*.safetensors"), *(tmp_path / "run").rglob("*.safetensors")]:
        data = bytearray(path.read_bytes())
        data[-2] ^= 0x5A
        path.write_bytes(data)
    (tmp_path / "run" / "records.jsonl").unlink()
    toy = ToyEmbedder()
    again = _by_metric(_run(folders, tmp_path, toy))
    assert sum(toy.batches) == 24
    assert {name: record.value for name, record in again.items()} == {name: record.value for name, record in first.items()}


def test_samples_far_beyond_full_scale_are_listed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    soundfile.write(folders[0] / "loud.wav", 32768 * np.random.default_rng(0).uniform(-0.5, 0.5, 8_000), 8_000, subtype="FLOAT")
    result = _run(folders, tmp_path, metrics=["fad"])
    assert result.generated.too_loud == ["loud"]


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("name", "../x", "embedder name '../x' must be letters"),
        ("checksum", "", "must have a checksum"),
        ("provides", frozenset({"logits"}), "provides"),
    ],
)
def test_embedders_that_cannot_be_stored_are_errors(folders: tuple[Path, Path], tmp_path: Path, attribute: str, value: object, message: str) -> None:
    toy = ToyEmbedder()
    setattr(toy, attribute, value)
    with pytest.raises(InputError, match=message):
        _run(folders, tmp_path, toy)
    with pytest.raises(InputError, match="is no embedder; see"):
        _run(folders, tmp_path, object())  # type: ignore[arg-type]
