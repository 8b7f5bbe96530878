"""Score finished audio of any origin: two folders in, records out."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from tta_bench.audio import AUDIO_SUFFIXES
from tta_bench.config import EvaluateConfig, read_toml
from tta_bench.data.manifest import read_captions, scan_folder
from tta_bench.embedders.load import load_embedder
from tta_bench.embedders.protocol import Embedder
from tta_bench.errors import InputError, MetricError
from tta_bench.files import atomic_write, digest, write_text
from tta_bench.harness.environment import code_version, describe_environment
from tta_bench.harness.features import EmbeddedSet, EmbedOptions, embed_clips
from tta_bench.harness.plan import SOURCE_WORDS, Plan, check_embedders, check_partners, make_plan
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.store import FeatureCache, FeatureSet, feature_key, pack
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.score import Score
from tta_bench.metrics.suite import MetricSpec
from tta_bench.records import SCHEMA, Record, append_records, now, read_records, to_frame
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
    def mostly_silent(self) -> list[str]:
        """Clips of which more than half is digital silence: valid audio, but embedders then hear mostly nothing."""
        return [clip.clip_id for clip in self.embedded.clips if clip.facts.silent_share > MOSTLY_SILENT]

    @property
    def too_loud(self) -> list[str]:
        """Clips that far exceed full scale: embedders expect [-1, 1], and samples that were never scaled to it score anyhow."""
        return [clip.clip_id for clip in self.embedded.clips if clip.facts.peak > TOO_LOUD]

    def sha256(self, clip_ids: Iterable[str]) -> str:
        """Fingerprint of the content of the named clips: ids and audio bytes."""
        hashes = {clip.clip_id: clip.audio_sha256 for clip in self.embedded.clips}
        return digest([clip_id, hashes[clip_id]] for clip_id in sorted(clip_ids))

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
    The same call again computes only what is missing. Raises TtaBenchError for input that cannot be scored.
    """
    loaded = list(embedders) if embedders is not None else [load_embedder(spec, config.device) for spec in config.embedder]
    check_embedders(loaded)
    generated_files = scan_folder(config.generated, "--generated", AUDIO_SUFFIXES)
    reference_files = scan_folder(config.reference, "--reference", AUDIO_SUFFIXES)
    captions = read_captions(config.captions, [clip.clip_id for clip in generated_files]) if config.captions else None
    plan = make_plan(config, loaded, captions is not None)
    check_partners(plan, generated_files, reference_files)
    run = config.out or _default_run(config)
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
    scorer = _Scorer(run, generated, reference, captions, cache, config.batch_size)
    scorer.prepare(config)
    return scorer.run_plan(plan, known, progress)


def _default_run(config: EvaluateConfig) -> Path:
    """runs/GENERATED-vs-REFERENCE, numbered where that one is of other folders of the same names."""
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
class _Scorer:
    run: Path
    generated: ScoredSet
    reference: ScoredSet
    captions: dict[str, str] | None
    cache: FeatureCache
    batch_size: int

    @property
    def cell(self) -> str:
        """Id of the generated set by its content."""
        return self.generated.sha256(self.generated.clip_ids)[:16]

    @property
    def folder(self) -> Path:
        return self.run / "cells" / self.cell

    def prepare(self, config: EvaluateConfig) -> None:
        """Write what describes the run: resolved configuration, environment, clips of both sides."""
        write_text(self.run / "config.toml", config.model_copy(update={"out": self.run}).to_toml())
        write_text(self.run / "environment.json", json.dumps(describe_environment(), indent=1) + "\n")
        write_text(self.folder / "clips.json", json.dumps(self.generated.describe(), indent=1) + "\n")
        write_text(self._reference_folder / "clips.json", json.dumps(self.reference.describe(), indent=1) + "\n")

    @property
    def _reference_folder(self) -> Path:
        return self.run / "reference" / self.reference.sha256(self.reference.clip_ids)[:16]

    def run_plan(self, plan: Plan, known: Sequence[Record], progress: Progress) -> Evaluation:
        """Records of all pairs: known ones as they are, new ones computed, their per-clip values saved first, then appended."""
        by_key = {record.key: record for record in known}
        values = self._load_values()
        records: list[Record] = []
        new: list[Record] = []
        features: dict[str, tuple[FeatureSet, FeatureSet]] = {}
        for done, (spec, embedder) in enumerate(plan.pairs):
            progress("scoring", done, len(plan.pairs))
            blank = self._blank(spec, embedder)
            name = blank.values_name
            there = by_key.get(blank.key)
            if there is not None and (there.status != "ok" or f"{name}/values" in values):
                records.append(there)
                continue
            if embedder.name not in features:
                features[embedder.name] = (self._features(self.reference, embedder), self._features(self.generated, embedder))
            record, score = self._score(spec, embedder, features[embedder.name], blank)
            records.append(record)
            new.append(record)
            if score is not None:
                values |= {f"{name}/clip_ids": np.array(score.clip_ids), f"{name}/values": score.contributions}
        progress("scoring", len(plan.pairs), len(plan.pairs))
        if new:
            with atomic_write(self.folder / "clips.npz") as file:
                np.savez(file, **values)  # type: ignore[arg-type]
            append_records(self.run / "records.jsonl", new)
        failed = next((record for record in records if record.status != "ok"), None)
        if plan.named and failed is not None:  # after the others were saved
            raise MetricError(failed.status, f"--metric {failed.metric}: {failed.message}")
        return Evaluation(records, self.run, self.generated, self.reference, plan.notes, len(records) - len(new))

    def _load_values(self) -> dict[str, npt.NDArray[Any]]:
        path = self.folder / "clips.npz"
        if not path.exists():
            return {}
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return dict(stored)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise InputError(f"{path}: cannot be read ({error}); delete it and run again") from error

    def _features(self, side: ScoredSet, embedder: Embedder) -> FeatureSet:
        folder = self.folder if side is self.generated else self._reference_folder
        entries = [self.cache.path(embedder, clip.audio_sha256) for clip in side.embedded.clips]
        key = digest([feature_key(embedder), side.sha256(side.clip_ids)])
        return pack(folder / "features" / f"{embedder.name}.safetensors", side.clip_ids, entries, key)

    def _used(self, spec: MetricSpec) -> tuple[list[str], list[str]]:
        """Clip ids that enter a metric on the reference's and on the generated side."""
        left, right = self.reference.clip_ids, self.generated.clip_ids
        if spec.against != "reference":
            return [], right
        if not spec.paired:
            return left, right
        both = sorted(set(left) & set(right))  # ids differ only by exclusions here: partners were checked before
        return both, both

    def _blank(self, spec: MetricSpec, embedder: Embedder) -> Record:
        """The record of a score that is not there yet: everything but the numbers."""
        used_reference, used = self._used(spec)
        against = spec.against == "reference"
        captions = self.captions if spec.against == "captions" else None
        return Record(
            schema=SCHEMA,
            run=self.run.name,
            cell=self.cell,
            system=self.generated.folder.resolve().name,
            family="folder",
            metric=spec.name,
            protocol=spec.protocol,
            embedder=embedder.name,
            embedder_sha256=embedder.checksum,
            status="unpaired",
            value=None,
            std_error=None,
            ci_low=None,
            ci_high=None,
            n=len(used),
            n_excluded=len(self.generated.embedded.excluded),
            reference=self.reference.folder.resolve().name if against else None,
            reference_sha256=self.reference.sha256(used_reference) if against else None,
            n_reference=len(used_reference) if against else None,
            n_reference_excluded=len(self.reference.embedded.excluded) if against else 0,
            generated_sha256=self.generated.sha256(used),
            captions_sha256=digest([clip_id, captions[clip_id]] for clip_id in used) if captions else None,
            unit=spec.unit,
            direction=spec.direction,
            metric_version=spec.version,
            code_version=code_version(),
            environment=digest([describe_environment()])[:16],
            created=now(),
        )

    def _score(self, spec: MetricSpec, embedder: Embedder, features: tuple[FeatureSet, FeatureSet], blank: Record) -> tuple[Record, Score | None]:
        """The record with its numbers, or, where the score cannot be computed, with the reason."""
        used_reference, used = self._used(spec)
        try:
            if spec.paired and not used:
                raise MetricError("unpaired", "generated and reference share no clip ids")
            generated = _rows(features[1], spec).select(used)
            reference = self._text(embedder, used) if spec.against == "captions" else _rows(features[0], spec).select(used_reference)
            score = spec.score(reference, generated)
        except MetricError as error:
            return blank.model_copy(update={"status": error.status, "message": str(error)}), None
        numbers = {"value": score.value, "std_error": score.std_error, "ci_low": score.ci_low, "ci_high": score.ci_high}
        done = blank.model_dump(by_alias=True) | numbers | {"status": "ok", "details": dict(score.details), "n": score.n}
        return Record.model_validate(done), score

    def _text(self, embedder: Embedder, clip_ids: Sequence[str]) -> ClipRows:
        """Caption embeddings by clip id."""
        if self.captions is None:
            raise InputError("caption embeddings were asked for without captions; give them with --captions CSV")
        rows: list[Any] = []
        for start in range(0, len(clip_ids), self.batch_size):
            batch = clip_ids[start : start + self.batch_size]
            rows += list(embedder.embed_text([self.captions[clip_id] for clip_id in batch]))
        return ClipRows.of(clip_ids, rows)


def _rows(features: FeatureSet, spec: MetricSpec) -> ClipRows:
    rows = features.of(spec.source)
    if rows is None:
        raise InputError(f"{spec.name} needs {SOURCE_WORDS[spec.source]} that are not there; delete the features folder and run again")
    return rows
