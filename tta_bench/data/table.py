"""CSV files with a line of column names, read whole; every complaint names the file and the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tta_bench.errors import InputError

_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}


@dataclass(frozen=True)
class Row:
    """One line. where: file and line, as messages call them. values: by column."""

    where: str
    values: dict[str, str]

    def need(self, column: str) -> str:
        """The value, stripped. Raises InputError where it is empty."""
        value = self.values[column].strip()
        if not value:
            raise InputError(f"{self.where}: {column} is empty; fill it in or remove the line")
        return value


def read_rows(path: Path, what: str) -> tuple[list[str], list[Row]]:
    """Columns and lines of a CSV; values that are missing at the end of a line are empty, more values than columns an error."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{what} {path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path}: is not UTF-8 text; save it as UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        columns = next(reader, [])
        for values in reader:
            where = f"{what} {path}, line {reader.line_num}"
            if any(values[len(columns) :]):
                raise InputError(f"{where}: holds {len(values)} values for {len(columns)} columns; quote values that hold commas")
            if values:
                rows.append(Row(where, dict(zip(columns, values + [""] * len(columns), strict=False))))
    except csv.Error as error:
        raise InputError(f"{what} {path}, line {reader.line_num}: is not valid CSV ({error}); correct the line") from error
    return columns, rows


def chosen(path: Path, what: str, columns: Sequence[str], rows: Sequence[Row], name: str) -> list[Row]:
    """Lines that belong to the list `name`: those with 1 (or true, yes) in its column, which is called `name` or begins with it and "_".

    Raises InputError where there is no such column, more than one, a value that is neither 1 nor 0, or no line of the list.
    """
    fitting = [column for column in columns if column == name] or [column for column in columns if column.startswith(f"{name}_")]
    if len(fitting) != 1:
        problem = f"{' and '.join(fitting)} are both meant" if fitting else "is no column"
        raise InputError(f"{what} {path}: list {name!r}: {problem}, {found(columns)}; name the column that marks the list's clips with 1")
    column = fitting[0]
    for row in rows:
        if row.values[column].strip().lower() not in _TRUTH:
            raise InputError(f"{row.where}: {column} is {row.values[column].strip()!r}, neither 1 nor 0; a list marks its clips with 1")
    marked = [row for row in rows if _TRUTH[row.values[column].strip().lower()]]
    if not marked:
        raise InputError(f"{what} {path}: list {column} has no clips; mark them with 1, or choose another list")
    return marked


def found(columns: Sequence[str]) -> str:
    """Which columns there are, for messages."""
    return f"found: {', '.join(columns) or 'none'}"


def first_five(names: Sequence[str]) -> str:
    """Names for a message, five at most."""
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
