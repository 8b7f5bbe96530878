"""Scores of a row over its seeds: the samples of a caption, one of each seed, stand as the rows of one clip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tta_bench.embedders.protocol import Embedder
from tta_bench.files import digest
from tta_bench.harness.catalogue import Cell
from tta_bench.harness.cell_audio import CellAudio
from tta_bench.harness.cell_features import cell_side
from tta_bench.harness.scoring import Side
from tta_bench.harness.store import FeatureSet
from tta_bench.metrics.clips import ClipRows
from tta_bench.rows import RowKey


def cells_by_row(cells: Iterable[Cell]) -> dict[RowKey, list[Cell]]:
    """Rows that two seeds or more have, with their cells in the order of seeds."""
    rows: dict[RowKey, list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.row, []).append(cell)
    return {row: sorted(mine, key=lambda cell: cell.seed or 0) for row, mine in rows.items() if len(mine) > 1}


def side_over_seeds(name: str, made: Sequence[CellAudio]) -> Side:
    """Clips that every seed has; under an embedder a clip has a row (D,) for each seed, the mean over that sample's own rows."""
    sides = [cell_side(name, one) for one in made]
    common = sorted(set.intersection(*(set(side.hashes) for side in sides)))
    hashes = {clip_id: digest([side.hashes[clip_id] for side in sides]) for clip_id in common}

    def features(embedder: Embedder) -> FeatureSet:
        samples = [side.features(embedder).embeddings.pooled().select(common).matrix() for side in sides]
        return FeatureSet(ClipRows.of(common, list(np.stack(samples, axis=1))), None, None)

    return Side(name, hashes, max(len(set(side.hashes)) + side.n_excluded for side in sides) - len(common), features)
