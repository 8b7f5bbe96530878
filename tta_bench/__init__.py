"""tta_bench: evaluation and benchmarks for text-to-audio diffusion models and their distilled students.

Shapes: B batch, T samples, C channels, L latent frames, S tokens, D features, K classes, E joint space, N rows, P patches of a clip.
Words: a clip is one caption and, where known, its reference audio; a system turns captions into audio at a number of steps; an
embedder is a pretrained network that turns audio into embeddings and class logits; a metric is a mergeable accumulator over these;
a cell is one (system, steps, guidance, seed); a record is one score of one cell with its provenance; a run is a folder of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tta_bench.api import evaluate as evaluate
    from tta_bench.api import load_embedder as load_embedder
    from tta_bench.api import load_system as load_system
    from tta_bench.api import sweep as sweep

__all__ = ["__version__", "evaluate", "load_embedder", "load_system", "sweep"]


def __getattr__(name: str) -> Any:
    """Public functions, imported on first use: importing the package loads neither torch nor pandas."""
    if name in __all__:
        from tta_bench import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
