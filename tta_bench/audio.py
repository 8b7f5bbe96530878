"""The audio border: files in, mono float32 in [-1, 1] and back out. A file that cannot be trusted is an error, never a guess.

Stereo and more channels are averaged. Floating-point files may exceed [-1, 1] and are taken as they are.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from tta_bench.errors import AudioError, InputError
from tta_bench.files import atomic_write

AUDIO_VERSION = 1  # part of every feature's key: raise it when decoding or resampling changes samples
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
SILENCE = 1e-4  # -80 dB of full scale: what a decoder makes of digital silence stays below
_UNKNOWN_SIZE = 0x7FFFF000  # what programs write into a WAV header when they stream

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Audio:
    """samples: (T,) float32, mono. sample_rate_hz, channels: those of the file."""

    samples: Samples
    sample_rate_hz: int
    channels: int

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate_hz


def read_audio(path: Path) -> Audio:
    """Decode a WAV, FLAC, Ogg Vorbis/Opus or MP3 file of any rate and sample format.

    Raises AudioError of one kind of `tta_bench.errors.AUDIO_ERROR_KINDS`, naming the file.
    """
    return decode(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """The file's content. Raises AudioError `missing` or `unreadable`."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise AudioError("missing", path, "does not exist") from error
    except OSError as error:
        raise AudioError("unreadable", path, f"cannot be read ({error.strerror})") from error


def decode(data: bytes, path: Path) -> Audio:
    """`read_audio` of content that is already in memory; `path` is for messages only."""
    if not data:
        raise AudioError("empty", path, "is an empty file (0 bytes)")
    if _wav_channels(data) == 0:
        raise AudioError("zero_channels", path, "declares zero channels")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            declared, rate = file.frames, file.samplerate
            frames = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        raise AudioError("corrupt", path, f"cannot be decoded ({_reason(error)})") from error
    missing = _missing_bytes(data)
    if missing or len(frames) < declared:
        lost = f"its last {missing} bytes are missing" if missing else f"{len(frames)} of {declared} frames could be read"
        raise AudioError("truncated", path, f"is cut off ({lost})")
    if len(frames) == 0:
        raise AudioError("no_samples", path, "holds no samples")
    if not np.isfinite(frames).all():
        bad = int((~np.isfinite(frames)).any(axis=1).sum())
        raise AudioError("not_finite", path, f"holds NaN or infinity in {bad} of {len(frames)} samples")
    samples = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float64).astype(np.float32)
    return Audio(np.ascontiguousarray(samples), rate, frames.shape[1])


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip().rstrip(".").removeprefix("Error : ")


def _wav_chunks(data: bytes) -> dict[bytes, tuple[int, int]]:
    """First chunk of each name of a RIFF WAVE file: (offset of its content, declared size). Empty for other files."""
    chunks: dict[bytes, tuple[int, int]] = {}
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return chunks
    offset = 12
    while offset + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, offset)
        chunks.setdefault(name, (offset + 8, size))
        offset += 8 + size + size % 2
    return chunks


def _wav_channels(data: bytes) -> int | None:
    offset, size = _wav_chunks(data).get(b"fmt ", (0, 0))
    return int(struct.unpack_from("<H", data, offset + 2)[0]) if size >= 4 and offset + 4 <= len(data) else None


def _missing_bytes(data: bytes) -> int:
    """How many bytes the container declares beyond the file's end, where decoders stop without a word; 0 if whole or unknown."""
    if data[:4] == b"RIFF":
        offset, size = _wav_chunks(data).get(b"data", (0, 0))
        return max(0, offset + size - len(data)) if size < _UNKNOWN_SIZE else 0
    if data[:4] == b"OggS":
        return _missing_in_ogg(data)
    return _missing_in_mp3(data)


def _missing_in_ogg(data: bytes) -> int:
    """Bytes missing from the last Ogg page (RFC 3533, section 6), or 1 where the page that ends the stream is not there."""
    page = data.rfind(b"OggS")
    segments = data[page + 26] if page + 27 <= len(data) else 255
    table = data[page + 27 : page + 27 + segments]
    missing = page + 27 + segments + sum(table) - len(data)
    ends_stream = page + 5 < len(data) and data[page + 5] & 4
    return max(0 if ends_stream else 1, int(missing))


def _missing_in_mp3(data: bytes) -> int:
    """Bytes missing by the count in a Xing or Info header, where the encoder wrote one."""
    start = max(data.find(b"Xing", 0, 65_536), data.find(b"Info", 0, 65_536))
    if start < 0 or start + 16 > len(data) or data[:4] in (b"fLaC", b"FORM"):
        return 0
    flags, first, second = struct.unpack_from(">III", data, start + 4)
    frame_start = data.rfind(b"\xff", 0, start)
    if flags & ~15 or not flags & 2 or frame_start < 0:
        return 0
    declared = second if flags & 1 else first
    return max(0, int(declared) - (len(data) - frame_start))


def resample(samples: npt.NDArray[Any], from_hz: int, to_hz: int) -> Samples:
    """(T,) at from_hz -> (T * to_hz / from_hz,) at to_hz, band-limited (soxr, very high quality). Same rate: unchanged."""
    if from_hz <= 0 or to_hz <= 0:
        raise InputError(f"sample rates must be positive, got {from_hz} and {to_hz} Hz")
    mono = np.ascontiguousarray(samples, dtype=np.float32)
    return mono if from_hz == to_hz else np.asarray(soxr.resample(mono, from_hz, to_hz, quality="VHQ"), dtype=np.float32)


def silent_share(samples: npt.NDArray[Any]) -> float:
    """Share, in [0, 1], of samples that are digital silence (at most 1e-4 of full scale)."""
    return float(np.mean(np.abs(samples) <= SILENCE))


def quantise(samples: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int16], int]:
    """16-bit samples of (T,) floats, as libsndfile reads them back (1/32768 a step), and how many had to be clipped.

    Raises InputError for NaN and infinity.
    """
    if not np.isfinite(samples).all():
        raise InputError("audio to be written holds NaN or infinity; find the step that made it")
    scaled = np.rint(np.asarray(samples, dtype=np.float64) * 32768.0)
    clipped = int(((scaled > 32767) | (scaled < -32768)).sum())
    return np.clip(scaled, -32768, 32767).astype(np.int16), clipped


def write_audio(path: Path, samples: npt.NDArray[Any], sample_rate_hz: int) -> int:
    """Write (T,) mono audio as 16-bit FLAC or WAV, by the suffix, atomically; how many samples were clipped to [-1, 1]."""
    kind = {".flac": "FLAC", ".wav": "WAV"}.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: audio is written as .flac or .wav; choose one of them")
    integers, clipped = quantise(samples)
    buffer = io.BytesIO()
    soundfile.write(buffer, integers, sample_rate_hz, format=kind, subtype="PCM_16")
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())
    return clipped
