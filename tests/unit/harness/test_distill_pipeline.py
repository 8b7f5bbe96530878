from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.systems.pipelines import CAPTIONS, audioldm, audioldm2, ddim, write_tango
from tta_bench.audio import write_audio
from tta_bench.checkpoints import tensors_digest
from tta_bench.config import parse_settings
from tta_bench.diffusion.distill import Stage
from tta_bench.diffusion.guidance import guided
from tta_bench.diffusion.samplers import ddim_path, ddim_step
from tta_bench.errors import ConfigError, InputError, WeightsError
from tta_bench.harness.distill_run import DistillConfig, distill
from tta_bench.harness.distillation import GuidedTask, StageTask
from tta_bench.harness.pipeline_export import student_scheduler
from tta_bench.harness.pipeline_teacher import PipelineTeacher, folded, schedule_of, with_scale
from tta_bench.harness.recipe import GuidedRecipe, Optimisation, Runtime
from tta_bench.harness.train_teacher import LatentCorpus
from tta_bench.harness.training import train
from tta_bench.systems.audioldm import AudioLDM
from tta_bench.systems.diffusers import load_diffusers
from tta_bench.systems.pipelines import load_pipeline
from tta_bench.systems.protocol import Clip

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
AUDIO_S = 0.008  # 16 latent frames
ALL = np.arange(4)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its vocoder is as loud as a trained one: the random one drives its tanh to the ends, and multiplies rounding by 30."""
    root = tmp_path_factory.mktemp("teacher")
    parts = audioldm(root)
    parts.vocoder.conv_post.weight.data.mul_(0.05)
    parts.save_pretrained(root / "audioldm")
    return root / "audioldm"


@pytest.fixture
def teacher(folder: Path) -> PipelineTeacher:
    pipeline = load_pipeline(str(folder))
    return PipelineTeacher(pipeline, AUDIO_S, "sha", schedule_of(pipeline), 4)


def corpus(teacher: PipelineTeacher, clips: int = 12) -> LatentCorpus:
    latents = np.random.default_rng(5).standard_normal((clips, *teacher.latent_shape)).astype(np.float32)
    return LatentCorpus("toy", latents, [(CAPTIONS[i % len(CAPTIONS)],) for i in range(clips)])


def stirred(denoiser: Any) -> Any:
    """A guided denoiser on which the scale has an effect."""
    made = with_scale(denoiser)
    torch.nn.init.normal_(made.time_embedding.cond_proj.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    return made


def as_guided(teacher: PipelineTeacher, denoiser: Any, steps: int) -> PipelineTeacher:
    return dataclasses.replace(teacher, guided=denoiser, sha256=tensors_digest(denoiser.state_dict()), steps=steps)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_its_v_takes_the_very_step_that_the_stock_scheduler_takes(tmp_path: Path, prediction: str) -> None:
    """Whatever the network predicts: DDIM of diffusers from its own output, and ours from v, land on the same latents."""
    parts = audioldm(tmp_path)
    parts.scheduler = type(parts.scheduler).from_config(parts.scheduler.config, prediction_type=prediction, timestep_spacing="trailing")
    pipeline = AudioLDM(parts, "tiny")
    of = PipelineTeacher(pipeline, AUDIO_S, "sha", schedule_of(pipeline), 4)
    text = of.encode(CAPTIONS[:2], torch.empty(0))
    z = torch.randn(2, *of.latent_shape, generator=torch.Generator().manual_seed(0))
    parts.scheduler.set_timesteps(4)
    angles = of.schedule.angles(4)
    for i, timestep in enumerate(parts.scheduler.timesteps):
        log_snr = (-2 * torch.log(torch.tan(angles[i]))).float().expand(2)
        with torch.no_grad():
            raw = pipeline.denoise(z, timestep, {"class_labels": text["class_labels"]})
            stock = parts.scheduler.step(raw, timestep, z).prev_sample
            ours = ddim_step(z, of.predict(z, log_snr, text, None), angles[i] - angles[i + 1])
        torch.testing.assert_close(ours, stock, rtol=1e-4, atol=2e-4)  # alphas are float32 there


def test_the_guided_target_is_classifier_free_guidance_as_the_stock_pipeline_has_it(teacher: PipelineTeacher) -> None:
    task = GuidedTask(GuidedRecipe(updates=1, batch=4, lowest_scale=2.0, highest_scale=4.0), corpus(teacher), teacher, 0)
    batch = task.batch(0, ALL, CPU)
    parts = teacher.pipeline.parts
    timestep = teacher.schedule.timesteps(batch["log_snr"])
    own = {name: value for name, value in batch["text"].items() if not name.startswith("null.")}
    empty = {"class_labels": batch["text"]["null.class_labels"]}
    assert torch.allclose(empty["class_labels"], parts._encode_prompt("", CPU, 1, False).expand(4, -1), atol=1e-6)
    with torch.no_grad():
        eps = guided(*(teacher.pipeline.denoise(batch["z"], timestep, each) for each in (own, empty)), batch["guidance_scale"].view(-1, 1, 1, 1))
    alpha_squared = parts.scheduler.alphas_cumprod[timestep].view(-1, 1, 1, 1)
    expected = (eps - (1 - alpha_squared).sqrt() * batch["z"]) / alpha_squared.sqrt()
    torch.testing.assert_close(batch["target"], expected, rtol=1e-4, atol=1e-3)
    assert batch["weight"].tolist() == [1.0] * 4


def test_a_student_starts_with_its_teachers_weights_and_ignores_the_scale(teacher: PipelineTeacher) -> None:
    task = GuidedTask(GuidedRecipe(updates=1, batch=4, lowest_scale=1.0, highest_scale=6.0), corpus(teacher), teacher, 0)
    batch = task.batch(0, ALL, CPU)
    student = task.objective.denoiser.eval()
    with torch.no_grad():
        made = teacher.apply(student, batch["z"], batch["log_snr"], batch["text"], batch["guidance_scale"])
        raw = teacher.pipeline.denoise(batch["z"], teacher.schedule.timesteps(batch["log_snr"]), {"class_labels": batch["text"]["class_labels"]})
    assert torch.equal(made, raw)
    assert not any(parameter.requires_grad for parameter in teacher.pipeline.denoiser.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    after = as_guided(teacher, stirred(teacher.pipeline.denoiser), 4)
    assert tensors_digest(after.student().state_dict()) == after.sha256


@pytest.mark.parametrize("scale", [1.0, 2.5, 6.0])
def test_folding_a_scale_in_changes_nothing(teacher: PipelineTeacher, scale: float) -> None:
    network = stirred(teacher.pipeline.denoiser)
    text = teacher.encode(CAPTIONS, torch.empty(0))
    z, log_snr = torch.randn(3, *teacher.latent_shape, generator=torch.Generator().manual_seed(2)), torch.tensor([-8.0, 0.0, 5.0])
    with torch.no_grad():
        scaled = teacher.apply(network, z, log_snr, text, torch.full((3,), scale))
        stock = teacher.pipeline.denoise(z, teacher.schedule.timesteps(log_snr), {"class_labels": text["class_labels"]}, folded(network, scale))
        other = teacher.apply(network, z, log_snr, text, torch.full((3,), scale + 1.0))
    torch.testing.assert_close(scaled, stock, rtol=0, atol=2e-6)
    assert (scaled - other).abs().max() > 1e-3


@pytest.mark.parametrize("steps", [(4, 2), (2, 1), (20, 4)])
def test_one_student_step_with_the_target_lands_where_the_teacher_does(teacher: PipelineTeacher, steps: tuple[int, int]) -> None:
    of = as_guided(teacher, stirred(teacher.pipeline.denoiser), steps[0])
    recipe = Optimisation(updates=1, batch=4, warm_up=0, decay="linear", autocast=False)
    task = StageTask(recipe, Stage(of.schedule, *steps), "bsa", 5.0, (2.0, 3.0), corpus(of), of, 0)
    batch = task.batch(0, ALL, CPU)
    fine, coarse = of.schedule.angles(steps[0]), of.schedule.angles(steps[1])
    for i in range(4):
        start = int((torch.atan(torch.exp(-0.5 * batch["log_snr"][i].double())) - coarse[:-1]).abs().argmin())
        one = {name: value[i : i + 1] for name, value in batch["text"].items()}
        scale, z = batch["guidance_scale"][i : i + 1], batch["z"][i : i + 1]
        path = fine[start * task.stage.ratio : (start + 1) * task.stage.ratio + 1]
        with torch.no_grad():
            walked = ddim_path(lambda z, snr, one=one, scale=scale: of.predict(z.float(), snr.float(), one, scale).double(), z.double(), path)
        landed = ddim_step(z.double(), batch["target"][i : i + 1].double(), coarse[start] - coarse[start + 1])
        assert torch.allclose(landed, walked, atol=2e-5)


def test_an_eps_teacher_becomes_a_v_student(tmp_path: Path) -> None:
    """On a schedule that does not end in noise: what a random network takes for eps there would be a target of hundreds."""
    parts = audioldm(tmp_path)
    parts.scheduler = ddim(beta_start=1e-4, beta_end=2e-3)
    pipeline = AudioLDM(parts, "tiny")
    of = PipelineTeacher(pipeline, AUDIO_S, "sha", schedule_of(pipeline), 4)
    recipe = GuidedRecipe(updates=60, batch=4, learning_rate=2e-3, warm_up=0, decay="linear", autocast=False, lowest_scale=2.0, highest_scale=2.0)
    task = GuidedTask(recipe, corpus(of, 40), of, 0)
    losses = train(task, recipe, tmp_path, 0, Runtime(device="cpu", log_every=10)).losses
    assert losses[-1]["loss"] < 0.7 * losses[0]["loss"]


def manifest(folder: Path, clips: int = 6) -> Path:
    rng = np.random.default_rng(0)
    rows = [("clip_id", "file", "caption")]
    for i in range(clips):
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 2000) * np.arange(3_200) / 16_000)
        write_audio(folder / f"{i}.flac", tone, 16_000)
        rows.append((str(i), f"{i}.flac", CAPTIONS[i % len(CAPTIONS)]))
    with (folder / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def asked(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("distil")
    return {
        "teacher": f"diffusers:{folder}", "weighting": "bsa", "steps": [4, 2, 1], "out": root / "out", "data": manifest(root / "clips"),
        "clip_s": 0.2, "updates": [2], "guided_updates": 3, "batch": 2, "guidance_scales": [1.0, 4.0], "export_guidance": 3.0, "device": "cpu",
    }  # fmt: skip


def run(values: dict[str, Any], **changes: Any) -> list[str]:
    return distill(parse_settings(DistillConfig, values | changes, "test"))


@pytest.fixture(scope="module")
def made(asked: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTA_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert run(asked) == ["student-bsa-2", "student-bsa-1"]
    return Path(asked["out"])


@pytest.mark.parametrize("steps", [2, 1])
def test_stock_diffusers_makes_the_students_own_audio(made: Path, folder: Path, steps: int) -> None:
    """Guidance folded in, guidance_scale = 1, trailing DDIM: as our sampler with the network that takes the scale as an input."""
    from diffusers import AudioLDMPipeline

    pipeline = load_pipeline(str(folder))
    of = PipelineTeacher(pipeline, 0.2, "sha", schedule_of(pipeline), steps)
    network = with_scale(pipeline.denoiser)
    state = torch.load(made / "training" / f"bsa-{steps}" / "checkpoint.pt", weights_only=True)["network"]
    network.load_state_dict({name.removeprefix("denoiser."): value for name, value in state.items()})
    pipeline.parts.to(torch.float64)  # in float32 rounding alone comes near the bound, beyond it on some processors
    network.double()
    z = torch.randn(3, *of.latent_shape, generator=torch.Generator().manual_seed(7)).double()
    text, scale = of.encode(CAPTIONS, z), torch.full((3,), 3.0, dtype=torch.float64)
    with torch.no_grad():
        latents = ddim_path(lambda z, snr: of.apply(network, z, snr, text, scale), z, of.schedule.angles(steps))
        ours = pipeline.decode(latents, 0.2).numpy()
    stock = AudioLDMPipeline.from_pretrained(made / f"student-bsa-{steps}")
    stock.set_progress_bar_config(disable=True)
    assert stock.scheduler.config.prediction_type == "v_prediction"
    assert stock.scheduler.config.timestep_spacing == "trailing"
    stock.to(torch.float64)
    theirs = stock(CAPTIONS, audio_length_in_s=0.2, num_inference_steps=steps, guidance_scale=1.0, latents=z.clone()).audios
    stock.to(torch.float32)
    assert np.abs(ours).max() > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    clips = [Clip(str(i), caption) for i, caption in enumerate(CAPTIONS)]
    system = load_diffusers(str(made / f"student-bsa-{steps}"), audio_s=0.2)
    assert system.evaluations(steps, 3.0) == steps
    noise = torch.from_numpy(np.stack([system.noise(clip.clip_id, 0) for clip in clips]))
    theirs = stock(CAPTIONS, audio_length_in_s=0.2, num_inference_steps=steps, guidance_scale=1.0, latents=noise).audios
    for (_, audio), row in zip(system.generate(clips, steps=steps, guidance_scale=3.0, seed=0), theirs, strict=True):
        np.testing.assert_allclose(audio, row, atol=1e-5)
    with pytest.raises(ConfigError, match=r"was distilled for 3, not 2\.5"):
        system.evaluations(steps, 2.5)


def test_a_student_is_asked_for_what_it_was_distilled_for(made: Path) -> None:
    place = str(made / "student-bsa-2")
    assert load_diffusers(place).audio_s == 0.2
    with pytest.raises(ConfigError, match=r"audio_s = 0\.1: was distilled on clips of 0\.2 s"):
        load_diffusers(place, audio_s=0.1)
    assert load_diffusers(str(made / "guided")).evaluations(7, 3.0) == 7
    with pytest.raises(ConfigError, match=r"student-bsa-2.*is a student already"):
        distill(parse_settings(DistillConfig, {"teacher": f"diffusers:{place}", "weighting": "bsa", "steps": [2, 1], "out": made / "again"}, "test"))
    assert not (made / "again").exists()


def test_cards_say_how_they_were_made(made: Path) -> None:
    card = json.loads((made / "student-bsa-1" / "tta_bench.json").read_text())
    before = json.loads((made / "student-bsa-2" / "tta_bench.json").read_text())
    assert (card["weighting"], card["steps"], card["parent"], card["guidance_scale"]) == ("bsa", 1, "student-bsa-2", 3.0)
    assert card["parent_sha256"] == before["network_sha256"]
    assert before["parent"] == "guided"
    assert card["schedule"]["terminal_snr"] == pytest.approx(1.4e-4, rel=0.03)
    assert len(before["grid_log_snr"]) == 2
    assert 0.0 < card["relative_loss"] < 10.0
    assert card["latents_rms"] > 0.0
    assert before["grid_log_snr"][1] == card["grid_log_snr"][0]
    assert "trailing" in card["grid"]


def test_the_same_again_makes_nothing_and_another_is_refused(made: Path, asked: dict[str, Any]) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.glob("student-*/*") if path.is_file()}
    assert run(asked) == ["student-bsa-2", "student-bsa-1"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(InputError, match="of another student than this distillation makes"):
        run(asked, export_guidance=2.0)
    with pytest.raises(WeightsError, match=r"belongs to a training with another configuration"):
        run(asked, guided_updates=4)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": [3, 1]}, "3 steps do not divide 1000"),
        ({"export_guidance": 9.0}, "outside --guidance-scales 1,4"),
        ({"teacher": "diffusers:"}, "names no pipeline"),
        ({"teacher": "diffusers:nowhere"}, "is no folder here"),
        ({"teacher": "runs/bundle"}, "clip_s is for teachers that are pipelines"),
        ({"data": None}, "clip_s cuts the audio of data"),
    ],
)
def test_refusals(asked: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(asked, out=tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["tango", "audioldm2"])
def test_other_kinds_become_students_that_load_and_run(tmp_path: Path, kind: str) -> None:
    """Tango's parts are those of diffusers, though it has no pipeline there."""
    if kind == "tango":
        write_tango(tmp_path / kind)
    else:
        audioldm2(tmp_path).save_pretrained(tmp_path / kind)
    values = {
        "teacher": f"diffusers:{tmp_path / kind}", "weighting": "min_snr", "steps": [2, 1], "out": tmp_path / "out", "device": "cpu",
        "data": manifest(tmp_path / "clips", 4), "clip_s": 0.2, "updates": [1], "guided_updates": 1, "batch": 2, "export_guidance": 3.0,
    }  # fmt: skip
    assert run(values) == ["student-min_snr-1"]
    teacher, student = (load_pipeline(str(place)) for place in (tmp_path / kind, tmp_path / "out" / "student-min_snr-1"))
    assert (student.kind, student.prediction_type, student.own_scheduler.config.timestep_spacing) == (kind, "v_prediction", "trailing")
    np.testing.assert_allclose(student.alphas_cumprod, teacher.alphas_cumprod, rtol=1e-6)
    assert student.final_alpha_cumprod == pytest.approx(teacher.final_alpha_cumprod)
    schedule = schedule_of(student)
    system = load_diffusers(str(tmp_path / "out" / "student-min_snr-1"), audio_s=0.2)
    clip = Clip("a", CAPTIONS[0])
    ((_, audio),) = system.generate([clip], steps=1, guidance_scale=3.0, seed=0)
    z = torch.from_numpy(system.noise("a", 0))[None]
    with torch.no_grad():
        conditioning = student.conditioning([clip.caption], 0.2)
        latents = ddim_path(lambda z, snr: student.denoise(z, schedule.timesteps(snr), conditioning), z, schedule.angles(1))
        expected = student.decode(latents, 0.2)[0].numpy()
    np.testing.assert_allclose(audio, expected, atol=1e-3 * np.abs(expected).max())


def test_a_scale_input_is_neither_added_twice_nor_to_what_has_none(teacher: PipelineTeacher) -> None:
    with pytest.raises(ConfigError, match="takes a guidance scale already"):
        with_scale(with_scale(teacher.pipeline.denoiser))
    with pytest.raises(ConfigError, match="no input for a guidance scale"):
        with_scale(torch.nn.Linear(2, 2))


def test_gradient_checkpointing_changes_no_gradient(teacher: PipelineTeacher) -> None:
    recipe = GuidedRecipe(updates=1, batch=4, lowest_scale=2.0, highest_scale=4.0)
    found = []
    for checkpointing in (False, True):
        task = GuidedTask(recipe, corpus(teacher), dataclasses.replace(teacher, checkpointing=checkpointing), 0)
        task.objective.losses(task.batch(0, ALL, CPU))["loss"].backward()
        found.append(torch.cat([p.grad.flatten() for p in task.objective.parameters() if p.grad is not None]))
        assert task.objective.denoiser.is_gradient_checkpointing == checkpointing
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("published", [False, True])
def test_the_scheduler_of_students_keeps_the_noise_schedule(teacher: PipelineTeacher, tmp_path: Path, published: bool) -> None:
    """Published configurations are older than some keys, which diffusers then insists on having at their defaults."""
    own = teacher.pipeline.own_scheduler
    if published:
        kept = ("beta_start", "beta_end", "beta_schedule", "clip_sample", "set_alpha_to_one", "steps_offset", "num_train_timesteps")
        (tmp_path / "scheduler_config.json").write_text(json.dumps({key: own.config[key] for key in kept}))
        own = type(own).from_pretrained(tmp_path)
    changed = student_scheduler(own)
    assert torch.equal(changed.alphas_cumprod, own.alphas_cumprod)
    assert (changed.config.prediction_type, changed.config.timestep_spacing, changed.config.clip_sample) == ("v_prediction", "trailing", False)
    assert own.config.prediction_type == "epsilon"
