"""What every command owes a person whose input it refuses."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tta_bench import cli


class Shell:
    """Commands in this process, inside `folder`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self._monkeypatch, self._capfd = folder, monkeypatch, capfd
        monkeypatch.chdir(folder)

    def __call__(self, arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and error."""
        self._monkeypatch.setattr(sys, "argv", ["tta-bench", *shlex.split(arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = self._capfd.readouterr()
        assert "Traceback" not in err
        return int(caught.value.code or 0), out, err

    def refuses(self, arguments: str, parts: Sequence[str], code: int = 2) -> None:
        """One sentence with all `parts`, the exit code, and every file as it was."""
        before = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        got, out, err = self(arguments)
        assert got == code, (out, err)
        for part in parts:
            assert part in err
        if code == 2:
            assert out == ""
            assert err.startswith("tta-bench: ")
            assert err.count("\n") == 1, "one sentence"
            assert {path: path.read_bytes() for path in before} == before, "bad input loses nothing that was there"
