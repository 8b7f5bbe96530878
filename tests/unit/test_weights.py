from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tta_bench.errors import WeightsError
from tta_bench.weights import cache_folder, load_weights

EXPECTED = {"a": (2, 3), "b": (4,)}
GOOD = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)}


def test_loads_exactly_what_is_expected(tmp_path: Path) -> None:
    save_file(GOOD, tmp_path / "w.safetensors")
    assert {name: values.shape for name, values in load_weights(tmp_path / "w.safetensors", EXPECTED).items()} == EXPECTED


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": GOOD["a"]}, "tensor b is missing"),
        (GOOD | {"b": np.zeros(5, np.float32)}, r"tensor b has shape \(5,\), not \(4,\)"),
        (GOOD | {"c": np.zeros(1, np.float32)}, "another model, e.g. c"),
        (GOOD | {"b": np.full(4, np.nan, np.float32)}, "tensor b holds NaN"),
    ],
)
def test_wrong_weights_are_errors_that_name_file_and_tensor(tmp_path: Path, tensors: dict[str, np.ndarray], message: str) -> None:
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=rf"w\.safetensors: .*{message}"):
        load_weights(tmp_path / "w.safetensors", EXPECTED)


def test_files_that_are_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"\x80\x04pickle of a stranger")
    for path, message in ((tmp_path / "none", "does not exist"), (tmp_path, "is a folder"), (tmp_path / "w.pt", "not a readable safetensors")):
        with pytest.raises(WeightsError, match=message):
            load_weights(path, EXPECTED)


def test_cache_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("TTA_BENCH_CACHE")
    assert cache_folder().name == "tta-bench"
