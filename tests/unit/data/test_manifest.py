from __future__ import annotations

import os
from pathlib import Path

import pytest

from tta_bench.data.manifest import read_captions, scan_folder
from tta_bench.errors import InputError


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_scanning_sorts_by_id_and_passes_over_what_is_not_audio(tmp_path: Path) -> None:
    _touch(tmp_path, "b.WAV", "a.flac", "sub/a.ogg", "notes.txt", ".hidden.wav", ".cache/x.wav")
    (tmp_path / "folder.wav").mkdir()
    assert [clip.clip_id for clip in scan_folder(tmp_path, "--x", (".wav", ".flac", ".ogg"))] == ["a", "b", "sub/a"]


def test_bad_folders(tmp_path: Path) -> None:
    _touch(tmp_path, "full/a.wav", "full/a.flac", "empty/x.txt")
    for folder, message in (
        ("none", "does not exist"),
        ("full/a.wav", "is a file"),
        ("empty", "holds no audio"),
        ("full", "a.flac, a.wav|a.wav, a.flac"),
    ):
        with pytest.raises(InputError, match=f"--generated .*({message})"):
            scan_folder(tmp_path / folder, "--generated", (".wav", ".flac"))


def test_captions_by_id_or_by_file_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text('\ufeffcaption,clip_id,other\n"a dog, barking ",b,1\nrain,a,2\nnot needed,z,3\n', encoding="utf-8")
    assert read_captions(path, ["a", "b"]) == {"a": "rain", "b": "a dog, barking"}
    path.write_text("file,caption\nsub/a.v2.wav,rain\n")
    assert read_captions(path, ["sub/a.v2"]) == {"sub/a.v2": "rain"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found: none"),
        (b"id,caption\na,x\n", "needs the columns caption and clip_id .or file., found: id, caption"),
        (b"clip_id,caption\na,x\n", "1 of 2 clips have no caption: b; add them"),
        (b"clip_id,caption\na,x\nb,y\na,z\n", "line 4: clip a is listed twice"),
        (b"clip_id,caption\na,x\nb,  \n", "line 3: the caption of clip b is empty"),
        (b"clip_id,caption\na,x\nb\n", "line 3: the caption of clip b is empty"),
        (b'clip_id,caption\na,"x\nb,y\n', "not valid CSV"),
        (b"clip_id,caption\na,\xff\xfe\n", "not UTF-8"),
    ],
)
def test_bad_captions(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"c\.csv.*{message}"):
        read_captions(tmp_path / "c.csv", ["a", "b"])


def test_missing_caption_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_captions(tmp_path / "none.csv", ["a"])


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    _touch(tmp_path / "real", "a.wav")
    _touch(tmp_path / "x", "b.wav")
    (tmp_path / "x" / "more").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "x")
    assert [clip.clip_id for clip in scan_folder(tmp_path / "x", "--x", (".wav",))] == ["b", "more/a"]


def test_names_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"")
    with pytest.raises(InputError, match=r"caf\\xe9\.wav.*not UTF-8; rename"):
        scan_folder(tmp_path, "--x", (".wav",))


@pytest.mark.parametrize("name", ["/", ".", "a/", ".hidden", ""])
def test_odd_file_names_in_a_list_are_no_crash(tmp_path: Path, name: str) -> None:
    (tmp_path / "c.csv").write_text(f"file,caption\n{name},x\n")
    with pytest.raises(InputError, match="have no caption"):
        read_captions(tmp_path / "c.csv", ["clip"])
