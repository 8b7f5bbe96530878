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
from tta_bench.mpeg import scan_mp3, with_frame_count

AUDIO_VERSION = 1  # part of every feature's key: raise it when decoding or resampling changes samples
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
SILENCE = 1e-4  # -80 dB of full scale: what a decoder makes of digital silence stays below
_UNKNOWN_SIZE = 0x7FFFF000  # what programs write into a WAV header when they stream
_MP3_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")
_CONTAINERS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3")
_UNKNOWN_FRAMES = 2**62
_MOST_SAMPLES_PER_BYTE = 16_384  # what FLAC makes of digital silence; anything above is a damaged header

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


def duration_of(path: Path) -> float:
    """Seconds. Taken from the header, but for MP3, whose frames are counted. Raises AudioError as `read_audio` does."""
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError):
        return read_audio(path).duration_s  # says what is wrong
    return read_audio(path).duration_s if info.format == "MP3" else float(info.duration)


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
    missing = _missing_bytes(data)
    if missing:
        raise AudioError("truncated", path, f"is cut off (at least {missing} bytes are missing at its end)")
    if _is_chained(data):
        raise AudioError("corrupt", path, "holds several streams one after the other, of which decoders read the first only")
    frames, rate = _decode(_countable(data, path), path)
    if len(frames) == 0:
        raise AudioError("no_samples", path, "holds no samples")
    if not np.isfinite(frames).all():
        bad = int((~np.isfinite(frames)).any(axis=1).sum())
        raise AudioError("not_finite", path, f"holds NaN or infinity in {bad} of {len(frames)} samples")
    samples = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float64).astype(np.float32)
    return Audio(np.ascontiguousarray(samples), rate, frames.shape[1])


def _decode(data: bytes, path: Path) -> tuple[npt.NDArray[np.float32], int]:
    """(T, channels) and the rate. Raises AudioError `corrupt` or `truncated`."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            declared, rate, container = file.frames, file.samplerate, file.format
            if container not in _CONTAINERS:
                raise AudioError("corrupt", path, f"is {container} inside, not WAV, FLAC, Ogg or MP3")
            if declared >= _UNKNOWN_FRAMES:
                raise AudioError("corrupt", path, "was streamed and does not say how long it is, which its decoder needs")
            if declared * file.channels > _MOST_SAMPLES_PER_BYTE * len(data):
                raise AudioError("corrupt", path, f"declares {declared} frames, which {len(data)} bytes cannot hold")
            frames = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError) as error:
        raise AudioError("corrupt", path, f"cannot be decoded ({_reason(error)})") from error
    if len(frames) < declared:
        raise AudioError("truncated", path, f"is cut off ({len(frames)} of {declared} frames could be read)")
    return frames, rate


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip().rstrip(".").removeprefix("Error : ")


def _countable(data: bytes, path: Path) -> bytes:
    """The same audio, told its true length where decoders would guess it: MP3 without a Xing or Info header."""
    stream = scan_mp3(data) if data[:4] not in (b"RIFF", b"RIFX", b"RF64", b"OggS", b"fLaC") else None
    if stream is None:
        return data
    if stream.missing:
        raise AudioError("truncated", path, f"is cut off ({stream.missing} bytes of its last frame are missing)")
    rest = data[stream.end :].lstrip(b"\0")
    if rest.startswith(b"ID3") or (stream.declared is None and rest and not rest.startswith(_MP3_TAGS)):
        raise AudioError("corrupt", path, f"holds {len(rest)} bytes behind frame {stream.frames} that are not of its stream")
    if stream.declared is None:
        return with_frame_count(data, stream)
    if stream.frames < stream.declared:
        raise AudioError("truncated", path, f"is cut off ({stream.frames} of {stream.declared} frames are there)")
    if stream.frames > stream.declared + 1:  # some encoders do not count the last one
        raise AudioError("corrupt", path, f"holds {stream.frames} frames and declares {stream.declared}")
    return data


def _wav_chunks(data: bytes) -> tuple[str, dict[bytes, tuple[int, int]]]:
    """Byte order, and the first chunk of each name of a RIFF, RIFX or RF64 file: (offset of its content, declared size)."""
    order = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">"}.get(data[:4], "")
    chunks: dict[bytes, tuple[int, int]] = {}
    if not order or data[8:12] != b"WAVE":
        return "", chunks
    offset = 12
    while offset + 8 <= len(data):
        name, size = struct.unpack_from(f"{order}4sI", data, offset)
        if name == b"data" and b"ds64" in chunks and size == 0xFFFFFFFF and chunks[b"ds64"][0] + 16 <= len(data):
            (size,) = struct.unpack_from("<Q", data, chunks[b"ds64"][0] + 8)
        chunks.setdefault(name, (offset + 8, size))
        offset += 8 + size + size % 2
    return order, chunks


def _wav_channels(data: bytes) -> int | None:
    order, chunks = _wav_chunks(data)
    offset, size = chunks.get(b"fmt ", (0, 0))
    return int(struct.unpack_from(f"{order}H", data, offset + 2)[0]) if size >= 4 and offset + 4 <= len(data) else None


def _missing_bytes(data: bytes) -> int:
    """How many bytes the container declares beyond the file's end, where decoders stop without a word; 0 if whole or unknown."""
    if data[:4] == b"OggS":
        return _missing_in_ogg(data)
    _, chunks = _wav_chunks(data)
    offset, size = chunks.get(b"data", (0, 0))
    streamed = data[:4] != b"RF64" and size >= _UNKNOWN_SIZE
    return 0 if streamed else max(0, int(offset + size - len(data)))


def _missing_in_ogg(data: bytes) -> int:
    """Bytes missing from the last Ogg page (RFC 3533, section 6), or 1 where the page that ends the stream is not there."""
    page = data.rfind(b"OggS")
    segments = data[page + 26] if page + 27 <= len(data) else 255
    table = data[page + 27 : page + 27 + segments]
    missing = page + 27 + segments + sum(table) - len(data)
    ends_stream = page + 5 < len(data) and data[page + 5] & 4
    return max(0 if ends_stream else 1, int(missing))


def _is_chained(data: bytes) -> bool:
    """Whether a second stream follows: an Ogg page that begins one behind a page that ended one, or a second FLAC header."""
    if data[:4] == b"fLaC":
        return data.find(b"fLaC\0\0\0\x22", 4) > 0
    if data[:4] != b"OggS":
        return False
    page, ended = 0, False
    while page >= 0 and page + 6 <= len(data):
        flags = data[page + 5]
        if ended and flags & 2:
            return True
        ended = ended or bool(flags & 4)
        page = data.find(b"OggS", page + 27)
    return False


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


def write_audio(path: str | Path, samples: npt.NDArray[Any], sample_rate_hz: int) -> int:
    """Write (T,) mono audio as 16-bit FLAC or WAV, by the suffix, atomically; how many samples were clipped to [-1, 1]."""
    path = Path(path)
    kind = {".flac": "FLAC", ".wav": "WAV"}.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: audio is written as .flac or .wav; choose one of them")
    integers, clipped = quantise(samples)
    with atomic_write(path) as file:
        file.write(encode(integers, sample_rate_hz, kind))
    return clipped


def encode(integers: npt.NDArray[np.int16], sample_rate_hz: int, kind: str = "FLAC") -> bytes:
    """A 16-bit file of (T,) samples in memory: "FLAC" or "WAV"."""
    buffer = io.BytesIO()
    soundfile.write(buffer, integers, sample_rate_hz, format=kind, subtype="PCM_16")
    return buffer.getvalue()
