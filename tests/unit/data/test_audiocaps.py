from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tta_bench.data.audiocaps import write_test_lists
from tta_bench.data.manifest import read_manifest
from tta_bench.errors import InputError

TEST = "audiocap_id,youtube_id,start_time,caption\n1,aa_a,20,x\n2,aa_a,20,other words\n3,-b,0,y\n4,Ycc,100,z\n5,dd,5,w\n"


def _audioldm_eval(path: Path, clips: dict[str, str]) -> None:
    path.write_text(json.dumps({"data": [{"wav": f"/mnt/part1/Y{video}.wav", "labels": "/m/1", "caption": text} for video, text in clips.items()]}))


def _lines(path: Path, clips: dict[str, str]) -> None:
    path.write_text("".join(json.dumps({"dataset": "audiocaps", "location": f"x/{name}.wav", "captions": t}) + "\n" for name, t in clips.items()))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    (tmp_path / "test.csv").write_text(TEST)
    _audioldm_eval(tmp_path / "a.json", {"-b": "y", "aa_a": "x ", "Ycc": "z"})
    _lines(tmp_path / "t.json", {"aa_a_20": "x", "Ycc_100": "z"})
    _lines(tmp_path / "c.json", {"aa_a_20": "x"})
    return tmp_path


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.wav").write_bytes(b"")


def test_three_lists_become_one_manifest(published: Path) -> None:
    lists = {"audioldm_eval": published / "a.json", "tango": published / "t.json", "consistencytta": published / "c.json"}
    assert write_test_lists(published / "test.csv", lists, published / "lists.csv") == {"audioldm_eval": 3, "tango": 2, "consistencytta": 1}
    with (published / "lists.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["youtube_id", "start_time", "caption", "audioldm_eval", "tango", "consistencytta"],
            ["aa_a", "20", "x", "1", "1", "1"],
            ["-b", "0", "y", "1", "0", "0"],
            ["Ycc", "100", "z", "1", "1", "0"],
        ]
    _touch(published, "aa_a_20", "YYcc")
    assert [(clip.clip_id, clip.caption) for clip in read_manifest(published / "lists.csv", only="tango")] == [("Ycc_100", "z"), ("aa_a_20", "x")]
    with pytest.raises(InputError, match="1 of 3 audio files do not exist"):
        read_manifest(published / "lists.csv", only="audioldm_eval")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.json", "<html>", r"t\.json: is not JSON"),
        ("t.json", "", r"t\.json: lists no clips"),
        ("t.json", "[1]", r"t\.json: holds no list of clips"),
        ("t.json", '{"data": 3}', r"t\.json: holds no list of clips"),
        ("t.json", '{"data": [3]}', r"t\.json: holds no list of clips"),
        ("t.json", "[" * 100_000, r"t\.json: is not JSON"),
        ("t.json", '{"wav": "a.wav"}', r"t\.json: an entry has neither"),
        ("t.json", '{"location": "x/zz_3.wav", "captions": "x"}', r"t\.json: zz_3 is no clip of AudioCaps' test split"),
        ("t.json", '{"location": "aa_a_20.wav", "captions": "x"}\n' * 2, r"t\.json: aa_a is listed twice"),
        ("t.json", '{"location": "aa_a_20.wav", "captions": "unlike"}', r"t\.json: 1 clips have another caption .*: aa_a;"),
        ("t.json", b"\xff", r"t\.json: is not UTF-8"),
        ("t.json", None, r"t\.json: cannot be read"),
        ("test.csv", "youtube_id,caption\na,b\n", r"test\.csv: needs the columns youtube_id, start_time and caption"),
        ("test.csv", None, r"test\.csv: cannot be read"),
    ],
)
def test_files_that_are_something_else(published: Path, name: str, content: str | bytes | None, says: str) -> None:
    out = published / "lists.csv"
    out.write_text("was here")
    (published / name).unlink()
    if content is not None:
        (published / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=says):
        write_test_lists(published / "test.csv", {"audioldm_eval": published / "a.json", "tango": published / "t.json"}, out)
    assert out.read_text() == "was here"


HEAD = "clip_id,file,caption,small,large_12,large_13\n"


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (HEAD + "a,a.wav,x,1,0,1\n", "medium", "list 'medium': is no column, found: clip_id"),
        (HEAD + "a,a.wav,x,1,0,1\n", "large", "list 'large': large_12 and large_13 are both meant"),
        (HEAD + "a,a.wav,x,1,0,1\nb,b.wav,y,2,1,1\n", "small", "line 3: small is '2', neither 1 nor 0"),
        (HEAD + "a,a.wav,x,1,0,1\n", "large_12", "list large_12 has no clips"),
        (HEAD + "a,a.wav,x,1,0,1\n", "caption", "line 2: caption is 'x', neither"),
    ],
)
def test_lists_that_cannot_be_chosen(tmp_path: Path, content: str, name: str, says: str) -> None:
    (tmp_path / "m.csv").write_text(content)
    _touch(tmp_path, "a", "b")
    with pytest.raises(InputError, match=says):
        read_manifest(tmp_path / "m.csv", only=name)


def test_a_list_in_any_layout(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file,caption,small_1,all\na.wav,x,yes,1\nb.wav,y,no,1\nc.wav,z,,TRUE\n")
    _touch(tmp_path, "a", "b", "c")
    assert [clip.clip_id for clip in read_manifest(tmp_path / "m.csv", only="small")] == ["a"]
    assert [clip.clip_id for clip in read_manifest(tmp_path / "m.csv", only="all")] == ["a", "b", "c"]


@pytest.mark.shared
def test_the_published_lists(tmp_path: Path, shared: Path) -> None:
    """From files as the three repositories publish them: the lists, captions and start times that were put together independently."""
    captions = shared / "data" / "captions"
    with (captions / "audiocaps_test_lists.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    _audioldm_eval(tmp_path / "a.json", {row["youtube_id"]: row["caption"] for row in expected})
    for name, column in (("t", "tango_886"), ("c", "consistencytta_882")):
        _lines(tmp_path / f"{name}.json", {f"{row['youtube_id']}_{row['start_time']}": row["caption"] for row in expected if row[column] == "1"})
    lists = {"audioldm_eval": tmp_path / "a.json", "tango": tmp_path / "t.json", "consistencytta": tmp_path / "c.json"}
    counts = write_test_lists(captions / "audiocaps_test.csv", lists, tmp_path / "lists.csv")
    assert counts == {"audioldm_eval": 964, "tango": 886, "consistencytta": 882}
    with (tmp_path / "lists.csv").open(newline="") as file:
        assert {tuple(row.values()) for row in csv.DictReader(file)} == {tuple(row.values()) for row in expected}
    for row in expected:
        _touch(tmp_path, row["youtube_id"])
    for name, count in counts.items():
        assert len(read_manifest(tmp_path / "lists.csv", only=name)) == count
        assert len(read_manifest(captions / "audiocaps_test_lists.csv", tmp_path, name)) == count
