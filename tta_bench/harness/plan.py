"""What an evaluation will compute, settled before anything is embedded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tta_bench.config import EvaluateConfig
from tta_bench.data.manifest import ClipFile
from tta_bench.embedders.protocol import Embedder
from tta_bench.errors import ConfigError, InputError
from tta_bench.metrics.suite import METRICS, MetricSpec

SOURCE_WORDS = {"logits": "class logits", "joint": "a joint text-audio space", "embeddings": "embeddings"}


@dataclass(frozen=True)
class Plan:
    """pairs: (metric, embedder) that the embedders can serve. named: whether the user named the metrics. notes: what is left out and why."""

    pairs: list[tuple[MetricSpec, Embedder]]
    named: bool
    notes: list[str]


def check_embedders(embedders: Sequence[Embedder]) -> None:
    """Raises InputError for an object that is no embedder, or whose name or checksum cannot name its features on disk."""
    for embedder in embedders:
        if not isinstance(embedder, Embedder):
            raise InputError(f"{embedder!r} is no embedder; see tta_bench.embedders.protocol.Embedder")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", embedder.name):
            raise InputError(f"embedder name {embedder.name!r} must be letters, digits, '.', '_' and '-'")
        if not isinstance(embedder.checksum, str) or not embedder.checksum:
            raise InputError(f"embedder {embedder.name} must have a checksum, a text that changes whenever its output does")
        if "embeddings" not in embedder.provides or not set(embedder.provides) <= set(SOURCE_WORDS):
            raise InputError(f"embedder {embedder.name} provides {sorted(embedder.provides)}; known: {', '.join(SOURCE_WORDS)}, the last one always")
    names = [embedder.name for embedder in embedders]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"embedder {repeated[0]} is given twice; give each embedder once")


def make_plan(config: EvaluateConfig, embedders: Sequence[Embedder], has_captions: bool) -> Plan:
    """Metrics by embedder. A metric asked for by name that no embedder can serve is an error; of the default set it becomes a note."""
    unknown = [name for name in config.metric if name not in METRICS]
    if unknown:
        raise ConfigError(f"--metric {unknown[0]}: unknown metric; known: {', '.join(METRICS)}")
    specs = [METRICS[name] for name in dict.fromkeys(config.metric)] or [spec for spec in METRICS.values() if spec.default]
    notes, pairs = [], []
    for spec in specs:
        if spec.against == "captions" and not has_captions:
            if config.metric:
                raise InputError(f"--metric {spec.name} compares with captions; give them with --captions CSV")
            continue
        if spec.against == "seeds":
            raise InputError(f"--metric {spec.name} compares samples of several seeds, which a single folder does not hold; use tta-bench run")
        if spec.ready:
            spec.ready()
        able = [embedder for embedder in embedders if spec.source in embedder.provides and spec.embedder in (None, embedder.name)]
        if not able:
            wanted = f"the embedder {spec.embedder}" if spec.embedder else f"an embedder with {SOURCE_WORDS[spec.source]}"
            reason = f"{spec.name} needs {wanted}, and {_names(embedders)} has none"
            if config.metric:
                raise InputError(f"--metric {reason}; add one with --embedder")
            notes.append(f"not computed: {reason}")
        pairs += [(spec, embedder) for embedder in able]
    return Plan(pairs, bool(config.metric), notes)


def _names(embedders: Sequence[Embedder]) -> str:
    return " + ".join(embedder.name for embedder in embedders)


def helper_embedders(metrics: Iterable[str], specs: Sequence[str]) -> list[str]:
    """Embedders that metrics need for themselves alone and that `specs` do not name; `events` of the same bundle as `bundled`."""
    needed = dict.fromkeys(METRICS[name].embedder for name in metrics)
    names = [spec.partition(":")[0] for spec in specs]
    bundle = next((spec.partition(":")[2] for spec in specs if spec.startswith("bundled:")), "")
    return [f"{name}:{bundle}" if name == "events" and bundle else name for name in needed if name and name not in names]


def run_pairs(metrics: Iterable[str], specs: Sequence[str], embedders: Sequence[Embedder]) -> list[tuple[MetricSpec, Embedder]]:
    """Metrics by embedder of a run that names `specs`; an embedder that is there for one metric's sake serves no other.

    Raises ConfigError for a metric that none can serve, ExtraMissing for one whose package is absent.
    """
    metrics = list(metrics)
    unnamed = {spec.partition(":")[0] for spec in helper_embedders(metrics, specs)}
    pairs = []
    for spec in (METRICS[name] for name in metrics):
        if spec.ready:
            spec.ready()
        able = [item for item in embedders if spec.source in item.provides and spec.embedder in (None, item.name)]
        able = [item for item in able if item.name not in unnamed or spec.embedder == item.name]
        if not able:
            raise ConfigError(f"metrics: {spec.name} needs an embedder with {SOURCE_WORDS[spec.source]}; add one to embedders, or remove the metric")
        pairs += [(spec, embedder) for embedder in able]
    return pairs


def check_partners(plan: Plan, generated: Sequence[ClipFile], reference: Sequence[ClipFile]) -> None:
    """Raises InputError where sets share some clip ids but not all, and a paired metric is wanted; or share none and it is asked for by name."""
    paired = [spec.name for spec, _ in plan.pairs if spec.paired and spec.against in ("reference", "teacher")]
    left, right = {clip.clip_id for clip in generated}, {clip.clip_id for clip in reference}
    if not paired or left == right or (not left & right and not plan.named):
        return
    if not left & right:
        raise InputError(f"--metric {paired[0]} compares pairs, and the two folders share no clip ids; name both files of a pair alike")
    alone = sorted(left ^ right)
    listed = ", ".join(alone[:5]) + (" ..." if len(alone) > 5 else "")
    raise InputError(f"{paired[0]} compares pairs, and {len(alone)} clips have no partner: {listed}; add them, or name other metrics by --metric")
