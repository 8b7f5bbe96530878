"""Errors that people read.

Every error that a user can cause derives from `TtaBenchError`; the command line prints its message as one
sentence and leaves with its exit code, without a traceback. A message says what is wrong, which file or key
it is about, and what to do. Anything else that escapes is a bug and exits with 1.
"""

from __future__ import annotations

from pathlib import Path


class TtaBenchError(Exception):
    """Base of all errors with a message for people. Exit code 2."""

    exit_code = 2


class InputError(TtaBenchError):
    """A folder, caption list, flag or array that cannot be used as given."""


class StorageError(InputError):
    """A place that cannot be written: full, read-only, forbidden. Ends a sweep, where other failures end a cell."""


class ConfigError(TtaBenchError):
    """A configuration with an unknown key or an impossible value."""


class WeightsError(TtaBenchError):
    """A weights file that is missing, damaged or not what its embedder needs."""


class UntrustedPickle(WeightsError):
    """A weights file that would run code when it is loaded, and that nobody has vouched for; the message holds the line that does."""


class ExtraMissing(TtaBenchError):
    """An optional package is absent or broken; the message holds the line that installs it."""

    def __init__(self, package: str, extra: str, reason: str) -> None:
        super().__init__(f"{package} cannot be used ({reason}); install it with: pip install 'tta-bench[{extra}]'")


class AudioError(TtaBenchError):
    """One audio file that cannot be scored.

    kind: what is wrong with it, one of `AUDIO_ERROR_KINDS`. path: the file. detail: the sentence's middle.
    """

    def __init__(self, kind: str, path: Path, detail: str) -> None:
        if kind not in AUDIO_ERROR_KINDS:
            raise ValueError(f"unknown kind of audio error {kind!r}")
        super().__init__(f"{path}: {detail}; {AUDIO_ERROR_KINDS[kind]}")
        self.kind = kind
        self.path = path
        self.detail = detail


class MetricError(TtaBenchError):
    """A score that cannot be computed from what is there.

    status: the word that a record carries instead of a value (see `tta_bench.records.STATUSES`).
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


AUDIO_ERROR_KINDS = {
    "missing": "check the path",
    "unreadable": "check the file's permissions",
    "empty": "generate it again, or leave it out (tta-bench evaluate: --skip-bad)",
    "corrupt": "generate or copy it again, or leave it out (tta-bench evaluate: --skip-bad)",
    "truncated": "generate or copy it again, or leave it out (tta-bench evaluate: --skip-bad)",
    "zero_channels": "write it again with one or two channels, or leave it out (tta-bench evaluate: --skip-bad)",
    "no_samples": "generate it again, or leave it out (tta-bench evaluate: --skip-bad)",
    "not_finite": "find the step that made NaN or infinity, or leave it out (tta-bench evaluate: --skip-bad)",
    "too_short": "generate a longer clip, or leave it out (tta-bench evaluate: --skip-bad)",
}
