"""What the networks of a bundle can do, measured on unseen SynthCaps clips: embedder, codec, teacher, students. Tables as pandas frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import signal

from tta_bench.data.events import EVENT_CLASSES
from tta_bench.data.scene import Event, Scene, draw_scene
from tta_bench.data.synth import event_labels, render_scene, synth_clip
from tta_bench.embedders.bundled import BundledEmbedder
from tta_bench.embedders.log_mel import LogMelEmbedder
from tta_bench.errors import InputError
from tta_bench.harness.listening import Heard, difference, hear, hear_captions, over_seeds, score
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.stft import stft_distance
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.score import Score
from tta_bench.models.bundle import assets, load_network
from tta_bench.models.codec import Codec
from tta_bench.rng import generator
from tta_bench.systems.anchors import reconstructed, rendered_again
from tta_bench.systems.latent import LatentSystem, load_latent
from tta_bench.systems.protocol import Clip

QUALITY = ("fad", "kad", "kl", "is", "clap")
FIDELITY = ("fidelity_mel", "fidelity_cosine", "fidelity_kl")
DEGRADATIONS = {"noise": ("20 dB", "10 dB", "0 dB"), "low-pass": ("4 kHz", "2 kHz", "1 kHz"), "swapped captions": ("25 %", "50 %", "100 %")}
_GALLERY = 64
Audio = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Bench:
    """A bundle's folder and `n` test clips (split "test", the given seed), whose audio is the reference."""

    folder: Path
    n: int = 512
    seed: int = 0
    progress: Progress = silent

    @classmethod
    def shipped(cls, n: int = 512, progress: Progress = silent) -> Bench:
        """Of the networks in the package."""
        return cls(assets(), n, progress=progress)

    @cached_property
    def scenes(self) -> list[Scene]:
        """Of the test clips."""
        return [draw_scene(self.seed, "test", i) for i in range(self.n)]

    @cached_property
    def audio(self) -> list[Audio]:
        """Real audio of the test clips: the reference."""
        return [synth_clip(self.seed, "test", i).audio for i in range(self.n)]

    @cached_property
    def clips(self) -> list[Clip]:
        """Ids and captions."""
        made = [synth_clip(self.seed, "test", i) for i in range(self.n)]
        return [Clip(clip.clip_id, clip.caption) for clip in made]

    @property
    def clip_ids(self) -> list[str]:
        """In order."""
        return [clip.clip_id for clip in self.clips]

    @cached_property
    def rendered_again(self) -> list[Audio]:
        """Other renderings of the same scenes: what a perfect generator would make of the captions, none of it in the reference."""
        return [rendered_again(self.seed, "test", i) for i in range(self.n)]

    @cached_property
    def embedder(self) -> BundledEmbedder:
        """The bundle's."""
        return BundledEmbedder(self.folder)

    def hear(self, audio: Sequence[Audio]) -> Heard:
        """Features and log-mel frames."""
        return hear(self.clip_ids, audio, (self.embedder, LogMelEmbedder()))

    @cached_property
    def reference(self) -> Heard:
        """Features of the reference."""
        return self.hear(self.audio)

    @cached_property
    def captions(self) -> ClipRows:
        """Captions in the joint space."""
        return hear_captions(self.clip_ids, [clip.caption for clip in self.clips], self.embedder)

    def shuffled_captions(self, share: float = 1.0) -> ClipRows:
        """Captions where a share of the clips have another clip's, of another scene."""
        rng = generator(self.seed, "swap", self.n)
        moved = np.sort(rng.permutation(self.n)[: round(share * self.n)])
        texts = [clip.caption for clip in self.clips]
        keys = [scene.key for scene in self.scenes]
        swapped = list(texts)
        for place, i in enumerate(moved):
            others = (int(moved[(place + shift) % len(moved)]) for shift in range(1, len(moved)))
            swapped[i] = texts[next(j for j in others if keys[j] != keys[i])]
        return hear_captions(self.clip_ids, swapped, self.embedder)

    def reconstructed(self, audio: Sequence[Audio]) -> list[Audio]:
        """Through the codec and back."""
        codec = load_network(self.folder, "codec", Codec)[0]
        with torch.inference_mode():
            return [samples for start in range(0, len(audio), 32) for samples in reconstructed(codec, audio[start : start + 32])]

    def quality(self, heard: Heard) -> dict[str, Score]:
        """FAD, KAD, KL, IS, CLAP against the reference and the captions."""
        return {name: score(name, heard, self.captions if name == "clap" else self.reference) for name in QUALITY}

    def generate(self, system: LatentSystem, steps: int, guidance_scale: float, seed: int) -> list[Audio]:
        """Audio of all test clips."""
        made = []
        for _, samples in system.generate(self.clips, steps=steps, guidance_scale=guidance_scale, seed=seed):
            made.append(samples)
            self.progress(f"{system.name} {steps} steps, seed {seed}", len(made), self.n)
        return made


def embedder_table(bench: Bench) -> pd.DataFrame:
    """mAP of event tags, R@1 of captions to audio in galleries of 64, and every metric under ever stronger degradations."""
    labels = np.stack([event_labels(scene) for scene in bench.scenes])
    logits = bench.reference.of("logits").matrix()
    rows: list[dict[str, Any]] = [{"what": "event mAP", "value": mean_average_precision(labels, logits)}]
    rows.append({"what": f"caption-to-audio R@1 of {_GALLERY}", "value": recall_at_1(bench)})
    rows += [{"what": "none", **_values(bench.quality(bench.hear(bench.rendered_again)))}]
    for family, levels in DEGRADATIONS.items():
        for level in levels:
            if family == "swapped captions":
                values = {"clap": score("clap", bench.reference, bench.shuffled_captions(float(level[:-2]) / 100.0)).value}
            else:
                values = _values(bench.quality(bench.hear([degraded(samples, family, level) for samples in bench.rendered_again])))
            rows.append({"what": f"{family} {level}", **values})
            bench.progress("examining the embedder", len(rows), 12)
    return pd.DataFrame(rows)


def _values(scores: Mapping[str, Score]) -> dict[str, float]:
    return {name: item.value for name, item in scores.items()}


def mean_average_precision(labels: npt.NDArray[Any], logits: npt.NDArray[Any]) -> float:
    """Mean over classes of the average precision: precision at each hit, in the order of falling logits (N, K); labels (N, K) 0/1."""
    order = np.argsort(-logits, axis=0, kind="stable")
    hits = np.take_along_axis(labels.astype(np.float64), order, axis=0)
    precision = np.cumsum(hits, axis=0) / np.arange(1, len(hits) + 1)[:, None]
    present = hits.sum(axis=0) > 0
    return float(((precision * hits).sum(axis=0)[present] / hits.sum(axis=0)[present]).mean())


def recall_at_1(bench: Bench) -> float:
    """Share of captions whose nearest audio, of 64 consecutive test clips, is their own or one of the same scene."""
    audio, text = bench.reference.of("joint").matrix(), bench.captions.matrix()
    audio, text = audio / np.linalg.norm(audio, axis=1, keepdims=True), text / np.linalg.norm(text, axis=1, keepdims=True)
    keys = np.array([scene.key for scene in bench.scenes])
    hits = []
    for start in range(0, bench.n - _GALLERY + 1, _GALLERY):
        part = slice(start, start + _GALLERY)
        nearest = (text[part] @ audio[part].T).argmax(axis=1)
        hits.append(keys[part][nearest] == keys[part])
    return float(np.mean(hits))


def degraded(samples: Audio, family: str, level: str) -> Audio:
    """ "noise": white, so many dB below the clip's RMS; "low-pass": Butterworth of order 8 at the frequency."""
    number = float(level.split()[0])
    if family == "noise":
        rng = generator(0, "degrade", len(samples), float(samples[:64].sum()).hex())
        rms = float(np.sqrt(np.square(samples, dtype=np.float64).mean()))
        noisy = samples + rms * 10.0 ** (-number / 20.0) * rng.standard_normal(len(samples))
        return np.asarray(np.clip(noisy, -1.0, 1.0), dtype=np.float32)
    return np.asarray(signal.sosfilt(signal.butter(8, number * 1000.0, fs=16_000, output="sos"), samples), dtype=np.float32)


def codec_table(bench: Bench, per_class: int = 16) -> pd.DataFrame:
    """Round trip of single-event clips: multi-resolution STFT distance and KL of the embedder's posteriors, by class."""
    rows = []
    for name, kind in EVENT_CLASSES.items():
        audio = [_single(bench.seed, name, kind.pitched, kind.paced, i) for i in range(per_class)]
        ids = [f"{name}-{i}" for i in range(per_class)]
        back = bench.reconstructed(audio)
        log_distance, convergence = stft_distance(torch.from_numpy(np.stack(back)), torch.from_numpy(np.stack(audio)))
        kl = score("kl", hear(ids, back, (bench.embedder,)), hear(ids, audio, (bench.embedder,)))
        rows.append(
            {"class": name, "log_stft_distance": float(log_distance.mean()), "spectral_convergence": float(convergence.mean()), "kl": kl.value}
        )
    return pd.DataFrame(rows)


def _single(seed: int, name: str, pitched: bool, paced: bool, index: int) -> Audio:
    rng = generator(seed, "single", name, index)
    pitch, rate = (int(level) for level in rng.integers(-1, 2, 2))
    return render_scene(Scene(((Event(name, pitch * pitched, rate * paced),),)), rng)


def anchors(bench: Bench) -> dict[str, dict[str, Score]]:
    """Scores of real audio, of it through the codec, and of the reference's own clips through the codec."""
    return {
        "real audio, rendered again": bench.quality(bench.hear(bench.rendered_again)),
        "reconstruction of it": bench.quality(bench.hear(bench.reconstructed(bench.rendered_again))),
        "codec on the reference's own clips": bench.quality(bench.hear(bench.reconstructed(bench.audio))),
    }


@dataclass(frozen=True)
class Row:
    """One system at a number of steps: scores averaged over seeds within each clip."""

    system: str
    weighting: str
    steps: int
    guidance_scale: float
    scores: Mapping[str, Score]


def system_rows(
    bench: Bench, cells: Sequence[tuple[LatentSystem, str, int]], guidance_scale: float, seeds: Sequence[int], teacher_steps: int = 200
) -> list[Row]:
    """Quality of every (system, weighting, steps), and fidelity to the teacher at its longest step count under the same noise and guidance."""
    teacher = load_latent("teacher", bench.folder)
    found: list[list[dict[str, Score]]] = [[] for _ in cells]
    for seed in seeds:
        target = bench.hear(bench.generate(teacher, teacher_steps, guidance_scale, seed))
        for cell, (system, _, steps) in zip(found, cells, strict=True):
            same = system.name == teacher.name and steps == teacher_steps and system.sampler == teacher.sampler
            heard = target if same else bench.hear(bench.generate(system, steps, guidance_scale, seed))
            cell.append(bench.quality(heard) | {name: score(name, heard, target) for name in FIDELITY})
    rows = []
    for cell, (system, weighting, steps) in zip(found, cells, strict=True):
        scores = {name: over_seeds([scores[name] for scores in cell]) for name in (*QUALITY, *FIDELITY)}
        rows.append(Row(system.name, weighting, steps, guidance_scale, scores))
    return rows


def as_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Tidy: one line per row and metric, with value, standard error and 95 % interval."""
    return pd.DataFrame(
        {
            "system": row.system, "weighting": row.weighting, "steps": row.steps, "guidance_scale": row.guidance_scale, "metric": name,
            "value": item.value, "std_error": item.std_error, "ci_low": item.ci_low, "ci_high": item.ci_high, "n": item.n,
        }
        for row in rows for name, item in row.scores.items()
    )  # fmt: skip


def paired_differences(rows: Sequence[Row], baseline: str, steps: int) -> pd.DataFrame:
    """Each weighting minus `baseline` at equal steps, paired by clip."""
    chosen = [row for row in rows if row.steps == steps and row.weighting]
    at = {row.weighting: row for row in chosen}
    if len(at) != len(chosen) or baseline not in at:
        raise InputError(f"at {steps} steps there must be one row of each weighting, {baseline} among them; got {[row.weighting for row in chosen]}")
    lines = []
    for weighting, row in at.items():
        for name in row.scores if weighting != baseline else ():
            item = difference(row.scores[name], at[baseline].scores[name])
            lines.append({"weighting": weighting, "minus": baseline, "steps": steps, "metric": name, "value": item.value,
                          "ci_low": item.ci_low, "ci_high": item.ci_high, "n": item.n})  # fmt: skip
    return pd.DataFrame(lines)
