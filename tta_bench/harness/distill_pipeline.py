"""`tta-bench distill --teacher diffusers:PATH`: a pretrained pipeline becomes a guided v-prediction student, which then halves as any other.

Every stage is a training in OUT/training/NAME that goes on where it was stopped; every student is also a pipeline, in OUT/student-WEIGHTING-STEPS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tta_bench.checkpoints import tensors_digest
from tta_bench.diffusion.distill import Stage
from tta_bench.errors import ConfigError, InputError
from tta_bench.files import digest, write_text
from tta_bench.harness.corpus import SAMPLE_RATE_HZ, Corpus, load_corpus, store_rows
from tta_bench.harness.distillation import GuidedTask, StageTask, loss_by_level
from tta_bench.harness.environment import code_version
from tta_bench.harness.pipeline_export import export_student
from tta_bench.harness.pipeline_teacher import PipelineTeacher, folded, schedule_of
from tta_bench.harness.processes import is_first_process
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.recipe import DistillRecipe, Optimisation, TrainConfig
from tta_bench.harness.train_teacher import LatentCorpus
from tta_bench.harness.training import Finished, Task, train
from tta_bench.systems.pipeline import Pipeline
from tta_bench.systems.pipeline_files import CARD, pipeline_card
from tta_bench.systems.pipelines import load_pipeline
from tta_bench.weights import cache_folder

_ENCODING_VERSION = 2
_CLIPS_AT_ONCE = 8
_CLIPS_MEASURED = 1000
CARD_FORMAT = 1


@dataclass(frozen=True)
class PipelineJob:
    """place: the teacher's folder or hub name. checksum: of its files. audio_s: of a clip. export_scale: folded into the students' pipelines."""

    place: str
    checksum: str
    audio_s: float
    export_scale: float
    checkpointing: bool
    training: TrainConfig


def distill_pipeline(job: PipelineJob, progress: Progress = silent) -> list[str]:
    """Distil; names of the students' folders in the training's `out`. Stages that are there are not made again; an interrupted one goes on.

    Raises ConfigError and WeightsError, before any training, for a teacher that cannot be distilled or settings that do not fit it.
    """
    config = job.training
    assert config.guided is not None
    assert config.students is not None
    pipeline = load_pipeline(job.place)
    schedule = schedule_of(pipeline)
    recipe = config.students
    for steps in (recipe.teacher_steps, *recipe.steps):
        schedule.angles(steps)  # must divide the teacher's timesteps
    teacher = PipelineTeacher(pipeline, job.audio_s, job.checksum, schedule, recipe.teacher_steps, checkpointing=job.checkpointing)
    latents = pipeline_latents(pipeline, load_corpus(config.data, progress), job.audio_s, config.runtime.device, progress)
    guided = GuidedTask(config.guided, latents, teacher, config.seed)
    write_text(config.out / "config.toml", config.to_toml())
    finished = _trained(guided, config.guided, config, progress)
    before, teacher = "guided", _next(teacher, guided.objective.denoiser, recipe.teacher_steps)
    _pipeline_of(job, teacher, before, {"role": "guided", **_facts(guided, config.guided, finished, job, teacher)})
    (weighting,) = recipe.weightings
    for steps, stage in recipe.stages():
        task = StageTask(stage, Stage(schedule, teacher.steps, steps), weighting, recipe.gamma, guided.scales, latents, teacher, config.seed)
        finished = _trained(task, stage, config, progress)
        name, parent = f"student-{weighting}-{steps}", teacher.sha256
        teacher = _next(teacher, task.objective.denoiser, steps)
        facts = {
            "role": "student",
            "weighting": weighting,
            "gamma": task.identity["gamma"],
            "steps": steps,
            "parent": before,
            "parent_sha256": parent,
            "grid_log_snr": task.stage.log_snrs.tolist(),
        }
        _pipeline_of(job, teacher, name, facts | _facts(task, stage, finished, job, teacher))
        before = name
    return _names(recipe)


def _names(recipe: DistillRecipe) -> list[str]:
    return [f"student-{recipe.weightings[0]}-{steps}" for steps in recipe.steps]


def _trained(task: Task, recipe: Optimisation, config: TrainConfig, progress: Progress) -> Finished:
    """Train, or load what a finished training left, into the task's objective."""
    folder = config.out / "training" / task.name.replace(" ", "-")
    finished = train(task, recipe, folder, config.seed, config.runtime, progress)
    task.objective.load_state_dict(finished.weights)
    return finished


def _next(teacher: PipelineTeacher, denoiser: nn.Module, steps: int) -> PipelineTeacher:
    """The finished student as the teacher of the next stage."""
    sha256 = tensors_digest(denoiser.state_dict())
    return PipelineTeacher(teacher.pipeline, teacher.audio_s, sha256, teacher.schedule, steps, denoiser, teacher.checkpointing)


def _facts(task: Any, recipe: Optimisation, finished: Finished, job: PipelineJob, made: PipelineTeacher) -> dict[str, Any]:
    """What the card of a student says, whichever stage made it."""
    schedule = made.schedule
    tail = finished.losses[-max(1, len(finished.losses) // 5) :]
    return {
        "format": CARD_FORMAT, "network_sha256": made.sha256, "teacher": job.place, "teacher_checksum": job.checksum, "audio_s": job.audio_s,
        "latents": "mean of the encoder's distribution, scaled", "latents_rms": _rms(task.corpus.latents),
        "guidance_scale": job.export_scale, "guidance_scales": list(task.scales), "schedule": schedule.facts(),
        "grid": "trailing timesteps; t = 0 is the scheduler's final_alpha_cumprod", "prediction_type": "v_prediction",
        "recipe": recipe.model_dump(mode="json"), "data": job.training.data.model_dump(mode="json", exclude_none=True), "seed": job.training.seed,
        "made_from": dict(task.identity), "loss_by_level": loss_by_level(tail, schedule) if tail else [], "relative_loss": _relative_loss(tail),
        "code_version": code_version(), "torch": torch.__version__,
    }  # fmt: skip


def _relative_loss(losses: list[dict[str, Any]]) -> float | None:
    """Unweighted v-MSE as a part of the target's mean square: 1 is no better than zeros."""
    known = [line for line in losses if "target_power" in line]
    return sum(line["unweighted"] for line in known) / sum(line["target_power"] for line in known) if known else None


def _rms(latents: npt.NDArray[np.float32]) -> float:
    """Root mean square of some thousand clips' latents. Noise schedule and weightings take it to be 1."""
    some = latents[:: max(1, len(latents) // _CLIPS_MEASURED)]
    return float(np.sqrt(np.mean(np.square(some, dtype=np.float64))))


def _pipeline_of(job: PipelineJob, made: PipelineTeacher, name: str, card: dict[str, Any]) -> None:
    """Write the student's pipeline, unless this very one is there; of several processes the first one does."""
    if not is_first_process():
        return
    folder = job.training.out / name
    known = pipeline_card(folder)
    same = ("network_sha256", "guidance_scale", "teacher_checksum", "audio_s")
    if known and all(known.get(key) == card[key] for key in same):
        return
    if folder.exists():
        raise InputError(f"{folder / CARD}: is of another student than this distillation makes; delete the folder, or choose another --out")
    assert made.guided is not None
    export_student(made.pipeline, folded(made.guided, job.export_scale), folder, {"name": name, **card})


def pipeline_latents(pipeline: Pipeline, corpus: Corpus, audio_s: float, device: str = "cpu", progress: Progress = silent) -> LatentCorpus:
    """All clips through the pipeline's encoder (the mean of its distribution), at the level of its training; float32, cached by content.

    Raises ConfigError for a pipeline of another sample rate than the corpus has.
    """
    if pipeline.sample_rate_hz != SAMPLE_RATE_HZ:
        raise ConfigError(f"{pipeline.name}: makes audio at {pipeline.sample_rate_hz} Hz; only {SAMPLE_RATE_HZ} Hz pipelines can be distilled")
    coder = tensors_digest({name: value.float() for name, value in pipeline.parts.vae.state_dict().items()})
    scaling = pipeline.parts.vae.config.scaling_factor
    shape = pipeline.latent_shape(audio_s)
    key = digest(["pipeline latents", _ENCODING_VERSION, corpus.key, coder, scaling, list(shape)])
    path = cache_folder() / "latents" / f"{key}.npy"
    if not path.exists():
        where = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"
        store_rows(path, _encoded(pipeline, corpus, shape, where, progress), (len(corpus), *shape), "<f4")
    return LatentCorpus(key, np.load(path, mmap_mode="r"), corpus.captions)


def _encoded(pipeline: Pipeline, corpus: Corpus, shape: tuple[int, ...], device: str, progress: Progress) -> Iterator[npt.NDArray[np.float32]]:
    pipeline.parts.to(device)
    for start in range(0, len(corpus), _CLIPS_AT_ONCE):
        audio = corpus.samples(np.arange(start, min(start + _CLIPS_AT_ONCE, len(corpus))))
        latents = pipeline.encode(pipeline.level_of_training(torch.from_numpy(audio).to(device))).float().cpu().numpy()
        if latents.shape[1:] != shape or not np.isfinite(latents).all():
            raise ConfigError(f"{pipeline.name}: encodes a clip as {latents.shape[1:]}, not as finite {shape}; choose another clip length")
        yield latents
        progress("encoding latents", start + len(audio), len(corpus))
