"""`tta-bench train`: makes codec, embedder, teacher, guided student and students, each from those before it, each resumable."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from tta_bench.diffusion.distill import Stage
from tta_bench.diffusion.schedule import CosineSchedule
from tta_bench.diffusion.weighting import default_gamma
from tta_bench.errors import ConfigError, WeightsError
from tta_bench.files import digest, write_text
from tta_bench.harness.checkpoint import first_difference
from tta_bench.harness.corpus import Corpus, audible_frames, load_corpus, manifest_key
from tta_bench.harness.distillation import GuidedTask, StageTask, loss_by_level
from tta_bench.harness.ditar_teacher import DitarTeacher
from tta_bench.harness.environment import code_version
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.recipe import TEACHER_STEPS, DistillRecipe, DitarRecipe, Optimisation, TrainConfig
from tta_bench.harness.teachers import BundleTeacher, Teacher
from tta_bench.harness.train_codec import CodecTask, set_latent_statistics
from tta_bench.harness.train_ditar import DitarTask
from tta_bench.harness.train_embedder import EmbedderTask
from tta_bench.harness.train_teacher import LatentCorpus, TeacherTask
from tta_bench.harness.training import Finished, Task, train
from tta_bench.models.bundle import check_companions, load_network, read_card, save_network
from tta_bench.models.codec import Codec
from tta_bench.models.denoiser import Denoiser
from tta_bench.models.ditar import LocDiT, PatchLM
from tta_bench.models.text import TextEncoder
from tta_bench.weights import cache_folder

SCHEDULE = CosineSchedule()
COMPANIONS = ("codec", "text", "lm")  # of a denoiser, as far as it has them


@dataclass
class Workshop:
    """A bundle in the making: networks in config.out, checkpoints and loss logs in config.out/training/NAME."""

    config: TrainConfig
    progress: Progress = silent

    @property
    def out(self) -> Path:
        """Where finished networks go."""
        return self.config.out

    def corpus(self) -> Corpus:
        """The training audio."""
        return load_corpus(self.config.data, self.progress)

    def latents(self, patch: int | None = None) -> LatentCorpus:
        """The training audio as latents of the finished codec, cached. Raises ConfigError where there is no codec yet.

        patch: of a teacher that makes as many frames together; a manifest's clips then end with the patch in which they fall silent for good.
        """
        if not (self.out / "codec.json").exists():
            raise ConfigError(f"{self.out / 'codec.json'}: is not there; train the codec first (--only codec), or copy one's two files there")
        corpus, (codec, card) = self.corpus(), load_network(self.out, "codec", Codec)
        made = encode_corpus(corpus, codec, card, self.progress)
        if patch is None or not self.config.data.manifest:  # clips of SynthCaps are full
            return made
        frames = audible_frames(corpus.audio, codec.shape.samples_per_latent)
        return dataclasses.replace(made, frames=-(-frames // patch) * patch)

    def run(self, task: Task, recipe: Optimisation) -> tuple[Finished, dict[str, Any]]:
        """Train, load the result into the task's objective; and what every card says of a training."""
        folder = self.out / "training" / task.name.replace(" ", "-")
        code = code_version()  # of what runs now: the source may change while it does
        finished = train(task, recipe, folder, self.config.seed, self.config.runtime, self.progress)
        task.objective.load_state_dict(finished.weights)
        last = finished.losses[-1] if finished.losses else {}  # none where the log was deleted
        card = {
            **self.asked(recipe),
            "made_from": dict(task.identity),
            "runtime": self.config.runtime.model_dump(mode="json", include={"precision", "device", "threads"}),
            "training_ended": {key: value for key, value in last.items() if key not in ("updates_per_s", "bin_loss", "bin_count")},
            "code_version": code,
            "torch": torch.__version__,
        }
        return finished, card

    def asked(self, recipe: Optimisation) -> dict[str, Any]:
        """What the configuration asks for that decides a network's weights, as its card notes it."""
        data = self.config.data.model_dump(mode="json", exclude_none=True)
        return {"recipe": recipe.model_dump(mode="json"), "data": data, "seed": self.config.seed}

    def is_done(self, name: str, recipe: Optimisation, parent: str | None = None, **facts: Any) -> bool:
        """Whether network `name` is there, as the configuration asks for it (`facts`: of its card, besides).

        Raises WeightsError where it was made from another `parent`, codec or text encoder than is there now, ConfigError where it was made
        with other settings or of other audio: nothing that is there is taken for what it is not.
        """
        if not (self.out / f"{name}.json").exists():
            return False
        card = read_card(self.out, name)
        for key, other in (("parent_sha256", parent), *((f"{kind}_sha256", kind) for kind in COMPANIONS)):
            if other and key in card and card[key] != read_card(self.out, other)["sha256"]:
                raise WeightsError(f"{self.out / name}.json: was made from another {other} than the one beside it; delete one of them")
        wanted = {**self.asked(recipe), **facts}
        if recipe.autocast:
            wanted["runtime"] = {"precision": self.config.runtime.precision}
        if self.config.data.manifest:
            wanted["made_from"] = {"corpus": self.corpus_key(name)}
        differing = first_difference(card, wanted)
        if differing:
            raise ConfigError(f"{self.out / name}.json: {differing}; delete it and what was made from it, or choose another folder by --out")
        return True

    def corpus_key(self, name: str) -> str:
        """Of what `name` is trained on, where that is a manifest's audio."""
        key = manifest_key(self.config.data)
        return key if name in ("codec", "embedder") else latents_key(key, read_card(self.out, "codec"))


def encode_corpus(corpus: Corpus, codec: Codec, card: Mapping[str, Any], progress: Progress = silent) -> LatentCorpus:
    """All clips through the codec's encoder, float32, cached by the content of both."""
    key = latents_key(corpus.key, card)
    path = cache_folder() / "latents" / f"{key}.npy"
    if not path.exists():
        length = corpus.audio.shape[1] // codec.shape.samples_per_latent * codec.shape.samples_per_latent
        parts = []
        with torch.inference_mode():
            for start in range(0, len(corpus), 64):
                audio = corpus.samples(np.arange(start, min(start + 64, len(corpus))))[:, :length]
                parts.append(codec.encode(torch.from_numpy(audio)).numpy())
                progress("encoding latents", start + len(audio), len(corpus))
        _save_array(path, np.concatenate(parts))
    return LatentCorpus(key, np.load(path), corpus.captions)


def latents_key(corpus_key: str, codec: Mapping[str, Any]) -> str:
    """Fingerprint of a corpus under a codec, by its card."""
    return digest(["latents", corpus_key, codec["sha256"]])


def _save_array(path: Path, values: Any) -> None:
    from tta_bench.files import atomic_write

    with atomic_write(path) as file:
        np.save(file, values)


def make_codec(shop: Workshop) -> None:
    """The codec, with its latents' statistics."""
    recipe = _section(shop, "codec")
    corpus = shop.corpus()
    task = CodecTask(recipe, corpus, shop.config.seed)
    _, card = shop.run(task, recipe)
    if not recipe.encoder:
        set_latent_statistics(task.objective.codec.eval(), corpus)
    save_network(shop.out, "codec", task.objective.codec, card)


def make_embedder(shop: Workshop) -> None:
    """The embedder: tagger and text tower."""
    recipe = _section(shop, "embedder")
    task = EmbedderTask(recipe, shop.corpus(), shop.config.seed)
    _, card = shop.run(task, recipe)
    save_network(shop.out, "embedder", task.objective.network, card)


def make_teacher(shop: Workshop) -> None:
    """The teacher's denoiser, and the text encoder that all denoisers share."""
    recipe = _section(shop, "teacher")
    is_ditar = isinstance(recipe, DitarRecipe)
    make = cast("Any", DitarTask if is_ditar else TeacherTask)
    task = make(recipe, shop.latents(recipe.patch if is_ditar else None), shop.config.seed, SCHEDULE)
    _, card = shop.run(task, recipe)
    codec = read_card(shop.out, "codec")["sha256"]
    (kind, companion), denoiser = task.objective.companion, task.objective.head
    beside = save_network(shop.out, kind, companion, card | {"codec_sha256": codec})
    facts = {"role": "teacher", "steps": recipe_steps(shop), "schedule": dataclasses.asdict(SCHEDULE)}
    save_network(shop.out, "teacher", denoiser, card | facts | {"codec_sha256": codec, f"{kind}_sha256": beside["sha256"]})


def recipe_steps(shop: Workshop) -> int:
    """Steps of the grid from which students start."""
    return shop.config.students.teacher_steps if shop.config.students else TEACHER_STEPS


def load_teacher(folder: Path, name: str) -> tuple[Teacher, dict[str, Any]]:
    """A denoiser of a bundle's folder as a teacher, and its card.

    Raises WeightsError where it, codec and text encoder or language model do not belong together.
    """
    card, codec = read_card(folder, name), read_card(folder, "codec")
    facts = (card["sha256"], CosineSchedule(**card["schedule"]), card["steps"])
    if card["kind"] == "locdit":
        lm, lm_card = load_network(folder, "lm", PatchLM)
        check_companions(folder, name, card, {"codec": codec, "lm": lm_card})
        return DitarTeacher(load_network(folder, name, LocDiT)[0], lm, *facts), card
    text, text_card = load_network(folder, "text", TextEncoder)
    check_companions(folder, name, card, {"codec": codec, "text": text_card})
    return BundleTeacher(load_network(folder, name, Denoiser)[0], text, *facts), card


def make_guided(shop: Workshop, before: str = "teacher") -> None:
    """The guided student: the network `before` with guidance folded into one evaluation."""
    recipe = _section(shop, "guided")
    teacher, parent = load_teacher(shop.out, before)
    task = GuidedTask(recipe, shop.latents(teacher.patch), teacher, shop.config.seed)
    finished, card = shop.run(task, recipe)
    facts = {"role": "guided", "guidance_scales": list(task.scales), "loss_by_level": _tail_by_level(finished)}
    _save_student(shop, "guided", task.objective.denoiser, card | facts, parent)


def make_students(shop: Workshop, weighting: str, before: str = "guided") -> None:
    """All students of one weighting, each the teacher of the next; the first one's is the network `before`."""
    recipe = _section(shop, "students")
    teacher_steps = recipe.teacher_steps
    for steps, stage in recipe.stages():
        name = f"student-{weighting}-{steps}"
        if not shop.is_done(name, stage, before, weighting=weighting, gamma=_gamma(weighting, recipe)):
            teacher, parent = load_teacher(shop.out, before)
            scales = tuple(parent["guidance_scales"])
            grids, corpus = Stage(SCHEDULE, teacher_steps, steps), shop.latents(teacher.patch)
            task = StageTask(stage, grids, weighting, recipe.gamma, scales, corpus, teacher, shop.config.seed)
            finished, card = shop.run(task, stage)
            facts = {"role": "student", "weighting": weighting, "gamma": task.identity["gamma"], "steps": steps, "guidance_scales": list(scales)}
            _save_student(shop, name, task.objective.denoiser, card | facts | {"loss_by_level": _tail_by_level(finished)}, parent)
        before, teacher_steps = name, steps


def _gamma(weighting: str, recipe: DistillRecipe) -> float:
    return default_gamma(weighting) if recipe.gamma is None else recipe.gamma


def _tail_by_level(finished: Finished) -> list[dict[str, float]]:
    """Loss per noise level over the last fifth of the log; empty where there is none."""
    if not finished.losses:
        return []
    return loss_by_level(finished.losses[-max(1, len(finished.losses) // 5) :], SCHEDULE)


def _save_student(shop: Workshop, name: str, network: nn.Module, card: Mapping[str, Any], parent: Mapping[str, Any]) -> None:
    kept = {key: parent[key] for key in (*(f"{kind}_sha256" for kind in COMPANIONS), "schedule", "steps") if key in parent}
    save_network(shop.out, name, network, {**kept, "parent": parent["name"], "parent_sha256": parent["sha256"], **card})


def _section(shop: Workshop, name: str) -> Any:
    section = getattr(shop.config, name)
    if section is None:
        raise ConfigError(f"section [{name}] is not in the configuration; add it, or leave {name} out of --only")
    return section


def parts_of(config: TrainConfig) -> dict[str, Callable[[Workshop], None]]:
    """Parts that `config` has, in the order in which they are made."""
    makers: dict[str, Callable[[Workshop], None]] = {"codec": make_codec, "embedder": make_embedder, "teacher": make_teacher, "guided": make_guided}
    found = {name: make for name, make in makers.items() if getattr(config, name) is not None}
    for weighting in config.students.weightings if config.students else ():
        found[weighting] = functools.partial(make_students, weighting=weighting)
    return found


def make_bundle(config: TrainConfig, only: Sequence[str] = (), progress: Progress = silent) -> list[str]:
    """Make the parts of `config` that are not there yet (or those of `only`), in order; their names.

    Raises ConfigError for an unknown part, and what the trainings raise.
    """
    parts = parts_of(config)
    unknown = [name for name in only if name not in parts]
    if unknown:
        raise ConfigError(f"--only {unknown[0]}: no such part in the configuration; parts: {', '.join(parts)}")
    if not parts:
        raise ConfigError("the configuration has none of the sections codec, embedder, teacher, guided, students: nothing to train; add one")
    if config.embedder and (not only or "embedder" in only):
        config.embedder.check_length(config.data.clip_s)
    shop = Workshop(config, progress)
    wanted = [name for name in parts if not only or name in only]
    done = [_is_made(shop, name) for name in wanted]  # all of them are looked at before any is made
    write_text(config.out / "config.toml", config.to_toml())
    for name, is_made in zip(wanted, done, strict=True):
        if not is_made:
            parts[name](shop)
    return wanted


def _is_made(shop: Workshop, name: str) -> bool:
    """Whether a part is there as the configuration asks for it; of students, their first stages are looked at too, before any work."""
    students = shop.config.students
    if students is None or name not in students.weightings:
        facts = {"steps": recipe_steps(shop)} if name == "teacher" else {}
        return shop.is_done(name, _section(shop, name), "teacher" if name == "guided" else None, **facts)
    before = "guided"
    for steps, stage in students.stages():
        if not shop.is_done(f"student-{name}-{steps}", stage, before, weighting=name, gamma=_gamma(name, students)):
            return False
        before = f"student-{name}-{steps}"
    return True
