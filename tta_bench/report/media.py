"""What can be listened to and looked at: MP3 and log-mel spectrograms of some captions by some systems."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tta_bench.audio import Audio, Samples, read_audio, resample
from tta_bench.errors import AudioError
from tta_bench.files import atomic_write
from tta_bench.report.run_data import RunData
from tta_bench.rows import RowKey
from tta_bench.spectrum import PANNS_16K

_FLOOR_DB, _TOP_DB = -50.0, 30.0  # of mel power; the same for every picture
_MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
REFERENCE = "reference"


@dataclass(frozen=True)
class Sample:
    """One clip by one system. audio, picture: files in the report's audio folder."""

    clip_id: str
    column: str
    audio: Path
    picture: Path
    seconds: float

    def data(self, kind: str) -> str:
        """The MP3 or the PNG as a data: address."""
        path, mime = (self.audio, "audio/mpeg") if kind == "audio" else (self.picture, "image/png")
        return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"


def listening_columns(run: RunData) -> list[RowKey | None]:
    """What stands side by side: the reference (None), the target, the teacher at few steps, the first system of every other family at its most
    steps, every weighting at two step counts.
    """
    system, sampler, longest = run.target
    rows = [row for row in run.rows if row.guidance_scale == _scale(run)]
    few = sorted({row.steps for row in rows if row.steps and row.steps <= 25}, reverse=True)
    students = {cell["system"] for cell in run.plan["cells"] if cell["weighting"]}
    own = sorted((row for row in rows if row[:2] == (system, sampler)), key=lambda row: -(row.steps or 0))
    wanted = [row for row in own if row.steps == longest] + [row for row in own if row.steps in few][:2]
    families = {cell["system"]: cell["family"] for cell in run.plan["cells"]}
    first = {families[row.system]: row.system for row in reversed(rows) if row.steps}  # the last to come is the first of its family
    heads = [name for family, name in reversed(first.items()) if family != families.get(system)]
    wanted += [max((row for row in rows if row.system == name), key=lambda row: row.steps or 0) for name in heads]
    ends = list(dict.fromkeys([*few[:1], *few[-1:]]))
    wanted += [row for steps in ends for row in rows if row.system in students and row.steps == steps]
    others = [row for row in rows if row.system not in students and row.system != system and row.steps in ends]
    return list(dict.fromkeys([None, *wanted, *(others if not students else [])]))


def _scale(run: RunData) -> float | None:
    return next((cell["guidance_scale"] for cell in run.plan["cells"] if cell["guidance_scale"] is not None), None)


def samples_of(run: RunData, out: Path) -> list[Sample]:
    """Media of the plan's listening clips in `out`, made where the run's audio is at hand, else as they lie there; what is neither is left out."""
    found = []
    for clip_id in run.plan["listening"]:
        for row in listening_columns(run):
            column = REFERENCE if row is None else str(row)
            stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{clip_id} {column}").strip("-")
            audio, picture = out / f"{stem}.mp3", out / f"{stem}.png"
            source = _source(run, row, clip_id)
            if source is not None and source.exists():
                try:
                    decoded = read_audio(source)
                except AudioError:
                    continue  # the gap in the grid shows it; the table has the failure
                _store(audio, mp3(decoded))
                _store(picture, spectrogram(decoded))
            if audio.exists() and picture.exists():
                found.append(Sample(clip_id, column, audio, picture, soundfile.info(str(audio)).duration))
    return found


def _source(run: RunData, row: RowKey | None, clip_id: str) -> Path | None:
    if row is None:
        return run.folder / str(run.plan["reference"]["files"][clip_id])
    cells = run.cells_of(row)
    return run.audio_of(cells[0]["cell"], clip_id) if cells else None


def _store(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        with atomic_write(path) as file:
            file.write(data)


def mp3(audio: Audio) -> bytes:
    """Small, and played by every browser."""
    rate = next((rate for rate in _MP3_RATES if rate >= audio.sample_rate_hz), _MP3_RATES[-1])
    buffer = io.BytesIO()
    soundfile.write(buffer, resample(audio.samples, audio.sample_rate_hz, rate), rate, format="MP3", compression_level=0.7)
    return buffer.getvalue()


def spectrogram(audio: Audio) -> bytes:
    """PNG: 64 log-mel bands up to 8 kHz, low ones below, a column every 20 ms; one scale for all pictures."""
    from matplotlib import colormaps
    from PIL import Image

    bands = PANNS_16K(_long_enough(resample(audio.samples, audio.sample_rate_hz, PANNS_16K.sample_rate_hz)))[::2]
    shades = np.clip((np.asarray(bands).T[::-1] - _FLOOR_DB) / (_TOP_DB - _FLOOR_DB) * 255.0, 0.0, 255.0).round().astype(np.uint8)
    picture = Image.fromarray(shades)
    picture.putpalette((colormaps["magma"](np.arange(256))[:, :3] * 255.0).round().astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _long_enough(samples: Samples) -> Samples:
    return np.pad(samples, (0, max(0, PANNS_16K.min_samples - len(samples))))


def columns_in(samples: Sequence[Sample]) -> list[str]:
    """In the order of the grid."""
    return list(dict.fromkeys(sample.column for sample in samples))
