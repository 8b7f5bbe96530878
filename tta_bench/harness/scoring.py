"""Scores of one set of clips: every wanted metric under every embedder that can serve it, as records with provenance.

Per-clip values are saved before the records that they belong to, and what is there already is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tta_bench.embedders.protocol import Embedder
from tta_bench.errors import InputError, MetricError
from tta_bench.files import atomic_write, digest
from tta_bench.harness.environment import code_version, environment_id
from tta_bench.harness.plan import SOURCE_WORDS
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.store import FeatureSet
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.score import Score
from tta_bench.metrics.suite import MetricSpec
from tta_bench.records import SCHEMA, Record, append_records, now
from tta_bench.row_values import load_arrays
from tta_bench.rows import Ledger

Pairs = Sequence[tuple[MetricSpec, Embedder]]


@dataclass(frozen=True)
class Side:
    """A set of clips as metrics see it. hashes: SHA-256 of each usable clip's file by id. features: of those clips under an embedder."""

    name: str
    hashes: Mapping[str, str]
    n_excluded: int
    features: Callable[[Embedder], FeatureSet]
    _known: dict[tuple[str, ...], str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def clip_ids(self) -> list[str]:
        """Usable clips in order."""
        return sorted(self.hashes)

    def sha256(self, clip_ids: Iterable[str]) -> str:
        """Fingerprint of the content of the named clips: ids and audio bytes."""
        named = tuple(clip_ids)
        if named not in self._known:
            self._known[named] = fingerprint(self.hashes, named)
        return self._known[named]


def fingerprint(hashes: Mapping[str, str], clip_ids: Iterable[str]) -> str:
    """SHA-256 over the named clips in order: ids and their hashes."""
    return digest([clip_id, hashes[clip_id]] for clip_id in sorted(clip_ids))


@dataclass
class Captions:
    """Captions by clip id, and their rows under embedders, each computed once."""

    texts: Mapping[str, str]
    batch_size: int = 16
    _rows: dict[tuple[str, tuple[str, ...]], ClipRows] = field(default_factory=dict, repr=False)
    _known: dict[tuple[str, ...], str] = field(default_factory=dict, repr=False)

    def sha256(self, clip_ids: Iterable[str]) -> str:
        """Fingerprint of the captions of the named clips."""
        named = tuple(clip_ids)
        if named not in self._known:
            self._known[named] = digest([clip_id, self.texts[clip_id]] for clip_id in named)
        return self._known[named]

    def rows(self, embedder: Embedder, clip_ids: Sequence[str]) -> ClipRows:
        """What `embedder.embed_text` gives for captions: in its joint space, or events."""
        key = (embedder.checksum, tuple(clip_ids))
        if key not in self._rows:
            rows: list[Any] = []
            for start in range(0, len(clip_ids), self.batch_size):
                rows += list(embedder.embed_text([self.texts[clip_id] for clip_id in clip_ids[start : start + self.batch_size]]))
            self._rows[key] = ClipRows.of(clip_ids, rows)
        return self._rows[key]


class Identified(Protocol):
    """What a record says of an embedder."""

    @property
    def name(self) -> str: ...
    @property
    def checksum(self) -> str: ...


@dataclass(frozen=True)
class Scorer:
    """Scores `generated`. reference: real audio. teacher: what `fidelity_*` compare with. about: fields of records that say what was generated.

    made_from_captions: whether every score depends on the captions, because the audio was made from them, or only those that read them.
    """

    generated: Side
    reference: Side | None
    teacher: Side | None
    captions: Captions | None
    about: Mapping[str, Any]
    made_from_captions: bool = False

    def against(self, spec: MetricSpec) -> Side | None:
        """The set on the other side of a metric, if it has one."""
        return {"reference": self.reference, "teacher": self.teacher}.get(spec.against)

    def used(self, spec: MetricSpec) -> tuple[list[str], list[str]]:
        """Clip ids that enter a metric on the other side and on the generated side."""
        other, right = self.against(spec), self.generated.clip_ids
        if other is None:
            return [], right
        if not spec.paired:
            return other.clip_ids, right
        both = sorted(set(other.clip_ids) & set(right))
        return both, both

    def blank(self, spec: MetricSpec, embedder: Identified) -> Record:
        """The record of a score that is not there yet: everything but the numbers."""
        used_other, used = self.used(spec)
        other = self.against(spec)
        captions = self.captions if spec.against == "captions" or self.made_from_captions else None
        return Record(
            **self.about,
            schema=SCHEMA,
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
            n_excluded=self.generated.n_excluded,
            reference=other.name if other else None,
            reference_sha256=other.sha256(used_other) if other else None,
            n_reference=len(used_other) if other else None,
            n_reference_excluded=other.n_excluded if other else 0,
            generated_sha256=self.generated.sha256(used),
            captions_sha256=captions.sha256(used) if captions else None,
            unit=spec.unit,
            direction=spec.direction,
            metric_version=spec.version,
            code_version=code_version(),
            environment=environment_id(),
            created=now(),
        )

    def score(self, spec: MetricSpec, embedder: Embedder, blank: Record) -> tuple[Record, Score | None]:
        """The record with its numbers, or, where the score cannot be computed, with the reason."""
        used_other, used = self.used(spec)
        other = self.against(spec)
        try:
            if spec.paired and not used:
                raise MetricError("unpaired", "generated and reference share no clip ids")
            generated = _rows(self.generated.features(embedder), spec).select(used)
            if spec.against == "captions":
                assert self.captions is not None  # plans without captions hold no such metric
                facing = self.captions.rows(embedder, used)
            else:
                facing = _rows(other.features(embedder), spec).select(used_other) if other else ClipRows()
            score = spec.score(facing, generated)
        except MetricError as error:
            return blank.model_copy(update={"status": error.status, "message": str(error)}), None
        numbers = {"value": score.value, "std_error": score.std_error, "ci_low": score.ci_low, "ci_high": score.ci_high, "dof": score.dof}
        done = blank.model_dump(by_alias=True) | numbers | {"status": "ok", "details": dict(score.details), "n": score.n}
        return Record.model_validate(done), score


@dataclass(frozen=True)
class Scored:
    """records: one for each pair, in order. new: how many of them were computed now."""

    records: list[Record]
    new: int


def score_pairs(scorer: Scorer, pairs: Pairs, ledger: Ledger, folder: Path, records_file: Path, progress: Progress = silent) -> Scored:
    """Records of all pairs: those of the ledger as they are, new ones computed, their per-clip values saved to folder/clips.npz, then appended.

    A known record is appended again where a newer one stands in its place.
    """
    try:
        values = load_arrays(folder / "clips.npz")
    except InputError:
        values = {}  # damaged: computed again, as if it were gone
    records: list[Record] = []
    new: list[Record] = []
    again: list[Record] = []
    changed = False
    for done, (spec, embedder) in enumerate(pairs):
        progress("scoring", done, len(pairs))
        blank = scorer.blank(spec, embedder)
        name = blank.values_name
        there = ledger.known.get(blank.key)
        if there is not None and not ledger.counts(there):
            again.append(there)
        if there is not None and (there.status != "ok" or f"{name}/values" in values):
            records.append(there)
            continue
        record, score = scorer.score(spec, embedder, blank)
        if there is not None and there.value == record.value:  # only its contributions were lost
            record = there
        else:
            new.append(record)
        records.append(record)
        if score is not None:
            changed = True
            values |= {f"{name}/clip_ids": np.array(score.clip_ids), f"{name}/values": score.contributions}
    progress("scoring", len(pairs), len(pairs))
    if changed:
        with atomic_write(folder / "clips.npz") as file:
            np.savez(file, **values)  # type: ignore[arg-type]
    if new or again:
        append_records(records_file, [*again, *new])
    return Scored(records, len(new))


def _rows(features: FeatureSet, spec: MetricSpec) -> ClipRows:
    rows = features.of(spec.source)
    if rows is None:
        raise InputError(f"{spec.name} needs {SOURCE_WORDS[spec.source]} that are not there; delete the features folder and run again")
    return rows
