"""Records: one score of one cell with everything needed to know what it means. Append-only JSON lines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tta_bench.errors import InputError
from tta_bench.files import cannot_write, digest

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
STATUSES = {
    "ok": "computed",
    "unpaired": "the two sets share no clip ids",
    "too_few_clips": "too few clips",
    "not_finite": "the score is not finite",
    "degenerate": "the features do not vary",
}


class Record(BaseModel):
    """One score. A score that is not there has a `status` other than "ok", a `message`, and no value: never NaN.

    n counts clips; dof: degrees of freedom of the interval; direction says which way is better; *_sha256 identify content; steps, nfe,
    guidance_scale (1 = none) and what else describes a sweep's cell is None for audio of unknown origin.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    record_schema: int = Field(SCHEMA, alias="schema")
    run: str
    cell: str
    system: str
    family: str | None = None
    weighting: str | None = None
    parent: str | None = None
    sampler: str | None = None
    steps: int | None = None
    nfe: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    metric: str
    protocol: str
    embedder: str | None
    embedder_sha256: str | None
    status: str = "ok"
    message: str | None = None
    value: float | None
    std_error: float | None
    ci_low: float | None
    ci_high: float | None
    dof: int | None = None
    details: dict[str, float] = {}
    n: int
    n_excluded: int = 0
    reference: str | None
    reference_sha256: str | None
    n_reference: int | None
    n_reference_excluded: int = 0
    generated_sha256: str
    captions_sha256: str | None
    unit: str
    direction: Literal["lower", "higher"]
    metric_version: int
    code_version: str
    environment: str
    created: str

    @model_validator(mode="after")
    def _status_and_value_agree(self) -> Record:
        if self.status not in STATUSES:
            raise ValueError(f"unknown status {self.status!r}; known: {', '.join(STATUSES)}")
        if (self.status == "ok") != (self.value is not None):
            raise ValueError("a record has a value exactly when its status is ok")
        numbers = (self.value, self.std_error, self.ci_low, self.ci_high, *self.details.values())
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise ValueError("a record holds no NaN and no infinity; use the status not_finite")
        return self

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two records the same measurement of the same thing."""
        return (self.cell, self.metric, self.protocol, self.embedder_sha256, self.generated_sha256, self.reference_sha256,
                self.captions_sha256, self.metric_version, self.n, self.n_reference, self.n_excluded, self.n_reference_excluded)  # fmt: skip

    @property
    def values_name(self) -> str:
        """Prefix of the arrays `.../clip_ids` and `.../values` in the cell's clips.npz: contributions of clips to this very score."""
        return f"{self.metric}/{self.embedder}/{digest(self.key)[:16]}"

    def line(self) -> str:
        """One line of strict JSON."""
        return json.dumps(self.model_dump(by_alias=True), ensure_ascii=False, allow_nan=False) + "\n"


def now() -> str:
    """Coordinated universal time to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Append records as JSON lines and sync; a line that a crash tore off is removed first. Raises InputError where it cannot be written."""
    text = "".join(record.line() for record in records)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.truncate(_whole_bytes(path))
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def _whole_bytes(path: Path) -> int:
    """Length of the file up to its last line feed: what follows is the rest of a write that did not finish."""
    return path.read_bytes().rfind(b"\n") + 1


def read_records(path: Path) -> list[Record]:
    """All whole records of a file, none if it does not exist; a torn last line is passed over.

    Raises InputError naming file, line and key for anything else that is not a record.
    """
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    records = []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        try:
            content = json.loads(line)
            _check_schema(content, f"{path}, line {number}")
            records.append(Record.model_validate(content))
        except (ValidationError, ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: is not a record ({_first_reason(error)}); restore the file or choose another run") from error
    return records


def _check_schema(content: Any, where: str) -> None:
    schema = content.get("schema") if isinstance(content, dict) else None
    if isinstance(schema, int) and schema != SCHEMA:
        advice = "update tta_bench" if schema > SCHEMA else "run it again in another folder"
        raise InputError(f"{where}: is a record of schema {schema}, and this version reads {SCHEMA}; {advice}")


def _first_reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}"
    return str(error)


def to_frame(records: Sequence[Record]) -> pandas.DataFrame:
    """Tidy pandas frame, a row per record, a column per field."""
    import pandas

    return pandas.DataFrame([record.model_dump(by_alias=True) for record in records])
