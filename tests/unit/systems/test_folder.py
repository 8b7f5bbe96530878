"""Folders of audio that another program generated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tta_bench.audio import write_audio
from tta_bench.errors import AudioError, ConfigError, InputError
from tta_bench.systems.folder import FolderSystem, placeholders, refuse_shared
from tta_bench.systems.protocol import Clip, System

CLIPS = [Clip("a", "x"), Clip("sub/b", "y")]


def write(folder: Path, names: tuple[str, ...] = ("a.wav", "sub/b.flac"), rate: int = 22_050, level: float = 0.25) -> None:
    for name in names:
        write_audio(folder / name, np.full(4410, level), rate)


def test_audio_by_clip_id(tmp_path: Path) -> None:
    write(tmp_path / "s4" / "w2.5" / "x" / "seed1")
    system = FolderSystem("peer", str(tmp_path / "s{steps}" / "w{guidance_scale}" / "{sampler}" / "seed{seed}"), "x", (4, 2.5, 1))
    assert isinstance(system, System)
    assert system.sample_rate_hz == 22_050
    made = dict(system.generate(CLIPS, steps=4, guidance_scale=2.5, seed=1))
    assert list(made) == ["a", "sub/b"]
    assert all(np.allclose(samples, 0.25) and samples.dtype == np.float32 for samples in made.values())
    assert system.folder(4, 3.0, 1).parts[-3:] == ("w3", "x", "seed1")


def test_content_is_that_of_the_files(tmp_path: Path) -> None:
    write(tmp_path)
    system = FolderSystem("peer", str(tmp_path))
    before = system.content(1, 1.0, 0)
    write(tmp_path)
    assert system.content(1, 1.0, 0) == before
    write(tmp_path, ("a.wav",), level=0.3)
    assert system.content(1, 1.0, 0) != before


def test_what_is_missing_or_does_not_fit(tmp_path: Path) -> None:
    system = FolderSystem("peer", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"audio of peer .*none: does not exist"):
        list(system.generate(CLIPS, steps=1, guidance_scale=1.0, seed=0))
    write(tmp_path / "some", ("a.wav",))
    with pytest.raises(AudioError, match=r"b\.wav: does not exist") as caught:
        list(FolderSystem("peer", str(tmp_path / "some")).generate(CLIPS, steps=1, guidance_scale=1.0, seed=0))
    assert caught.value.kind == "missing"
    write(tmp_path / "some", ("sub/b.wav",), rate=16_000)
    with pytest.raises(InputError, match=r"b\.wav: has 16000 Hz, and other clips of peer have 22050; use one rate"):
        list(FolderSystem("peer", str(tmp_path / "some")).generate(CLIPS, steps=1, guidance_scale=1.0, seed=0))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.wav").write_bytes(b"no audio")
    with pytest.raises(InputError, match="none of its 1 audio files can be read"):
        _ = FolderSystem("peer", str(tmp_path / "bad")).sample_rate_hz


@pytest.mark.parametrize("template", ["a/{step}", "a/{0}", "a/{}", "a/{steps:03d}", "a/{steps!r}", "a/{steps"])
def test_templates_that_cannot_be(template: str) -> None:
    with pytest.raises(ValueError, match=r"stand in it|expected '}'"):
        placeholders(template)


def test_one_folder_does_not_stand_for_several_cells() -> None:
    values = {"steps": [4, 2], "seed": [0]}
    refuse_shared("a/{steps}", "peer", values)
    refuse_shared("a", "peer", {"steps": [4], "seed": [0]})
    with pytest.raises(ConfigError, match=r"one folder for 2 values of steps; put \{steps\} into its path"):
        refuse_shared("a/{seed}", "peer", values)
