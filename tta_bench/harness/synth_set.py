"""SynthCaps as files: clips of a split with their captions in a folder, which other tools can read too."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pydantic import Field

from tta_bench.audio import encode, quantise
from tta_bench.config import PathText, Settings
from tta_bench.data.scene import Split, draw_scene
from tta_bench.data.sounds.dsp import SAMPLE_RATE_HZ
from tta_bench.data.synth import other_caption, synth_clip
from tta_bench.errors import InputError
from tta_bench.files import atomic_write, cannot_write, write_text
from tta_bench.harness.progress import Progress, silent


class SynthSet(Settings):
    """What `tta-bench synth` writes: the first `n` clips of `split`, drawn by `seed`."""

    out: PathText
    n: int = Field(ge=1, le=1_000_000)
    split: Split = "test"
    seed: int = 0


def write_synth_set(config: SynthSet, progress: Progress = silent) -> Path:
    """Write out/CLIP_ID.flac (2.56 s, 16 kHz) and at last out/captions.csv, whose path is returned; equal configurations give equal bytes.

    captions.csv has the columns clip_id, file, caption and events (the scene's key). Raises InputError where the folder holds another
    captions.csv, or another file of a clip's name, or cannot be written; other files in it stay.
    """
    listing = config.out / "captions.csv"
    text = _listing(config)
    if _is_other(listing, text.encode()):
        wanted = f"{config.n} clips of {config.split}, seed {config.seed}"
        raise InputError(f"{listing}: lists other clips than the wanted ones ({wanted}); choose another folder with --out, or remove the file")
    for i in range(config.n):
        clip = synth_clip(config.seed, config.split, i)
        path = config.out / f"{clip.clip_id}.flac"
        data = encode(quantise(clip.audio)[0], SAMPLE_RATE_HZ)
        if _is_other(path, data):
            raise InputError(f"{path}: is there already and is another file; choose another folder with --out, or remove it")
        with atomic_write(path) as file:
            file.write(data)
        progress("writing clips", i + 1, config.n)
    write_text(listing, text)
    return listing


def _is_other(path: Path, data: bytes) -> bool:
    """Whether something else than `data` lies at `path`."""
    try:
        return path.read_bytes() != data
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise cannot_write(path, error) from error


def _listing(config: SynthSet) -> str:
    """captions.csv; needs no audio."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["clip_id", "file", "caption", "events"])
    for i in range(config.n):
        clip_id = f"{config.split}-{i:06d}"  # as `synth_clip` calls it
        scene = draw_scene(config.seed, config.split, i)
        rows.writerow([clip_id, f"{clip_id}.flac", other_caption(config.seed, config.split, i, 0), scene.key])
    return out.getvalue()
