"""`evaluate --backend reference`: scores by frechet-audio-distance and laion-clap themselves, under protocols of their own.

Files are checked with our readers first, so that both packages get the clips that count and no others. Scores carry no interval: the
packages give none, and nothing is known of what each clip contributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tta_bench.audio import AUDIO_SUFFIXES
from tta_bench.config import EvaluateConfig
from tta_bench.data.manifest import ClipFile, read_captions, scan_folder
from tta_bench.embedders.load import need_cuda
from tta_bench.errors import AudioError, ConfigError, InputError, MetricError
from tta_bench.harness.evaluate import Evaluation, Job, ScoredSet, default_run, length_notes
from tta_bench.harness.features import EmbeddedSet, EmbedOptions, embed_clips
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.reference_networks import ClapNetwork, FadNetwork
from tta_bench.harness.reference_packages import Packages, load_packages, need_packages
from tta_bench.harness.reference_weights import Network, Staged, find_network, staged
from tta_bench.harness.scoring import Captions, Scorer
from tta_bench.harness.store import FeatureCache
from tta_bench.metrics.alignment import clap_score
from tta_bench.metrics.suite import METRICS, MetricSpec
from tta_bench.records import Record, append_records, read_records
from tta_bench.rows import Ledger
from tta_bench.weights import cache_folder

_METRICS = ("fad", "clap")
_NO_INTERVAL = "scores of the reference packages carry no interval, and are compared with scores of the same package and version only"
_PROTOCOLS = {"vggish": "fad_vggish", "pann": "fad_pann_{rate}k_rows", "clap": "fad_clap_first_10_s"}  # what differs from the packages is named


@dataclass(frozen=True)
class _Score:
    """One score to be computed."""

    spec: MetricSpec
    network: Network


@dataclass(frozen=True)
class _Task:
    """What all scores of an evaluation share."""

    packages: Packages
    scorer: Scorer
    reference: dict[str, Path]
    generated: dict[str, Path]
    device: str
    progress: Progress


def evaluate_with_packages(config: EvaluateConfig, progress: Progress = silent) -> Evaluation:
    """As `tta_bench.harness.evaluate.evaluate`, by the reference packages.

    Raises ExtraMissing or InputError where they are absent or broken, and TtaBenchError for input that cannot be scored.
    """
    need_packages()  # before anything is asked for that only they need
    networks = _networks(config)
    metrics = _metrics(config, networks)
    if config.device == "cuda":
        need_cuda()
    files = {side: scan_folder(folder, f"--{side}", AUDIO_SUFFIXES) for side, folder in _folders(config).items()}
    captions = read_captions(config.captions, [clip.clip_id for clip in files["generated"]]) if config.captions else None
    packages = load_packages()
    run = config.out or default_run(config)
    ledger = Ledger(read_records(run / "records.jsonl"))
    sides = {side: _checked(config, side, files[side], networks, progress) for side in files}
    job = Job(run, sides["generated"], sides["reference"], FeatureCache(cache_folder()))
    job.prepare(config, packages.versions)
    paths = {side: {clip.clip_id: clip.path for clip in files[side]} for side in files}
    task = _Task(packages, job.scorer(Captions(captions) if captions else None), paths["reference"], paths["generated"], config.device, progress)
    notes, records, new = [_NO_INTERVAL], [], 0
    for network in networks:
        with staged(network) as there:
            for spec in _specs(network, metrics, packages, captions is not None):
                record, note, fresh = _record(task, _Score(spec, network), there, ledger, run / "records.jsonl")
                records.append(record)
                notes += note
                new += fresh
    failed = next((record for record in records if record.status != "ok"), None)
    if config.metric and failed is not None:
        raise MetricError(failed.status, f"--metric {failed.metric}: {failed.message}")
    for side in sides.values():
        side.embedded.embedded = len(side.clip_ids) if new else 0
    notes = [*notes, *length_notes(sides["generated"], sides["reference"])]
    return Evaluation(records, run, sides["generated"], sides["reference"], notes, len(records) - new)


def _folders(config: EvaluateConfig) -> dict[str, Path]:
    return {"reference": config.reference, "generated": config.generated}


def _networks(config: EvaluateConfig) -> list[Network]:
    networks = [find_network(spec) for spec in config.embedder]
    names = [network.name for network in networks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"embedder {twice} is given twice; give each embedder once")
    return networks


def _metrics(config: EvaluateConfig, networks: Sequence[Network]) -> tuple[str, ...]:
    """fad and clap, or those of them that are named. Raises where the packages have no such metric, or what it needs is not given."""
    unknown = next((name for name in config.metric if name not in _METRICS), None)
    if unknown:
        raise ConfigError(f"--metric {unknown}: the reference packages compute {' and '.join(_METRICS)}; name these, or use --backend ours")
    if "clap" in config.metric and config.captions is None:
        raise InputError("--metric clap compares with captions; give them with --captions CSV")
    if "clap" in config.metric and all(network.kind != "clap" for network in networks):
        raise InputError("--metric clap needs the embedder clap-laion; add it with --embedder")
    return config.metric or _METRICS


def _specs(network: Network, metrics: Sequence[str], packages: Packages, has_captions: bool) -> list[MetricSpec]:
    """The metrics that a network serves, under the package's protocols."""
    found = []
    if "fad" in metrics:
        protocol = _PROTOCOLS[network.kind].format(rate=network.sample_rate_hz // 1000)
        found.append(replace(METRICS["fad"], protocol=f"{protocol}@{packages.fad_id}", version=1))
    if "clap" in metrics and has_captions and network.kind == "clap":
        found.append(replace(METRICS["clap"], protocol=f"clap_score_first_10_s@{packages.clap_id}", version=1))
    return found


def _checked(config: EvaluateConfig, side: str, files: Sequence[ClipFile], networks: Sequence[Network], progress: Progress) -> ScoredSet:
    """Every file decoded by our own reader, and long enough for every network; bad ones stop the evaluation or are left out."""
    folder = _folders(config)[side]
    options = EmbedOptions(config.skip_bad, config.batch_size, progress, f"checking {side}")
    found = embed_clips(files, [], FeatureCache(cache_folder()), options)
    paths = {clip.clip_id: clip.path for clip in files}
    kept = []
    for clip in found.clips:
        short = next((network for network in networks if clip.facts.duration_s * network.sample_rate_hz < network.min_samples), None)
        if short is None:
            kept.append(clip)
            continue
        least = short.min_samples / short.sample_rate_hz
        error = AudioError("too_short", paths[clip.clip_id], f"lasts {clip.facts.duration_s:.3f} s, embedder {short.name} needs {least:.3f} s")
        if not config.skip_bad:
            raise error
        found.excluded[clip.clip_id] = error
    if len(kept) < 2:
        raise InputError(f"--{side} {folder}: {len(kept)} usable clips, scores need at least 2; add clips")
    return ScoredSet(folder, EmbeddedSet(kept, found.excluded))


def _record(task: _Task, score: _Score, there: Staged, ledger: Ledger, file: Path) -> tuple[Record, list[str], bool]:
    """The record, what must be told about it, and whether it is new; it is appended to `file` unless it stands there already."""
    blank = task.scorer.blank(score.spec, there)
    known = ledger.known.get(blank.key)
    if known is not None:
        if not ledger.counts(known):
            append_records(file, [known])
        return known, [], False
    notes: list[str] = []
    try:
        value = _clap(task, score, there) if score.spec.name == "clap" else _fad(task, score, there, notes)
        record = Record.model_validate(blank.model_dump(by_alias=True) | {"status": "ok", "value": value})
    except MetricError as error:
        record = blank.model_copy(update={"status": error.status, "message": str(error)})
    append_records(file, [record])
    return record, notes, True


def _fad(task: _Task, score: _Score, there: Staged, notes: list[str]) -> float:
    network = FadNetwork(task.packages, score.network, there, task.device)
    rows = []
    for side, paths in ((task.scorer.reference, task.reference), (task.scorer.generated, task.generated)):
        assert side is not None  # an evaluation has both
        rows.append(_all(task, f"{score.network.name}: {side.name}", side.clip_ids, lambda clip_id, paths=paths: network.rows(paths[clip_id])))
    value, made_regular = network.distance(*rows)
    if made_regular:
        notes.append(f"fad ({there.name}): the package added 1e-6 to the diagonals of singular covariances; more clips would spare that")
    return value


def _clap(task: _Task, score: _Score, there: Staged) -> float:
    network, captions = ClapNetwork(task.packages, score.network, there, task.device), task.scorer.captions
    assert captions is not None  # else there is no such metric
    ids = task.scorer.generated.clip_ids
    audio = _all(task, f"{score.network.name}: captions", ids, lambda clip_id: network.audio(task.generated[clip_id]))
    return clap_score(network.texts([captions.texts[clip_id] for clip_id in ids]), audio)


def _all(task: _Task, name: str, clip_ids: Sequence[str], rows_of: Any) -> Any:
    """(N, D): rows of all clips in order."""
    rows = []
    for done, clip_id in enumerate(clip_ids):
        task.progress(name, done, len(clip_ids))
        rows.append(rows_of(clip_id))
    task.progress(name, len(clip_ids), len(clip_ids))
    return np.concatenate(rows)
