"""Records and scores as a sweep would leave them, for what reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tta_bench.metrics.score import of_contributions
from tta_bench.records import SCHEMA, Record
from tta_bench.rows import RowScore, ScoreKey, row_of

IDS = tuple(f"clip-{i:03d}" for i in range(64))


def record(**changes: Any) -> Record:
    facts: dict[str, Any] = {
        "schema": SCHEMA, "run": "r", "cell": "c0", "system": "teacher", "family": "latent", "sampler": "ddim", "steps": 25, "nfe": 50,
        "guidance_scale": 3.0, "seed": 0, "metric": "clap", "protocol": "cosine_text_audio", "embedder": "bundled", "embedder_sha256": "e",
        "value": 0.5, "std_error": 0.1, "ci_low": 0.3, "ci_high": 0.7, "dof": 63, "n": 64, "reference": None, "reference_sha256": None,
        "n_reference": None, "generated_sha256": "g", "captions_sha256": "t", "unit": "", "direction": "higher", "metric_version": 1,
        "code_version": "v", "environment": "x", "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Record.model_validate(facts | changes)


def row_score(values: npt.NDArray[Any], ids: tuple[str, ...] | None = None, **changes: Any) -> RowScore:
    """A score whose contributions are `values`, (n,) or (seeds, n)."""
    values = np.atleast_2d(values)
    ids = ids or tuple(f"clip-{i:03d}" for i in range(values.shape[1]))
    records = []
    for seed, row in enumerate(values):
        score = of_contributions(float(row.mean()), ids, row)
        numbers = {"value": score.value, "std_error": score.std_error, "ci_low": score.ci_low, "ci_high": score.ci_high, "dof": score.dof}
        records.append(record(**({"cell": f"c{seed}", "seed": seed, "n": len(ids)} | numbers | changes)))
    return RowScore(ScoreKey(row_of(records[0]), records[0].metric, records[0].embedder), tuple(records), ids, values)


def scores(*items: RowScore) -> dict[ScoreKey, RowScore]:
    return {item.key: item for item in items}
