"""The table of metrics: what each needs, which way is better, under which protocol it is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from tta_bench.errors import MetricError
from tta_bench.metrics.alignment import ClapScore
from tta_bench.metrics.clips import ClipRows, TwoSampleMetric
from tta_bench.metrics.divergence import KLDivergence
from tta_bench.metrics.diversity import Diversity
from tta_bench.metrics.events import EventErrorRate, need_jiwer
from tta_bench.metrics.fidelity import FidelityCosine, FidelityKL, FidelityMel
from tta_bench.metrics.frechet_infinity import FrechetInfinity
from tta_bench.metrics.frechet_score import FrechetDistance
from tta_bench.metrics.inception import InceptionScore
from tta_bench.metrics.kernel import KernelDistance, KernelInceptionDistance
from tta_bench.metrics.neighbours import NeighbourMetric
from tta_bench.metrics.score import Score

Source = Literal["embeddings", "logits", "joint"]


@dataclass(frozen=True)
class MetricSpec:
    """One metric of the suite.

    protocol: the id stored with every score: scores of different protocols are never compared. version: raised when our implementation
    changes a number. source: which features it reads. against: what stands on the other side: the reference audio, a teacher's audio
    from the same noise, the captions (in the joint space), nothing, or nothing but the samples of other seeds, which are then a clip's rows.
    paired: whether sides are matched by clip id.
    pooling: `patches` uses every row, `clip` their mean per clip. default: whether it is computed unless metrics are named. embedder: the
    only one whose features mean what the metric says; None for all that give `source`. ready: raises ExtraMissing where a package is absent
    that the metric needs.
    """

    name: str
    protocol: str
    build: Callable[..., TwoSampleMetric]
    source: Source
    against: Literal["reference", "teacher", "captions", "nothing", "seeds"]
    direction: Literal["lower", "higher"]
    unit: str = ""
    paired: bool = False
    pooling: Literal["patches", "clip"] = "clip"
    default: bool = False
    version: int = 1
    embedder: str | None = None
    ready: Callable[[], object] | None = None

    def score(self, reference: ClipRows, generated: ClipRows) -> Score:
        """The score of features of the kind `source`; `reference` holds caption embeddings for "captions", nothing for "nothing".

        Raises MetricError where it cannot be computed or is not finite.
        """
        if self.pooling == "clip":
            reference, generated = reference.pooled(), generated.pooled()
        if self.against in ("nothing", "seeds"):
            reference = ClipRows()
        score = self.build(reference=reference, generated=generated).compute()
        if not -float("inf") < score.value < float("inf"):
            raise MetricError("not_finite", f"{self.name} came out as {score.value}; check the features")
        return score


def _neighbours(kind: str, k: int) -> MetricSpec:
    return MetricSpec(kind, f"{kind}_k{k}_clip", partial(NeighbourMetric, kind=kind, k=k), "embeddings", "reference", "higher")


def _kl(name: str, protocol: str, default: bool = False) -> MetricSpec:
    build = partial(KLDivergence, protocol=protocol)
    return MetricSpec(name, protocol, build, "logits", "reference", "lower", "nat", paired=True, default=default)


_SPECS = (
    MetricSpec("fad", "frechet_patches", FrechetDistance, "embeddings", "reference", "lower", pooling="patches", default=True),
    MetricSpec("fad_clip", "frechet_clip", FrechetDistance, "embeddings", "reference", "lower"),
    MetricSpec("fad_infinity", "frechet_infinity_patches_15_points_seed0", FrechetInfinity, "embeddings", "reference", "lower", pooling="patches"),
    MetricSpec("kad", "kad_clip_x100", KernelDistance, "embeddings", "reference", "lower", default=True),
    MetricSpec("kad_patches", "kad_patches_x100", KernelDistance, "embeddings", "reference", "lower", pooling="patches"),
    MetricSpec("kid", "kid_clip_100x50_seed2020", KernelInceptionDistance, "embeddings", "reference", "lower"),
    _kl("kl", "kl_softmax", default=True),
    _kl("kl_audioldm", "kl_audioldm"),
    _kl("kl_reverse", "kl_reverse"),
    _kl("kl_sigmoid", "kl_sigmoid"),
    MetricSpec("is", "is_10_splits_seed2020", InceptionScore, "logits", "nothing", "higher", default=True),
    MetricSpec("is_1_split", "is_1_split", partial(InceptionScore, splits=1), "logits", "nothing", "higher"),
    MetricSpec("clap", "cosine_text_audio", ClapScore, "joint", "captions", "higher", paired=True, default=True),
    MetricSpec("clap_audio", "cosine_audio_audio", ClapScore, "joint", "reference", "higher", paired=True),
    MetricSpec(
        "fidelity_mel",
        "mel_rmse_80db_teacher",
        FidelityMel,
        "embeddings",
        "teacher",
        "lower",
        "dB",
        paired=True,
        pooling="patches",
        embedder="log_mel",
    ),
    MetricSpec("fidelity_cosine", "cosine_clip_teacher", FidelityCosine, "embeddings", "teacher", "higher", paired=True),
    MetricSpec("fidelity_kl", "kl_softmax_teacher", FidelityKL, "logits", "teacher", "lower", "nat", paired=True),
    MetricSpec(
        "event_error_rate",
        "wer_of_events",
        EventErrorRate,
        "embeddings",
        "captions",
        "lower",
        paired=True,
        version=2,
        embedder="events",
        ready=need_jiwer,
    ),
    MetricSpec("diversity", "cosine_distance_clip_seeds", Diversity, "embeddings", "seeds", "higher", pooling="patches"),
    _neighbours("precision", 3),
    _neighbours("recall", 3),
    _neighbours("density", 5),
    _neighbours("coverage", 5),
)
METRICS: dict[str, MetricSpec] = {spec.name: spec for spec in _SPECS}
