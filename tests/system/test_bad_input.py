"""Every distinct way to ask for something impossible: exit code 2 and one sentence that says what, which file, and what to do."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import save_file

from tests.system.refusal import Shell
from tests.unit.harness.toys import make_folder
from tta_bench.audio import write_audio


def _wav(samples: np.ndarray, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16_000, format="WAV", subtype=subtype)
    return buffer.getvalue()


def _zero_channels() -> bytes:
    data = bytearray(_wav(np.full(8_000, 0.1)))
    struct.pack_into("<H", data, data.index(b"fmt ") + 10, 0)
    return bytes(data)


def _put(name: str, data: bytes) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return put


def _one_clip(folder: Path) -> None:
    make_folder(folder / "one", n=1)


def _twice(folder: Path) -> None:
    write_audio(folder / "g" / "clip00.wav", np.full(8_000, 0.1), 16_000)


def _other_weights(folder: Path) -> None:
    save_file({"layer1.conv.weight": np.zeros((1, 1), np.float32)}, folder / "w.safetensors")


def _nothing(folder: Path) -> None:
    pass


def _damaged_records(folder: Path) -> None:
    _put("run/records.jsonl", b'{"schema": 1}\n')(folder)


BASE = "--generated g --reference r "
CAPTIONS = BASE + "--captions c.csv"
TABLE: dict[str, tuple[Callable[[Path], None], str, tuple[str, ...]]] = {
    # name: (what is wrong, arguments, what the sentence must hold)
    "no folders at all": (_nothing, "", ("generated is not given", "--generated")),
    "no reference": (_nothing, "--generated g", ("reference is not given", "--reference")),
    "empty path": (_nothing, "--generated '' --reference r", ("generated = ''", "must not be empty")),
    "missing folder": (_nothing, "--generated nowhere --reference r", ("--generated nowhere", "does not exist", "check the path")),
    "file for a folder": (_put("f.wav", b""), "--generated g --reference f.wav", ("--reference f.wav", "is a file", "name the folder")),
    "folder without audio": (_put("empty/x.txt", b"x"), "--generated empty --reference r", ("empty", "holds no audio", "convert")),
    "one clip": (_one_clip, "--generated one --reference r", ("--generated one", "at least 2", "add clips")),
    "same id twice": (_twice, BASE, ("g", "clip00", "keep one file")),
    "empty file": (_put("g/clip00.flac", b""), BASE, ("clip00.flac", "0 bytes", "--skip-bad")),
    "no audio inside": (_put("g/clip00.flac", b"hello" * 99), BASE, ("clip00.flac", "cannot be decoded", "--skip-bad")),
    "zero channels": (_put("g/x.wav", _zero_channels()), BASE, ("x.wav", "zero channels", "--skip-bad")),
    "no samples": (_put("g/x.wav", _wav(np.zeros(0))), BASE, ("x.wav", "holds no samples", "--skip-bad")),
    "NaN": (_put("g/x.wav", _wav(np.full(8_000, np.nan), "FLOAT")), BASE, ("x.wav", "NaN or infinity in 8000", "--skip-bad")),
    "cut off": (_put("g/x.wav", _wav(np.full(8_000, 0.1))[:5_000]), BASE, ("x.wav", "cut off", "--skip-bad")),
    "too short": (_put("g/x.wav", _wav(np.full(99, 0.1))), BASE, ("x.wav", "lasts 0.006 s, embedder mel needs 0.025 s", "--skip-bad")),
    "bad reference file": (_put("r/clip00.flac", b""), BASE, ("r/clip00.flac", "0 bytes", "--skip-bad")),
    "unknown embedder": (_nothing, BASE + "--embedder vgish", ("vgish", "known: mel, log_mel")),
    "embedder without weights": (_nothing, BASE + "--embedder yamnet", ("yamnet", "tta-bench weights pull yamnet")),
    "embedder with a file too many": (_nothing, BASE + "--embedder mel:x", ("mel takes no file",)),
    "embedder twice": (_nothing, BASE + "--embedder mel --embedder mel", ("mel is given twice", "once")),
    "weights missing": (_nothing, BASE + "--embedder yamnet:no.safetensors", ("no.safetensors", "does not exist", "check the path")),
    "weights no safetensors": (_put("w.pt", b"\x80\x04x" * 9), BASE + "--embedder yamnet:w.pt", ("w.pt", "not a readable safetensors", "again")),
    "weights of another model": (_other_weights, BASE + "--embedder yamnet:w.safetensors", ("w.safetensors", "layer1", "right file?")),
    "unknown metric": (_nothing, BASE + "--metric fid", ("fid", "known: fad")),
    "metric without its features": (_nothing, BASE + "--metric kl", ("kl needs an embedder with class logits", "add one with --embedder")),
    "metric without captions": (_nothing, BASE + "--metric clap", ("clap compares with captions", "--captions CSV")),
    "too few clips for a metric": (_nothing, BASE + "--metric kid", ("at least 50 clips", "leave the metric out")),
    "captions missing": (_nothing, CAPTIONS, ("--captions c.csv", "cannot be read", "check the path")),
    "captions without columns": (_put("c.csv", b"id,text\n1,2\n"), CAPTIONS, ("c.csv", "needs the columns caption and clip_id", "found: id, text")),
    "captions incomplete": (_put("c.csv", b"clip_id,caption\nclip00,x\n"), CAPTIONS, ("c.csv", "11 of 12 clips have no caption", "add them")),
    "caption empty": (_put("c.csv", b"clip_id,caption\nclip00,\n"), CAPTIONS, ("c.csv, line 2", "clip00 is empty", "write one")),
    "caption twice": (_put("c.csv", b"clip_id,caption\nclip00,a\nclip00,b\n"), CAPTIONS, ("c.csv, line 3", "listed twice", "keep one")),
    "captions not UTF-8": (_put("c.csv", b"\xff\xfe\x00"), CAPTIONS, ("c.csv", "not UTF-8", "save it")),
    "config missing": (_nothing, BASE + "--config no.toml", ("no.toml", "cannot be read", "check the path")),
    "config no TOML": (_put("c.toml", b"a = = 1"), "--config c.toml", ("c.toml", "not valid TOML", "correct it")),
    "weights below nobody's home": (_nothing, BASE + "--embedder yamnet:~nobody-at-all/w", ("~nobody-at-all", "write the path out")),
    "path too long": (_nothing, "--reference r --generated " + "x" * 5_000, ("--generated", "cannot be listed", "check its path")),
    "config too deep": (_put("c.toml", b"a = " + b"[" * 5_000), "--config c.toml", ("c.toml", "not valid TOML")),
    "config unknown key": (_put("c.toml", b"skipbad = true"), BASE + "--config c.toml", ("c.toml", "'skipbad'", "did you mean skip_bad")),
    "config bad value": (_put("c.toml", b"batch_size = -3"), BASE + "--config c.toml", ("c.toml", "batch_size = -3", "greater")),
    "unknown flag": (_nothing, BASE + "--skipbad", ("--skipbad", "--skip-bad")),
    "bad number": (_nothing, BASE + "--batch-size many", ("--batch-size", "integer")),
    "no such device": (_nothing, BASE + "--device tpu", ("--device", "tpu", "cpu")),
    "records damaged": (_damaged_records, BASE + "--out run", ("run/records.jsonl, line 1", "is not a record", "another run")),
    "out is a file": (_put("taken", b"x"), BASE + "--out taken", ("taken", "choose another folder")),
    "unknown command": (_nothing, "EVALUTE", ("evalute",)),
}


@pytest.mark.parametrize("name", TABLE)
def test_exit_code_2_and_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    prepare, arguments, parts = TABLE[name]
    make_folder(tmp_path / "g", seed=1)
    make_folder(tmp_path / "r", seed=2)
    prepare(tmp_path)
    Shell(tmp_path, monkeypatch, capfd).refuses("evalute" if arguments == "EVALUTE" else f"evaluate {arguments}", parts)


def test_no_cuda_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    for side in "gr":
        make_folder(tmp_path / side)
    sentence = "device cuda: PyTorch finds no CUDA device here; use cpu"
    Shell(tmp_path, monkeypatch, capfd).refuses("evaluate --generated g --reference r --device cuda", [sentence])
