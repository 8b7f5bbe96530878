from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tta_bench.errors import InputError
from tta_bench.records import Record, append_records, read_records, to_frame


def record(**changes: object) -> Record:
    values = {
        "schema": 1, "run": "r", "cell": "c", "system": "s", "metric": "fad", "protocol": "p", "embedder": "mel", "embedder_sha256": "e",
        "value": 1.5, "std_error": 0.1, "ci_low": 1.3, "ci_high": 1.7, "n": 9, "reference": "ref", "reference_sha256": "x", "n_reference": 9,
        "generated_sha256": "g", "captions_sha256": None, "unit": "", "direction": "lower", "metric_version": 1, "code_version": "0",
        "environment": "env", "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Record.model_validate(values | changes)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "run" / "records.jsonl"
    first, second = record(), record(metric="kad", value=-0.2, ci_low=-1.0)
    append_records(path, [first])
    append_records(path, [second])
    assert read_records(path) == [first, second]
    assert json.loads(path.read_text().splitlines()[1])["value"] == -0.2
    assert list(to_frame([first, second])["value"]) == [1.5, -0.2]
    assert read_records(tmp_path / "none.jsonl") == []


def test_a_torn_last_line_is_passed_over_and_repaired_before_appending(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append_records(path, [record(), record(metric="kad")])
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 40, len(record().line()) + 1):
        path.write_bytes(whole[:cut])
        assert [item.metric for item in read_records(path)] == ["fad"]
        append_records(path, [record(metric="kl")])
        assert [item.metric for item in read_records(path)] == ["fad", "kl"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_nan_gets_into_a_record(value: float) -> None:
    for field in ("value", "std_error", "ci_low"):
        with pytest.raises(ValidationError, match="not_finite"):
            record(**{field: value})


def test_a_value_and_a_status_exclude_each_other() -> None:
    assert record(value=None, status="unpaired").value is None
    for changes in ({"value": None}, {"status": "unpaired"}, {"value": None, "status": "odd"}, {"metrik": 1}):
        with pytest.raises(ValidationError):
            record(**changes)


@pytest.mark.parametrize(
    ("line", "reason"),
    [("{", "Expecting"), ("{}", "schema|run"), ('{"a": NaN}', "run|record"), (record().line().replace('"n": 9', '"n": "many"').strip(), "n: ")],
)
def test_a_damaged_line_is_an_error_that_names_it(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(record().line() + line + "\n")
    with pytest.raises(InputError, match=rf"records.jsonl, line 2: .*({reason})"):
        read_records(path)


def test_the_same_measurement_has_the_same_key_whenever_it_was_made() -> None:
    assert record().key == record(created="later", value=3.0, environment="other").key
    for field in ("protocol", "reference_sha256", "embedder_sha256", "generated_sha256", "cell"):
        assert record(**{field: "other"}).key != record().key
    for field in ("metric_version", "n", "n_reference"):
        assert record(**{field: 2}).key != record().key
