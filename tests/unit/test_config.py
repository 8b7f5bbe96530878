from __future__ import annotations

from pathlib import Path

import pytest

from tta_bench.config import EvaluateConfig, parse_settings, read_toml
from tta_bench.errors import ConfigError

BASE = {"generated": "g", "reference": "r"}


def test_resolved_configuration_reads_back(tmp_path: Path) -> None:
    settings = parse_settings(EvaluateConfig, BASE | {"embedder": ["mel", "yamnet:x"], "skip_bad": True}, "test")
    (tmp_path / "c.toml").write_text(settings.to_toml())
    again = parse_settings(EvaluateConfig, read_toml(tmp_path / "c.toml"), "file")
    assert again == settings
    assert again.fingerprint == settings.fingerprint != parse_settings(EvaluateConfig, BASE, "test").fingerprint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (BASE | {"skipbad": True}, "f.toml: unknown key 'skipbad'; did you mean skip_bad.*known keys: generated, reference"),
        (BASE | {"zzz": 1}, "f.toml: unknown key 'zzz'; known keys"),
        (
            {"generated": "g", "referense": "r", "batch_size": 0},
            "f.toml: unknown key 'referense'; did you mean reference",
        ),  # what the others come from
        ({"generated": "g"}, "f.toml: reference is not given; set it in the file or as --reference"),
        (BASE | {"batch_size": 0}, "f.toml: batch_size = 0 is not allowed"),
        (BASE | {"device": "tpu"}, "f.toml: device = 'tpu' is not allowed"),
        (BASE | {"skip_bad": "perhaps"}, "f.toml: skip_bad = 'perhaps' is not allowed"),
    ],
)
def test_errors_name_file_key_and_what_is_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings(EvaluateConfig, values, "f.toml")


def test_settings_are_frozen() -> None:
    settings = parse_settings(EvaluateConfig, BASE, "test")
    with pytest.raises(ValueError, match="frozen"):
        settings.skip_bad = True  # type: ignore[misc]
