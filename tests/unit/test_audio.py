from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tta_bench.audio import decode, duration_of, quantise, read_audio, resample, silent_share, write_audio
from tta_bench.errors import AUDIO_ERROR_KINDS, AudioError, InputError
from tta_bench.mpeg import scan_mp3


def _tone(hz: float, seconds: float = 1.0, rate: int = 16_000, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 0.01),
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-7),
        ("wav", "FLOAT", 1e-7),
        ("wav", "DOUBLE", 1e-7),
        ("flac", "PCM_16", 1e-4),
        ("flac", "PCM_24", 1e-6),
        ("ogg", "VORBIS", 0.1),
        ("mp3", "MPEG_LAYER_III", 0.1),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_formats(tmp_path: Path, suffix: str, subtype: str, tolerance: float, channels: int, rate: int) -> None:
    path = tmp_path / f"a.{suffix}"
    tone = _tone(440, rate=rate)
    soundfile.write(path, np.stack([tone] * channels, axis=1), rate, subtype=subtype)
    audio = read_audio(path)
    assert (audio.sample_rate_hz, audio.channels) == (rate, channels)
    assert audio.samples.dtype == np.float32
    if suffix == "mp3":  # has a delay and padding of its own
        assert abs(np.abs(audio.samples).max() - 0.5) < tolerance
    else:
        assert audio.duration_s == pytest.approx(1.0)
        np.testing.assert_allclose(audio.samples, tone, atol=tolerance)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_length_without_decoding(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, _tone(440, seconds=1.7), 16_000)
    assert duration_of(path) == read_audio(path).duration_s == pytest.approx(1.7, abs=0.08 if suffix == "mp3" else 1e-4)


def test_length_of_what_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    for name, kind in (("a.wav", "corrupt"), ("b.wav", "missing")):
        with pytest.raises(AudioError) as error:
            duration_of(tmp_path / name)
        assert error.value.kind == kind


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = _tone(300), _tone(700)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav").samples, (left + right) / 2, atol=1e-6)


def _bytes(samples: np.ndarray, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16_000, format=kind, subtype=subtype)
    return buffer.getvalue()


def _zero_channels() -> bytes:
    data = bytearray(_bytes(_tone(440)))
    struct.pack_into("<H", data, data.index(b"fmt ") + 10, 0)
    return bytes(data)


BAD = {
    "empty": b"",
    "corrupt": b"this is no audio at all" * 40,
    "zero_channels": _zero_channels(),
    "no_samples": _bytes(np.zeros(0)),
    "not_finite": _bytes(np.array([0.0, np.nan, np.inf, 0.1]), subtype="FLOAT"),
}


@pytest.mark.parametrize("kind", BAD)
def test_each_kind_of_bad_file_is_told_apart_and_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(BAD[kind])
    with pytest.raises(AudioError, match=r"broken\.wav") as caught:
        read_audio(path)
    assert caught.value.kind == kind
    assert str(caught.value).endswith(AUDIO_ERROR_KINDS[kind])


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
@pytest.mark.parametrize("share", [0.35, 0.8, 0.999])
def test_a_file_that_is_cut_off_is_never_scored_as_a_shorter_one(kind: str, subtype: str, share: float) -> None:
    data = _bytes(np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), kind, subtype)
    with pytest.raises(AudioError) as caught:
        decode(data[: int(share * len(data))], Path("cut"))
    assert caught.value.kind in ("truncated", "corrupt")


def test_a_cut_mp3_is_found_by_its_own_count() -> None:
    data = _bytes(np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), "MP3", "MPEG_LAYER_III")
    assert len(decode(data, Path("whole")).samples) >= 48_000
    with pytest.raises(AudioError, match="cut off"):
        decode(data[: len(data) // 2], Path("cut"))


def _without_xing(data: bytes) -> bytes:
    """The MP3 stream less the frame that tells its length."""
    stream = scan_mp3(data)
    assert stream is not None
    assert stream.declared == stream.frames
    first = data.index(data[stream.start : stream.start + 2], stream.start + 4)
    while scan_mp3(data[first:]) is None:
        first = data.index(data[stream.start : stream.start + 2], first + 1)
    return data[first:]


def _varying_mp3() -> bytes:
    """Quiet, then noise: the first frames say little of the rest."""
    rng = np.random.default_rng(0)
    return _bytes(np.r_[1e-3 * rng.standard_normal(48_000), rng.uniform(-0.5, 0.5, 48_000)], "MP3", "MPEG_LAYER_III")


def test_an_mp3_that_does_not_tell_its_length_is_read_whole() -> None:
    bare = _without_xing(_varying_mp3())
    assert scan_mp3(bare).declared is None  # type: ignore[union-attr]
    assert len(decode(bare, Path("bare")).samples) == pytest.approx(96_000, abs=2_000)
    tagged = b"ID3\x04\0\0\0\0\0\x0a" + b"x" * 10 + bare + b"TAG" + b"y" * 125
    assert len(decode(tagged, Path("tagged")).samples) == pytest.approx(96_000, abs=2_000)


def test_a_bare_mp3_cut_or_damaged_anywhere_is_found() -> None:
    bare = _without_xing(_varying_mp3())
    with pytest.raises(AudioError, match="of its last frame are missing"):
        decode(bare[:-7], Path("cut"))
    damaged = bytearray(bare)
    stream = scan_mp3(bare)
    assert stream is not None
    place = bare.index(bare[stream.start : stream.start + 2], len(bare) // 2)
    damaged[place : place + 4] = bytes(4)
    with pytest.raises(AudioError, match=r"not of its stream|missing"):
        decode(bytes(damaged), Path("damaged"))


@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")])
def test_several_streams_in_one_file_are_not_read_as_the_first(kind: str, subtype: str) -> None:
    data = _bytes(np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), kind, subtype)
    with pytest.raises(AudioError) as caught:
        decode(data + data, Path("twice"))
    assert caught.value.kind == "corrupt"


@pytest.mark.parametrize(("options", "magic"), [({"format": "RF64"}, b"RF64"), ({"format": "WAV", "endian": "BIG"}, b"RIFX")])
def test_large_and_big_endian_wav_are_read_whole_or_found_cut(options: dict[str, str], magic: bytes) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, _tone(440), 16_000, subtype="PCM_16", **options)
    data = buffer.getvalue()
    assert data[:4] == magic
    assert len(decode(data, Path("whole")).samples) == 16_000
    with pytest.raises(AudioError, match="cut off"):
        decode(data[: len(data) // 2], Path("cut"))


def test_another_container_under_a_known_name_is_an_error() -> None:
    with pytest.raises(AudioError, match="is AIFF inside"):
        decode(_bytes(_tone(440), "AIFF"), Path("a.wav"))


def test_a_header_that_declares_what_cannot_be_is_an_error_not_a_huge_allocation() -> None:
    data = bytearray(_bytes(_tone(440), "FLAC"))
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    with pytest.raises(AudioError, match="cannot hold"):
        decode(bytes(data), Path("huge"))


def test_streamed_wav_headers_without_a_size_are_whole() -> None:
    data = bytearray(_bytes(_tone(440)))
    for name, offset in ((b"RIFF", 4), (b"data", 4)):
        struct.pack_into("<I", data, data.index(name) + offset, 0xFFFFFFFF)
    assert len(decode(bytes(data), Path("streamed")).samples) == 16_000


def test_missing_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="does not exist"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="cannot be read"):
        read_audio(tmp_path)


@pytest.mark.shared
def test_real_recordings_are_whole_and_mostly_silent_ones_are_found(shared: Path) -> None:
    import csv

    with (shared / "data" / "esc10" / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    shares = {row["file"]: 1 - float(row["active_fraction"]) for row in rows}
    found = {name: silent_share(read_audio(shared / "data" / "esc10" / name).samples) for name in shares}
    assert all(abs(found[name] - shares[name]) < 1e-3 for name in shares)
    assert sum(share > 0.5 for share in found.values()) == 48


def test_resampling_keeps_what_fits_and_removes_what_does_not() -> None:
    kept = resample(_tone(1000, rate=44_100), 44_100, 16_000)
    assert kept.shape == (16_000,)
    np.testing.assert_allclose(kept[2000:-2000], _tone(1000)[2000:-2000], atol=1e-4)
    gone = resample(_tone(12_000, rate=44_100), 44_100, 16_000)  # above the new Nyquist frequency: must not fold to 4 kHz
    assert np.abs(gone[2000:-2000]).max() < 1e-5
    same = _tone(1000).astype(np.float32)
    assert resample(same, 16_000, 16_000) is same
    with pytest.raises(InputError, match="positive"):
        resample(same, 16_000, 0)


def test_silence_is_counted_at_minus_80_db() -> None:
    assert silent_share(np.zeros(100)) == 1.0
    assert silent_share(np.r_[np.zeros(30), np.full(70, 0.01)]) == pytest.approx(0.3)
    assert silent_share(np.full(10, 2e-4)) == 0.0


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_written_audio_reads_back_exactly_and_clipping_is_counted(tmp_path: Path, suffix: str) -> None:
    samples = np.r_[_tone(440), 1.5, -1.5, 1.0, -1.0]
    path = tmp_path / "deep" / f"a.{suffix}"
    assert write_audio(path, samples, 16_000) == 3  # 1.0 is one step above the largest 16-bit value
    back = read_audio(path).samples
    np.testing.assert_array_equal(back, quantise(samples)[0] / np.float32(32768))
    assert write_audio(path, back, 16_000) == 0
    np.testing.assert_array_equal(read_audio(path).samples, back)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_writing_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NaN"):
        write_audio(tmp_path / "a.flac", np.array([np.nan]), 16_000)
    with pytest.raises(InputError, match=r"\.flac or \.wav"):
        write_audio(tmp_path / "a.mp3", np.zeros(9), 16_000)
    assert list(tmp_path.iterdir()) == []
