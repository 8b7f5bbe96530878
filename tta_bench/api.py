"""The public Python functions, as `tta_bench.NAME`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tta_bench.config import EvaluateConfig, parse_settings
from tta_bench.embedders.load import load_embedder as load_embedder
from tta_bench.embedders.protocol import Embedder
from tta_bench.harness.evaluate import Evaluation
from tta_bench.harness.evaluate import evaluate as run_evaluation
from tta_bench.harness.progress import Progress, silent

if TYPE_CHECKING:
    from tta_bench.systems.latent import LatentSystem


def evaluate(
    generated: str | Path,
    reference: str | Path,
    *,
    embedders: Sequence[str | Embedder] = ("mel",),
    metrics: Sequence[str] = (),
    progress: Progress = silent,
    **options: Any,
) -> Evaluation:
    """Score a folder of generated audio against a folder of reference audio; as `tta-bench evaluate`.

    embedders: "NAME" or "NAME:PATH", or objects with the `Embedder` protocol. metrics: names of `tta_bench.metrics.suite.METRICS`;
    none means every default one that the embedders can serve. options: captions, skip_bad, out, batch_size, device.
    Returns an `Evaluation`: `.records`, `.frame()`. Raises TtaBenchError for input that cannot be scored.
    """
    names = tuple(item if isinstance(item, str) else str(getattr(item, "name", item)) for item in embedders)
    values = {"generated": generated, "reference": reference, "embedder": names, "metric": tuple(metrics), **options}
    settings = parse_settings(EvaluateConfig, values, "evaluate")
    loaded = [load_embedder(item, settings.device) if isinstance(item, str) else item for item in embedders]
    return run_evaluation(settings, loaded, progress)


def load_system(name: str, folder: str | Path | None = None, *, sampler: str = "ddim", device: str = "cpu") -> LatentSystem:
    """The system of network `name`: "teacher", "guided" or "student-WEIGHTING-STEPS" of the package, or of a bundle's `folder`.

    `.generate(clips, steps=, guidance_scale=, seed=)` yields (clip_id, (T,) float32 audio). Raises WeightsError for networks that are not there.
    """
    from tta_bench.systems.latent import load_latent

    return load_latent(name, Path(folder) if folder else None, sampler, device)
