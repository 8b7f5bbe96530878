"""Score finished audio of any origin: two folders in, records out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tta_bench.audio import AUDIO_SUFFIXES
from tta_bench.config import EvaluateConfig, read_toml
from tta_bench.data.manifest import read_captions, scan_folder
from tta_bench.embedders.load import load_embedder
from tta_bench.embedders.protocol import Embedder
from tta_bench.errors import InputError, MetricError
from tta_bench.files import digest, write_text
from tta_bench.harness.environment import describe_environment
from tta_bench.harness.features import EmbeddedSet, EmbedOptions, embed_clips
from tta_bench.harness.plan import check_embedders, check_partners, make_plan
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.scoring import Captions, Scorer, Side, fingerprint, score_pairs
from tta_bench.harness.store import FeatureCache, FeatureSet, feature_key, pack
from tta_bench.lengths import length_note, lengths_differ
from tta_bench.records import Record, read_records, to_frame
from tta_bench.rows import Ledger
from tta_bench.weights import cache_folder

if TYPE_CHECKING:
    import pandas

MOSTLY_SILENT = 0.5
TOO_LOUD = 1.5  # of full scale: decoders overshoot a little, unscaled integers a lot


@dataclass(frozen=True)
class ScoredSet:
    """One side of an evaluation: its folder, usable clips with their facts, and what was left out and why."""

    folder: Path
    embedded: EmbeddedSet

    @property
    def clip_ids(self) -> list[str]:
        """Usable clips in order."""
        return [clip.clip_id for clip in self.embedded.clips]

    @property
    def hours(self) -> float:
        """Total duration."""
        return sum(clip.facts.duration_s for clip in self.embedded.clips) / 3600.0

    @property
    def mean_s(self) -> float:
        """Mean length of a clip."""
        return self.hours * 3600.0 / len(self.embedded.clips)

    @property
    def mostly_silent(self) -> list[str]:
        """Clips of which more than half is digital silence: valid audio, but embedders then hear mostly nothing."""
        return [clip.clip_id for clip in self.embedded.clips if clip.facts.silent_share > MOSTLY_SILENT]

    @property
    def too_loud(self) -> list[str]:
        """Clips that far exceed full scale: embedders expect [-1, 1], and samples that were never scaled to it score anyhow."""
        return [clip.clip_id for clip in self.embedded.clips if clip.facts.peak > TOO_LOUD]

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each usable file by clip id."""
        return {clip.clip_id: clip.audio_sha256 for clip in self.embedded.clips}

    def sha256(self, clip_ids: Iterable[str]) -> str:
        """Fingerprint of the content of the named clips: ids and audio bytes."""
        return fingerprint(self.hashes, clip_ids)

    def describe(self) -> dict[str, Any]:
        """JSON-able list of all clips, those left out with the reason."""
        clips = [{"clip_id": clip.clip_id, "audio_sha256": clip.audio_sha256, **asdict(clip.facts)} for clip in self.embedded.clips]
        excluded = [{"clip_id": clip_id, "kind": error.kind, "message": str(error)} for clip_id, error in self.embedded.excluded.items()]
        return {"folder": str(self.folder), "clips": clips, "excluded": excluded, "mostly_silent": self.mostly_silent, "too_loud": self.too_loud}


@dataclass(frozen=True)
class Evaluation:
    """records: one per metric and embedder, in the order of the table. run: folder that holds everything. notes: what a reader must know."""

    records: list[Record]
    run: Path
    generated: ScoredSet
    reference: ScoredSet
    notes: list[str] = field(default_factory=list)
    reused: int = 0

    def frame(self) -> pandas.DataFrame:
        """Tidy pandas frame of the records."""
        return to_frame(self.records)


def evaluate(config: EvaluateConfig, embedders: Sequence[Embedder] | None = None, progress: Progress = silent) -> Evaluation:
    """Score `config.generated` against `config.reference`; append records to the run folder and return them.

    embedders: objects to use in place of the names in the configuration. Everything is checked before anything is embedded.
    With `config.backend` "reference" the reference packages score, and embedders are named. The same call again computes only what is missing.
    Raises TtaBenchError for input that cannot be scored.
    """
    if config.backend == "reference":
        from tta_bench.harness.reference_backend import evaluate_with_packages

        if embedders is not None:
            raise InputError("backend reference takes names of embedders, not objects; see tta_bench.harness.reference_weights.NAMES")
        return evaluate_with_packages(config, progress)
    loaded = list(embedders) if embedders is not None else [load_embedder(spec, config.device) for spec in config.embedder]
    check_embedders(loaded)
    generated_files = scan_folder(config.generated, "--generated", AUDIO_SUFFIXES)
    reference_files = scan_folder(config.reference, "--reference", AUDIO_SUFFIXES)
    captions = read_captions(config.captions, [clip.clip_id for clip in generated_files]) if config.captions else None
    plan = make_plan(config, loaded, captions is not None)
    check_partners(plan, generated_files, reference_files)
    run = config.out or default_run(config)
    known = read_records(run / "records.jsonl")

    cache = FeatureCache(cache_folder())
    sides = []
    for task, folder, files in (("reference", config.reference, reference_files), ("generated", config.generated, generated_files)):
        options = EmbedOptions(config.skip_bad, config.batch_size, progress, f"embedding {task}")
        side = ScoredSet(folder, embed_clips(files, loaded, cache, options))
        if len(side.clip_ids) < 2:
            raise InputError(f"--{task} {folder}: {len(side.clip_ids)} usable clips, scores need at least 2; add clips")
        sides.append(side)
    reference, generated = sides
    job = Job(run, generated, reference, cache)
    job.prepare(config)
    scorer = job.scorer(Captions(captions, config.batch_size) if captions else None)
    scored = score_pairs(scorer, plan.pairs, Ledger(known), job.folder, run / "records.jsonl", progress)
    failed = next((record for record in scored.records if record.status != "ok"), None)
    if plan.named and failed is not None:  # after the others were saved
        raise MetricError(failed.status, f"--metric {failed.metric}: {failed.message}")
    return Evaluation(scored.records, run, generated, reference, [*plan.notes, *length_notes(generated, reference)], len(scored.records) - scored.new)


def length_notes(generated: ScoredSet, reference: ScoredSet) -> list[str]:
    """What a reader must know where the clips of both sides are of other lengths."""
    return [length_note(generated.mean_s, reference.mean_s)] if lengths_differ(generated.mean_s, reference.mean_s) else []


def default_run(config: EvaluateConfig) -> Path:
    """runs/GENERATED-vs-REFERENCE, where none is named; numbered where that one is of other folders of the same names."""
    sides = [str(config.generated.resolve()), str(config.reference.resolve())]
    name = "-vs-".join(Path(side).name for side in sides)
    for number in count(1):
        run = Path("runs") / (name if number == 1 else f"{name}-{number}")
        described = run / "config.toml"
        there = read_toml(described) if described.exists() else {}
        if not there or [str(Path(there.get(side, "")).resolve()) for side in ("generated", "reference")] == sides:
            return run
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class Job:
    """One evaluation: where it writes, both sides, and the features that are packed for them."""

    run: Path
    generated: ScoredSet
    reference: ScoredSet
    cache: FeatureCache

    @property
    def cell(self) -> str:
        """Id of the generated set by its content."""
        return self.generated.sha256(self.generated.clip_ids)[:16]

    @property
    def folder(self) -> Path:
        return self.run / "cells" / self.cell

    @property
    def _reference_folder(self) -> Path:
        return self.run / "reference" / self.reference.sha256(self.reference.clip_ids)[:16]

    def prepare(self, config: EvaluateConfig, packages: Mapping[str, str] | None = None) -> None:
        """Write what describes the run: resolved configuration, environment (and the versions of other `packages`), clips of both sides."""
        environment = describe_environment() | ({"reference_packages": dict(packages)} if packages else {})
        write_text(self.run / "config.toml", config.model_copy(update={"out": self.run}).to_toml())
        write_text(self.run / "environment.json", json.dumps(environment, indent=1) + "\n")
        described = self.generated.describe() | {"notes": length_notes(self.generated, self.reference)}
        write_text(self.folder / "clips.json", json.dumps(described, indent=1) + "\n")
        write_text(self._reference_folder / "clips.json", json.dumps(self.reference.describe(), indent=1) + "\n")

    def scorer(self, captions: Captions | None) -> Scorer:
        """Of the generated set; the reference folder also stands for a teacher's audio."""
        reference = self._side(self.reference, self._reference_folder)
        about = {"run": self.run.name, "cell": self.cell, "system": self.generated.folder.resolve().name, "family": "folder"}
        return Scorer(self._side(self.generated, self.folder), reference, reference, captions, about)

    def _side(self, scored: ScoredSet, folder: Path) -> Side:
        packed: dict[str, FeatureSet] = {}

        def features(embedder: Embedder) -> FeatureSet:
            if embedder.name not in packed:
                entries = [self.cache.path(embedder, clip.audio_sha256) for clip in scored.embedded.clips]
                key = digest([feature_key(embedder), scored.sha256(scored.clip_ids)])
                packed[embedder.name] = pack(folder / "features" / f"{embedder.name}.safetensors", scored.clip_ids, entries, key)
            return packed[embedder.name]

        return Side(scored.folder.resolve().name, scored.hashes, len(scored.embedded.excluded), features)
