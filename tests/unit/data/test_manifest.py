from __future__ import annotations

import csv
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tta_bench.data.manifest import CaptionedClip, read_captions, read_manifest, scan_folder
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


def test_more_values_than_columns_are_no_caption(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("clip_id,caption\na,a dog, barking\n")
    with pytest.raises(InputError, match=r"c\.csv, line 2: holds 3 values for 2 columns; quote values that hold commas"):
        read_captions(tmp_path / "c.csv", ["a"])


def _manifest(folder: Path, content: str | bytes, *files: str) -> Path:
    _touch(folder, *files)
    folder.mkdir(exist_ok=True)
    path = folder / "m.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_list_of_files(tmp_path: Path) -> None:
    content = '\ufefffile,clip_id,label,caption,more\nsub/b.wav,2,dog," a dog, barking",x\na.flac,1,,rain,y\n\n'
    path = _manifest(tmp_path, content, "sub/b.wav", "a.flac", "not listed.wav")
    assert read_manifest(path) == [
        CaptionedClip("1", tmp_path / "a.flac", "rain", None),
        CaptionedClip("2", tmp_path / "sub" / "b.wav", "a dog, barking", "dog"),
    ]


def test_files_without_ids_in_another_folder_and_by_absolute_path(tmp_path: Path) -> None:
    _touch(tmp_path / "audio", "b.v2.wav", "x/a.ogg")
    _touch(tmp_path / "else", "c.mp3")
    path = _manifest(tmp_path / "lists", f"file,caption\nb.v2.wav,B\nx/../x/a.ogg,A\n{tmp_path}/else/c.mp3,C\n")
    clips = {clip.caption: clip for clip in read_manifest(path, tmp_path / "audio")}
    assert clips["B"] == CaptionedClip("b.v2", tmp_path / "audio" / "b.v2.wav", "B")
    assert clips["A"].clip_id == "x/../x/a"
    assert clips["C"] == CaptionedClip(f"{tmp_path}/else/c".lstrip("/"), tmp_path / "else" / "c.mp3", "C")


@pytest.mark.parametrize("name", ["103549.wav", "7fmOlUlwoNg.flac", "Y7fmOlUlwoNg.MP3", "7fmOlUlwoNg_20.ogg"])
def test_audiocaps(tmp_path: Path, name: str) -> None:
    content = "audiocap_id,youtube_id,start_time,caption\n103549,7fmOlUlwoNg,20,Constant rattling\n"
    path = _manifest(tmp_path / "lists", content)
    _touch(tmp_path / "audio", name, "6BJ455B1aAs.wav", "7fmOlUlwoNg.txt")
    assert read_manifest(path, tmp_path / "audio") == [CaptionedClip("103549", tmp_path / "audio" / name, "Constant rattling")]


def test_audiocaps_with_several_captions_and_without_ids(tmp_path: Path) -> None:
    content = 'audiocap_id,youtube_id,start_time,caption\n2,-a_b,0,"X, Y"\n1,-a_b,0,Z\n3,c,10,W\n'
    path = _manifest(tmp_path, content, "-a_b.wav", "-a_b.flac", "Yc.wav", "c_10.wav", "c.wav")
    assert [(clip.clip_id, clip.path.name, clip.caption) for clip in read_manifest(path)] == [
        ("1", "-a_b.wav", "Z"),
        ("2", "-a_b.wav", "X, Y"),
        ("3", "c_10.wav", "W"),
    ]
    path = _manifest(tmp_path, "youtube_id,start_time,caption,tango_886\nc,10,W,1\n")
    assert [clip.clip_id for clip in read_manifest(path)] == ["c_10"]


ESC = "filename,fold,target,category,esc10,src_file,take\n"


def test_esc_50(tmp_path: Path) -> None:
    rows = "1-1-A.wav,1,0,dog,True,1,A\n1-2-A-20.wav,1,20,crying_baby,True,2,A\n1-3-A.wav,1,1,sea_waves,False,3,A\n"
    _touch(tmp_path / "audio", "1-1-A.wav", "1-2-A-20.wav", "1-3-A.wav")
    path = _manifest(tmp_path / "meta", ESC + rows)
    assert read_manifest(path) == [
        CaptionedClip("1-1-A", tmp_path / "audio" / "1-1-A.wav", "the sound of a dog", "dog"),
        CaptionedClip("1-2-A-20", tmp_path / "audio" / "1-2-A-20.wav", "the sound of a crying baby", "crying_baby"),
        CaptionedClip("1-3-A", tmp_path / "audio" / "1-3-A.wav", "the sound of sea waves", "sea_waves"),
    ]
    _touch(tmp_path / "ten", "1-1-A.wav", "1-2-A-20.wav")
    assert [clip.clip_id for clip in read_manifest(path, tmp_path / "ten")] == ["1-1-A", "1-2-A-20"], "ESC-10 alone"
    _touch(tmp_path / "part", "1-1-A.wav", "1-3-A.wav")
    with pytest.raises(InputError, match=r"1 of 3 audio files do not exist: .*1-2-A-20\.wav"):
        read_manifest(path, tmp_path / "part")


@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("dog", "a dog"), ("airplane", "an airplane"), ("engine", "an engine"), ("train", "a train"), ("vacuum_cleaner", "a vacuum cleaner"),
        ("rain", "rain"), ("wind", "wind"), ("pouring_water", "pouring water"), ("brushing_teeth", "brushing teeth"), ("sneezing", "sneezing"),
        ("crackling_fire", "a crackling fire"), ("church_bells", "church bells"), ("clock_tick", "a clock tick"), ("insects", "insects"),
    ],
)  # fmt: skip
def test_categories_in_words(tmp_path: Path, category: str, words: str) -> None:
    path = _manifest(tmp_path, f"filename,category\na.wav,{category}\n", "a.wav")
    (clip,) = read_manifest(path, tmp_path)
    assert (clip.caption, clip.label) == (f"the sound of {words}", category)


CAPS = "audiocap_id,youtube_id,start_time,caption\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"needs the columns file and caption, or youtube_id and start_time and caption, or filename and category, found: none"),
        ("clip_id,text\na,x\n", "needs the columns .*, found: clip_id, text; name them in its first line"),
        ("file,caption\n", "lists no clips; add a line"),
        ("file,caption\n\n\n", "lists no clips; add a line"),
        ("file,caption\na.wav,x\nb.wav,  \n", "line 3: caption is empty; fill it in"),
        ("file,caption\na.wav,x\nb.wav\n", "line 3: caption is empty"),
        ("file,caption\n,x\n", "line 2: file is empty"),
        ("clip_id,file,caption\n ,a.wav,x\n", "line 2: clip_id is empty"),
        ("clip_id,file,caption\n1,a.wav,x\n1,b.wav,y\n", "1 clip ids are listed more than once: 1; keep one line"),
        ("file,caption\na.wav,x\na.flac,y\n", "clip ids are listed more than once: a;"),
        ("clip_id,file,caption\n1,a.wav,x\n2,sub/../a.wav,y\n", "1 audio files are listed more than once: .*a.wav;"),
        ("file,caption\n" + "".join(f"{i}.wav,x\n" for i in range(7)), r"7 of 7 audio files do not exist: \S*0.wav, .*4.wav ...; correct the paths"),
        ("file,caption\n" + "x" * 5_000 + ".wav,x\n", "1 of 1 audio files do not exist"),
        ("file,caption\nsub,x\n", "1 of 1 audio files do not exist"),
        ("file,caption\n../a.wav,x\n", r"line 2: file ../a.wav leads out of .*; name a folder"),
        ("file,caption\nsub/../../a.wav,x\n", "line 2: file .* leads out of"),
        ("clip_id,file,caption\n../../a,a.wav,x\n/b,b.wav,y\n", r"2 clip ids cannot name a file in a folder: ../../a, /b; choose others"),
        ("file,caption\na.wav,a dog, barking\n", "line 2: holds 3 values for 2 columns; quote"),
        ('file,caption\na.wav,"x\n', "not valid CSV"),
        (b"file,caption\na.wav,\xff\n", "is not UTF-8 text; save it as UTF-8"),
        (CAPS + "1,,3,x\n", "line 2: youtube_id is empty"),
        (CAPS + ",v,3,x\n", "line 2: audiocap_id is empty"),
        (CAPS + "1,v,,x\n", "line 2: start_time is empty"),
        (CAPS + "1,v,3,\n", "line 2: caption is empty"),
        (CAPS + "1,v,3,x\n1,w,3,y\n", "clip ids are listed more than once: 1;"),
        (CAPS + "1,v,3,x\n2,v,3,y\n3,w,3,z\n", "2 of 2 audio files do not exist: .*v.wav, .*w.wav; correct"),
        (CAPS + "1,../a,3,x\n", "line 2: youtube_id ../a is not one; correct it"),
        ("filename,category\na.wav,\n", "line 2: category is empty"),
        ("filename,category\n../a.wav,dog\n", "line 2: filename ../a.wav leads out of"),
        ("filename,category\na.wav,dog\na.wav,dog\n", "clip ids are listed more than once: a;"),
    ],
)
def test_bad_manifests(tmp_path: Path, content: str | bytes, message: str) -> None:
    _touch(tmp_path, "a.wav", "b.wav", "a.flac", "sub/c.wav")
    _touch(tmp_path.parent, "a.wav")
    path = _manifest(tmp_path, content)
    with pytest.raises(InputError, match=rf"^manifest .*m\.csv.*{message}") as caught:
        read_manifest(path, tmp_path)
    assert "\n" not in str(caught.value)


def test_manifests_and_folders_that_are_not_there(tmp_path: Path) -> None:
    path = _manifest(tmp_path, "file,caption\na.wav,x\n", "a.wav")
    for wrong in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match=r"manifest .*: cannot be read \((No such file|Is a directory)"):
            read_manifest(wrong)
    for folder in (tmp_path / "none", tmp_path / "a.wav"):
        with pytest.raises(InputError, match=r"folder .* is not a folder; name the one that holds the audio of .*m\.csv"):
            read_manifest(path, folder)


def test_a_relative_path_to_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "audio/a.wav")
    _manifest(tmp_path / "meta", "filename,category\na.wav,dog\n")
    monkeypatch.chdir(tmp_path / "meta")
    assert [clip.path for clip in read_manifest(Path("m.csv"))] == [tmp_path / "audio" / "a.wav"]


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(lambda text: text.strip() != "")


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, st.one_of(st.none(), TEXT)), min_size=1, max_size=5))
def test_what_is_written_is_read(rows: list[tuple[str, str | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["clip_id", "file", "caption", "label"])
            writer.writerows([f"{i}", f"{i}.wav", caption, label] for i, (caption, label) in enumerate(rows))
        _touch(Path(folder), *(f"{i}.wav" for i in range(len(rows))))
        assert [(clip.caption, clip.label) for clip in read_manifest(path)] == [(caption.strip(), label and label.strip()) for caption, label in rows]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_an_error_for_people(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = _manifest(Path(folder), b"file,caption\n" + content)
        with pytest.raises(InputError):
            read_manifest(path)


@pytest.mark.shared
def test_lists_as_they_are_published(tmp_path: Path, shared: Path) -> None:
    clips = read_manifest(shared / "data" / "esc10" / "metadata.csv")
    assert len(clips) == 318
    assert clips[0].caption
    assert len({clip.label for clip in clips}) == 10
    for name, count, videos in (("test", 4875, 975), ("val", 2475, 495), ("test_lists", 964, 964)):
        path = shared / "data" / "captions" / f"audiocaps_{name}.csv"
        with pytest.raises(InputError, match=f"{videos} of {videos} audio files do not exist"):
            read_manifest(path, tmp_path)
        with path.open(newline="") as file:
            _touch(tmp_path, *{f"{row['youtube_id']}.wav" for row in csv.DictReader(file)})
        found = read_manifest(path, tmp_path)
        assert (len(found), len({clip.path for clip in found})) == (count, videos)
        for clip in found:
            clip.path.unlink(missing_ok=True)
