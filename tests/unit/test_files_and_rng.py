from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tta_bench.errors import InputError
from tta_bench.files import atomic_write, digest, sha256_file, write_text
from tta_bench.rng import generator, stream_seed


def test_a_crash_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [item.name for item in path.parent.iterdir()] == ["b.txt"]


def test_what_cannot_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/b.txt: cannot be written \(a file is where a folder must be\); choose another folder"):
        write_text(tmp_path / "file" / "b.txt", "x")
    with pytest.raises(InputError, match="No space left on device"), Path("/dev/full").open("wb") as full, atomic_write(tmp_path / "x") as file:
        file.write(b"x")
        full.write(b"x" * 100_000)


def test_digests(tmp_path: Path) -> None:
    write_text(tmp_path / "abc", "abc")
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest([1, "a"]) == digest(iter([1, "a"])) != digest(["a", 1])
    assert digest([{"a": 1, "b": 2}]) == digest([{"b": 2, "a": 1}])
    assert digest(["ab"]) != digest(["a", "b"])


def test_streams_depend_on_their_name_alone() -> None:
    draw = generator(7, "noise", "clip1").standard_normal(4)
    np.random.default_rng(0).standard_normal(100)
    np.testing.assert_array_equal(draw, generator(7, "noise", "clip1").standard_normal(4))
    names = [(7, "noise", "clip2"), (8, "noise", "clip1"), (7, "noise", "clip", "1"), (7, "noiseclip1"), (7, "noise", 1), (7, "noise", "1")]
    assert len({stream_seed(*name) for name in names} | {stream_seed(7, "noise", "clip1")}) == 7


def test_global_random_state_is_never_touched() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    generator(1, "x").random(10)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]
