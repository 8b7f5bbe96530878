"""Configuration: typed, frozen, every unknown key an error that lists the known ones."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from tta_bench.errors import ConfigError
from tta_bench.files import digest


class Settings(BaseModel):
    """Base of all configurations."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """`true` would pass for the number 1."""
        kinds = set(re.findall(r"\w+", str(cls.model_fields[str(info.field_name)].annotation)))
        if kinds & {"int", "float"} and "bool" not in kinds and any(isinstance(item, bool) for item in _leaves(value)):
            raise ValueError("true and false are no numbers")
        return value

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the resolved values."""
        return digest([self.model_dump(mode="json")])

    def to_toml(self) -> str:
        """The resolved configuration as TOML; reading it back gives the same settings."""
        import tomli_w

        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def check_known(names: Sequence[str], table: Collection[str], what: str) -> None:
    """Raise ValueError, which parse_settings turns into a sentence with the key, for the first of `names` that is not in `table`."""
    for name in names:
        if name not in table:
            raise ValueError(f"unknown {what} {name!r}; {_hint(name, table)}known: {', '.join(table)}")


def _hint(name: str, table: Iterable[str]) -> str:
    """What was meant, where something in `table` is close."""
    close = difflib.get_close_matches(name, list(table), n=1)
    return f"did you mean {close[0]}? " if close else ""


def _leaves(value: Any) -> Iterable[Any]:
    """A value, or what a list or a table holds."""
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else (value,)


def _path_text(value: Any) -> Any:
    """An empty text would silently mean the working folder, as an unset shell variable does."""
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError("a path must not be empty")
    return value


PathText = Annotated[Path, BeforeValidator(_path_text)]


class EvaluateConfig(Settings):
    """What `tta-bench evaluate` scores; the keys of its configuration file and of its flags."""

    generated: PathText
    reference: PathText
    captions: PathText | None = None
    embedder: tuple[str, ...] = Field(("mel",), min_length=1)
    backend: Literal["ours", "reference"] = "ours"
    metric: tuple[str, ...] = ()
    skip_bad: bool = False
    out: PathText | None = None
    batch_size: int = Field(16, ge=1, le=4096)
    device: Literal["cpu", "cuda"] = "cpu"


S = TypeVar("S", bound=Settings)


def parse_settings(model: type[S], values: Mapping[str, Any], source: str) -> S:
    """Validated settings. Raises ConfigError saying which key of `source` is wrong, why, and what is known or allowed."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        found = error.errors()  # a key without its right name makes others wrong that lie beside it: it comes first
        first = next((item for item in found if item["type"] == "extra_forbidden"), found[0])
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _keys_beside(model, first["loc"])
            hint = _hint(str(first["loc"][-1]), known)
            raise ConfigError(f"{source}: unknown key {key!r}; {hint}known keys: {', '.join(known)}") from error
        if first["type"] == "missing":
            flag = "" if "." in key else f" or as --{key.replace('_', '-')}"
            raise ConfigError(f"{source}: {key} is not given; set it in the file{flag}") from error
        if not key:  # of the whole: its message says which keys
            raise ConfigError(f"{source}: {_lower(first['msg'].removeprefix('Value error, '))}") from error
        given = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"  # a whole section says nothing
        raise ConfigError(f"{source}: {key}{given} is not allowed: {_lower(first['msg'].removeprefix('Value error, '))}") from error


def _keys_beside(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Keys that are known where the last part of `loc` was found: those of its section."""
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        inner = [] if field is None else [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        model = next((kind for kind in inner if issubclass(kind, BaseModel)), model)
    return list(model.model_fields)


def _lower(message: str) -> str:
    """A message of pydantic's in the words of configuration files."""
    message = message.replace("valid tuple", 'list, e.g. ["a", "b"] or [1, 2]').replace("Tuple", "list").replace(" after validation", "")
    return message[:1].lower() + message[1:]


def read_toml(path: Path) -> dict[str, Any]:
    """The file's keys. Raises ConfigError where it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid TOML ({error}); correct it") from error
