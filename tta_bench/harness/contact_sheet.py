"""Contact sheet: spectrograms of test captions by real audio, codec, teacher and students, side by side on one page."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tta_bench.files import atomic_write
from tta_bench.harness.examine import Audio, Bench
from tta_bench.harness.progress import Progress, silent
from tta_bench.spectrum import PANNS_16K
from tta_bench.systems.latent import load_latent

_FLOOR_DB, _TOP_DB = -50.0, 30.0  # of mel power; the same for every picture


def contact_sheet(folder: Path, out: Path, columns: Sequence[tuple[str, int]], clips: int = 20, guidance_scale: float = 3.0, seed: int = 0,
                  progress: Progress = silent) -> None:  # fmt: skip
    """Write a PNG: a row for each of `clips` test captions, a column for real audio, codec, and each (denoiser's name, steps)."""
    bench = Bench(folder, clips, progress=progress)
    made: dict[str, list[Audio]] = {"real": bench.audio, "codec": bench.reconstructed(bench.audio)}
    for name, steps in columns:
        made[f"{name}\n{steps} steps"] = bench.generate(load_latent(name, folder), steps, guidance_scale, seed)
    figure = _draw(made, [clip.caption for clip in bench.clips])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60, metadata={"Software": "tta_bench"})
    with atomic_write(out) as file:
        file.write(buffer.getbuffer())


def _draw(made: dict[str, list[Audio]], captions: Sequence[str]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.1 * len(made) + 2.4, 1.15 * len(captions) + 0.6), layout="constrained")
    axes = figure.subplots(len(captions), len(made), squeeze=False)
    for row, caption in enumerate(captions):
        for column, (name, audio) in enumerate(made.items()):
            picture = axes[row, column]
            picture.imshow(PANNS_16K(np.asarray(audio[row])).T, origin="lower", aspect="auto", vmin=_FLOOR_DB, vmax=_TOP_DB, cmap="magma")
            picture.set_xticks([])
            picture.set_yticks([])
            if row == 0:
                picture.set_title(name, fontsize=9)
        axes[row, 0].set_ylabel(textwrap.fill(caption, 30), fontsize=7, rotation=0, ha="right", va="center")
    return figure
