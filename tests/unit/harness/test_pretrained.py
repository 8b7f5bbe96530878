"""Runs of pretrained pipelines and of finished audio, beside each other."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tta_bench
from tests.unit.systems.pipelines import CAPTIONS, stable_audio, write_audioldm, write_tango
from tta_bench.audio import read_audio, write_audio
from tta_bench.errors import ConfigError, ExtraMissing, InputError, WeightsError
from tta_bench.harness.run_config import RunConfig, input_files, resolve_run
from tta_bench.harness.sweep import sweep
from tta_bench.report.render import render
from tta_bench.rows import load_scores
from tta_bench.systems.diffusers import DiffusersSystem, load_diffusers
from tta_bench.systems.hf import quiet
from tta_bench.systems.protocol import Clip

pytest.importorskip("diffusers")

AUDIO_S = 0.5
IDS = [f"clip{i}" for i in range(6)]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audioldm(tmp_path_factory.mktemp("pipelines") / "audioldm")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for clip_id in IDS:
        write_audio(folder / f"{clip_id}.flac", 0.3 * rng.standard_normal(8000), 16_000)
    lines = [f'{clip_id},{clip_id}.flac,"{CAPTIONS[i % 3]}"' for i, clip_id in enumerate(IDS)]
    (folder / "clips.csv").write_text("\n".join(["clip_id,file,caption", *lines]))
    return folder / "clips.csv"


def config_of(out: Path, manifest: Path, systems: list[dict[str, Any]], **changes: Any) -> RunConfig:
    values = {
        "out": str(out), "systems": systems, "clips": {"manifest": str(manifest)}, "seeds": [0], "guidance_scales": [2.5],
        "metrics": ["fad", "kad", "clap", "fidelity_mel"], "timing_repeats": 1, "batch_size": 4, "listening": 1,
    }  # fmt: skip
    return resolve_run(values | changes, "test", "test")


def entry(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"name": "audioldm", "pipeline": str(folder), "audio_s": AUDIO_S, "steps": [3, 2]} | changes


def finished(folder: Path, seed: int = 0, rate: int = 16_000, ids: list[str] = IDS) -> Path:
    for clip_id in ids:
        tone = 0.3 * np.sin(np.arange(8000) * np.random.default_rng([seed, *clip_id.encode()]).uniform(0.05, 0.3))
        write_audio(folder / f"{clip_id}.wav", tone, rate)
    return folder


def test_a_pipeline_and_finished_audio_in_one_run(pipeline: Path, manifest: Path, tmp_path: Path) -> None:
    finished(tmp_path / "peer" / "2")
    write_audio(tmp_path / "peer" / "2" / "not-asked-for.wav", np.zeros(8000), 16_000)
    systems = [entry(pipeline, samplers=["own", "dpmpp_2m"]), {"name": "peer", "audio": str(tmp_path / "peer" / "{steps}"), "steps": [2]}]
    config = config_of(tmp_path / "run", manifest, systems)
    result = sweep(config)
    assert result.complete, result.failures
    found = {(key.row.system, key.row.sampler, key.row.steps): score.records for key, score in load_scores(result.run).items() if key.metric == "kad"}
    records = {row: (items[0].nfe, items[0].n, items[0].family) for row, items in found.items() if row[0] in ("audioldm", "peer")}
    assert records == {
        ("audioldm", "own", 3): (6, 6, "diffusers"), ("audioldm", "own", 2): (4, 6, "diffusers"),
        ("audioldm", "dpmpp_2m", 3): (6, 6, "diffusers"), ("audioldm", "dpmpp_2m", 2): (4, 6, "diffusers"), ("peer", "own", 2): (2, 6, "folder"),
    }  # fmt: skip
    fidelity = {key.row.system for key in load_scores(result.run) if key.metric == "fidelity_mel"}
    assert {"audioldm", "peer"} <= fidelity
    passes = json.loads((result.run / "timing.json").read_text())["passes"]
    timed = {name for item in passes for name in item["rows"]}
    assert timed == {f"audioldm | {sampler} | {steps} steps | guidance 2.5" for sampler in ("own", "dpmpp_2m") for steps in (3, 2)}  # not the peer
    assert all(row["decoding_s"] > 0 for item in passes for row in item["rows"].values())
    render(result.run)
    row = next(line for line in (result.run / "report" / "report.md").read_text().splitlines() if line.startswith("| peer"))
    assert row.split("|")[-3:-1] == [" — ", " — "]
    assert sweep(config).new == 0


def test_audio_of_the_run_is_that_of_the_system(pipeline: Path, manifest: Path, tmp_path: Path) -> None:
    result = sweep(config_of(tmp_path / "run", manifest, [entry(pipeline, steps=[2])], timing_repeats=0, metrics=["kad"], anchors=False))
    system = load_diffusers(str(pipeline), audio_s=AUDIO_S)
    made = dict(system.generate([Clip("clip1", CAPTIONS[1])], steps=2, guidance_scale=2.5, seed=0))
    kept = read_audio(result.run / "cells" / result.records[0].cell / "audio" / "clip1.flac")
    assert np.abs(kept.samples - made["clip1"]).max() < 1e-3  # batches of 4, and 16 bits


def test_changed_weights_or_options_make_a_new_cell(pipeline: Path, manifest: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pipeline, tmp_path / "pipeline")
    changes: dict[str, Any] = {"timing_repeats": 0, "metrics": ["kad"], "anchors": False}
    first = sweep(config_of(tmp_path / "run", manifest, [entry(folder, steps=[2])], **changes))
    longer = sweep(config_of(tmp_path / "run", manifest, [entry(folder, steps=[2], audio_s=0.6)], **changes))
    write_audioldm(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / "unet" / "diffusion_pytorch_model.safetensors", folder / "unet")
    other = sweep(config_of(tmp_path / "run", manifest, [entry(folder, steps=[2])], **changes))
    assert len({result.records[0].cell for result in (first, longer, other)}) == 3
    assert first.records[0].value != other.records[0].value


def test_guided_audio_of_another_program_has_its_true_evaluations(manifest: Path, tmp_path: Path) -> None:
    finished(tmp_path / "peer" / "4")
    finished(tmp_path / "peer" / "2", 1)
    peer = {"audio": str(tmp_path / "peer" / "{steps}"), "steps": [4, 2]}
    systems = [{"name": "guided", "evaluations_per_step": 2, **peer}, {"name": "plain", **peer}]
    result = sweep(config_of(tmp_path / "run", manifest, systems, metrics=["kad"], anchors=False))
    assert result.complete, result.failures
    assert {(record.system, record.steps, record.nfe) for record in result.records} == {
        ("guided", 4, 8), ("guided", 2, 4), ("plain", 4, 4), ("plain", 2, 2)
    }  # fmt: skip
    render(result.run)
    assert (result.run / "report" / "figures" / "nfe-kad-bundled.svg").exists()  # drawn where evaluations are not the steps


def test_clips_without_a_file_fail_alone(manifest: Path, tmp_path: Path) -> None:
    finished(tmp_path / "peer", ids=IDS[:-1])
    (tmp_path / "peer" / "clip0.wav").write_bytes(b"RIFF")
    config = config_of(tmp_path / "run", manifest, [{"name": "peer", "audio": str(tmp_path / "peer"), "steps": [2]}], metrics=["kad"], anchors=False)
    result = sweep(config)
    messages = {item["clip_id"]: item["message"] for item in result.failures}
    assert set(messages) == {"clip0", "clip5"}
    assert "clip5.wav: does not exist" in messages["clip5"]
    assert "clip0.wav" in messages["clip0"]
    assert {(record.n, record.n_excluded) for record in result.records} == {(4, 2)}
    finished(tmp_path / "peer")
    assert sweep(config).complete


def test_mixed_rates_cost_the_cell(manifest: Path, tmp_path: Path) -> None:
    finished(tmp_path / "peer", ids=IDS[:-1])
    finished(tmp_path / "peer", rate=22_050, ids=IDS[-1:])
    config = config_of(tmp_path / "run", manifest, [{"name": "peer", "audio": str(tmp_path / "peer"), "steps": [2]}], metrics=["kad"], anchors=False)
    (failure,) = sweep(config).failures
    assert "clip5.wav: has 22050 Hz, and other clips of peer have 16000" in failure["message"]


def test_seeds_and_scales_have_folders_of_their_own(manifest: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        finished(tmp_path / f"seed{seed}" / "w2.5", seed)
    template = str(tmp_path / "seed{seed}" / "w{guidance_scale}")
    config = config_of(tmp_path / "run", manifest, [{"name": "peer", "audio": template, "steps": [2]}], seeds=[0, 1], metrics=["kad"], anchors=False)
    values = [record.value for record in sweep(config).records]
    assert len(set(values)) == 2
    before = {record.cell for record in sweep(config).records}
    finished(tmp_path / "seed1" / "w2.5", 7)
    assert len(before & {record.cell for record in sweep(config).records}) == 1
    assert input_files(config)[-2] == tmp_path
    shared = config.model_copy(update={"systems": (config.systems[0].model_copy(update={"audio": str(tmp_path / "seed0" / "w2.5")}),)})
    with pytest.raises(ConfigError, match=r"one folder for 2 values of seed; put \{seed\}"):
        sweep(shared)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two kinds": ({"pipeline": "p", "audio": "a"}, "pipeline and audio exclude each other"),
    "a bundle of a pipeline": ({"pipeline": "p", "bundle": "b"}, "bundle goes with network"),
    "a length of finished audio": ({"audio": "a", "audio_s": 1.0}, "audio_s goes with pipeline"),
    "evaluations of a pipeline": ({"pipeline": "p", "evaluations_per_step": 2}, "evaluations_per_step goes with audio"),
    "evaluations of a network": ({"network": "teacher", "evaluations_per_step": 2}, "evaluations_per_step goes with audio"),
    "no evaluations": ({"audio": "a", "evaluations_per_step": 0}, "evaluations_per_step = 0.*greater than or equal to 1"),
    "half an evaluation": ({"audio": "a", "evaluations_per_step": 1.5}, "evaluations_per_step = 1.5"),
    "precision of a network": ({"network": "teacher", "precision": "fp16"}, "precision goes with pipeline"),
    "an unknown precision": ({"pipeline": "p", "precision": "int8"}, "precision"),
    "an unknown sampler": ({"pipeline": "p", "samplers": ["heun"]}, "unknown sampler 'heun'.*known: own, ddim, dpmpp_2m"),
    "an unknown placeholder": ({"audio": "a/{step}"}, r"audio.*\{step\} cannot stand in it"),
    "open braces": ({"audio": "a/{steps"}, "audio"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_entries_that_cannot_be(name: str, manifest: Path, tmp_path: Path) -> None:
    changes, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        config_of(tmp_path / "run", manifest, [{"name": "x", "steps": [2], **changes}])


NOT_RUN: dict[str, tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = {
    "no folder": ({"pipeline": "./nowhere"}, {}, ConfigError, "'./nowhere' is no folder here and no hub name"),
    "not in the cache": ({"pipeline": "nobody/nothing"}, {}, WeightsError, "nobody/nothing: is not in the Hugging Face cache"),
    "half precision on the CPU": ({"precision": "fp16"}, {}, ConfigError, 'precision = "fp16" needs device = "cuda"'),
    "compiled on the CPU": ({"compile": True}, {}, ConfigError, "compile = true needs"),
    "channels last on the CPU": ({"channels_last": True}, {}, ConfigError, "channels_last = true needs"),
    "more steps than the schedule": ({"steps": [1001]}, {}, ConfigError, "steps = 1001: .*1000"),
    "guidance below one": ({}, {"guidance_scales": [0.5]}, ConfigError, "pipelines guide above 1 only"),
}


@pytest.mark.parametrize("name", NOT_RUN)
def test_what_cannot_run_is_refused_before_anything_runs(name: str, pipeline: Path, manifest: Path, tmp_path: Path) -> None:
    changes, others, kind, message = NOT_RUN[name]
    with pytest.raises(kind, match=message):
        sweep(config_of(tmp_path / "run", manifest, [entry(pipeline, **changes)], **others))
    assert not (tmp_path / "run" / "cells").exists()


def test_no_audio_there(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"audio of peer.*does not exist"):
        sweep(config_of(tmp_path / "run", manifest, [{"name": "peer", "audio": str(tmp_path / "peer"), "steps": [2]}]))


def test_a_length_that_cannot_be_made_costs_its_cell(pipeline: Path, manifest: Path, tmp_path: Path) -> None:
    result = sweep(config_of(tmp_path / "run", manifest, [entry(pipeline, audio_s=0.0001, steps=[2])], anchors=False, metrics=["kad"]))
    assert "audio_s = 0.0001 is shorter than one latent frame" in result.failures[0]["message"]


@pytest.mark.parametrize(
    "kind", [{"network": "teacher"}, {"pipeline": "p", "precision": "bf16", "audio_s": 2.0}, {"audio": "a/{steps}", "evaluations_per_step": 2}, {}]
)
def test_a_resolved_configuration_reads_back(kind: dict[str, Any], manifest: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path / "run", manifest, [{"name": "x", "steps": [2], **kind}])
    assert resolve_run(tomllib.loads(config.to_toml()), "test", "test") == config
    assert config.systems[0].samplers == (("own",) if "pipeline" in kind or "audio" in kind else ("ddim",))


def test_an_object_and_a_pipeline_of_one_name(pipeline: Path, manifest: Path, tmp_path: Path) -> None:
    system = load_diffusers(str(pipeline), audio_s=AUDIO_S)
    assert isinstance(system, DiffusersSystem)
    with pytest.raises(ConfigError, match="audioldm has pipeline and an object of that name"):
        sweep(config_of(tmp_path / "run", manifest, [entry(pipeline)]), {"audioldm": system})


def test_without_diffusers_the_run_says_what_to_install(pipeline: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ExtraMissing, match=r"diffusers cannot be used .*pip install 'tta-bench\[hf\]'"):
        sweep(config_of(tmp_path / "run", manifest, [entry(pipeline)]))


def test_a_tango_checkpoint_in_a_run(manifest: Path, tmp_path: Path) -> None:
    folder = write_tango(tmp_path / "tango")
    config = config_of(
        tmp_path / "run", manifest, [entry(folder, name="tango", steps=[2])], guidance_scales=[3.0, 1.0], metrics=["kad"], anchors=False,
        timing_repeats=0,
    )  # fmt: skip
    result = sweep(config)
    assert result.complete, result.failures
    assert {(record.guidance_scale, record.nfe, record.family) for record in result.records} == {(3.0, 4, "diffusers"), (1.0, 2, "diffusers")}
    assert {path.name for path in input_files(config)} >= {"pytorch_model_main.bin", "vae_config.json", "tokenizer.json"}


FIDELITY = {"guidance_scales": [3.0], "metrics": ["kad", "fidelity_mel", "fidelity_kl"], "anchors": False, "timing_repeats": 0}


def test_fidelity_to_audio_that_its_noise_does_not_determine_is_refused(manifest: Path, tmp_path: Path) -> None:
    folder = write_tango(tmp_path / "tango")
    told = (
        r"fidelity_mel compares with tango with sampler 'own', whose DDPMScheduler draws noise.*"
        r'put "ddim" first in its samplers, or leave fidelity_mel, fidelity_kl out of metrics'
    )
    for samplers in (["own"], ["own", "ddim"]):
        with pytest.raises(ConfigError, match=told):
            sweep(config_of(tmp_path / "run", manifest, [entry(folder, name="tango", samplers=samplers)], **FIDELITY))
    assert not (tmp_path / "run" / "cells").exists()
    system = load_diffusers(str(folder), audio_s=AUDIO_S)
    with pytest.raises(ConfigError, match=r'compares with tango, whose DDPMScheduler.*load it with sampler "ddim"'):
        sweep(config_of(tmp_path / "run", manifest, [{"name": "tango", "steps": [2]}], **FIDELITY), {"tango": system})


def test_fidelity_to_ddim_beside_a_sampler_that_draws_noise(manifest: Path, tmp_path: Path) -> None:
    folder = write_tango(tmp_path / "tango")
    systems = [entry(folder, name="tango", samplers=["ddim", "own", "dpmpp_2m"], steps=[3])]
    result = sweep(config_of(tmp_path / "run", manifest, systems, **FIDELITY))
    assert result.complete, result.failures
    found = {key.row.sampler for key in load_scores(result.run) if key.metric == "fidelity_mel"}
    assert found == {"own", "dpmpp_2m"}
    assert json.loads((result.run / "plan.json").read_text())["target"] == {"system": "tango", "sampler": "ddim", "steps": 3}


def test_where_ddim_does_not_fit_another_target_is_asked_for(manifest: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchsde")
    with quiet():
        stable_audio().save_pretrained(tmp_path / "stable", safe_serialization=True)
    systems = [entry(tmp_path / "stable", name="stable", audio_s=AUDIO_S), {"name": "peer", "audio": str(finished(tmp_path / "peer")), "steps": [9]}]
    with pytest.raises(ConfigError, match=r"CosineDPMSolverMultistepScheduler draws noise.*name another target, or leave fidelity_mel"):
        sweep(config_of(tmp_path / "run", manifest, systems, **FIDELITY))
    result = sweep(config_of(tmp_path / "run", manifest, systems, **FIDELITY, target="peer"))
    assert result.complete, result.failures[0]["message"]


def test_the_same_noise_as_by_load_system(pipeline: Path) -> None:
    by_name = tta_bench.load_system(f"diffusers:{pipeline}")
    assert isinstance(by_name, DiffusersSystem)
    assert by_name.sampler == "own"
    assert np.array_equal(by_name.noise("a", 0), load_diffusers(str(pipeline)).noise("a", 0))
    assert not np.array_equal(by_name.noise("a", 0), by_name.noise("b", 0))
