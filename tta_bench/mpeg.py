"""MP3 streams by their frame headers (ISO/IEC 11172-3, 13818-3): how many frames there are, whether the last one is whole.

libsndfile believes the count in a Xing header and guesses one where there is none, from the bit rate of the first frames: a
stream of varying bit rate then comes out at a third of its length, without an error. Counting the frames settles it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_RATES_KBPS = {  # by MPEG-1 or not; index 0 is "free format", which has no declared frame size
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by version bits


@dataclass(frozen=True)
class Mp3Stream:
    """start, end: offsets of the first frame and behind the last whole one. frames: audio frames, without a Xing or Info frame.

    declared: frames by that header, None without one. missing: bytes of the last frame that are not there.
    """

    start: int
    end: int
    frames: int
    declared: int | None
    missing: int


@dataclass(frozen=True)
class _Frame:
    header: int
    size: int
    side_info: int


def _frame(data: bytes, offset: int) -> _Frame | None:
    """The Layer III frame whose header is at `offset`, or None where there is none."""
    if offset + 4 > len(data):
        return None
    (header,) = struct.unpack_from(">I", data, offset)
    version, layer = header >> 19 & 3, header >> 17 & 3
    rate, frequency = header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or rate in (0, 15) or frequency == 3:
        return None
    first = version == 3
    size = (144 if first else 72) * _RATES_KBPS[first][rate] * 1000 // _SAMPLE_RATES[version][frequency] + (header >> 9 & 1)
    mono = header >> 6 & 3 == 3
    side_info = (17 if mono else 32) if first else (9 if mono else 17)
    return _Frame(header, size, side_info)


def _audio_start(data: bytes) -> int:
    """Offset behind any ID3v2 tags."""
    offset = 0
    while data[offset : offset + 3] == b"ID3" and offset + 10 <= len(data):
        size = 0
        for byte in data[offset + 6 : offset + 10]:
            size = size << 7 | byte & 127
        offset += 10 + size + (10 if data[offset + 5] & 16 else 0)
    return offset


def scan_mp3(data: bytes) -> Mp3Stream | None:
    """The stream's frames, or None where the data are not two or more Layer III frames in a row (other formats, free format)."""
    start = offset = _audio_start(data)
    first = _frame(data, offset)
    if first is None or (_frame(data, offset + first.size) is None and offset + first.size < len(data)):
        return None
    frames, missing = 0, 0
    while (frame := _frame(data, offset)) is not None:
        if offset + frame.size > len(data):
            missing = offset + frame.size - len(data)
            break
        frames += 1
        offset += frame.size
    tag = start + 4 + first.side_info
    has_tag = data[tag : tag + 4] in (b"Xing", b"Info")
    flags, declared = struct.unpack_from(">II", data, tag + 4) if has_tag and tag + 12 <= len(data) else (0, 0)
    return Mp3Stream(start, offset, frames - has_tag, declared if flags & 1 else None, missing)


def with_frame_count(data: bytes, stream: Mp3Stream) -> bytes:
    """The same audio behind a silent frame with a Xing header that tells the true number of frames."""
    frame = _frame(data, stream.start)
    if frame is None:
        raise ValueError("no frame where the stream is said to start")
    header = frame.header & ~(0xF << 12 | 1 << 9) | 9 << 12 | 1 << 16  # a common bit rate, no padding, no checksum
    size = _size_of(header)
    tag = b"Xing" + struct.pack(">III", 3, stream.frames, stream.end - stream.start + size)
    return (struct.pack(">I", header) + bytes(frame.side_info) + tag).ljust(size, b"\0") + data[stream.start : stream.end]


def _size_of(header: int) -> int:
    frame = _frame(struct.pack(">I", header), 0)
    return frame.size if frame is not None else 0
