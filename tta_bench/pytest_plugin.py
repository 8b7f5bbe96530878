"""pytest --tta-baseline FILE: the fixture `audio_gate` fails a test whose run is worse than the baseline.

def test_quality(audio_gate):
    audio_gate("runs/mine")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tta_bench.gate import GateConfig, Verdict


def pytest_addoption(parser: pytest.Parser) -> None:
    """The flag."""
    group = parser.getgroup("tta_bench")
    group.addoption("--tta-baseline", metavar="FILE", default=None, help="Baseline (.jsonl) that the fixture audio_gate compares runs with.")


class AudioGate:
    """Call it with a run's folder, a `Sweep` or an `Evaluation`. verdicts: of the last call."""

    def __init__(self, baseline: Path) -> None:
        self.baseline = baseline
        self.verdicts: list[Verdict] = []

    def __call__(self, run: Any, config: GateConfig | None = None) -> list[Verdict]:
        """Verdicts of all rows. Fails the test where the gate blocks; raises InputError for a run or a baseline that cannot be read."""
        __tracebackhide__ = True
        from tta_bench.gate import blocked, judge
        from tta_bench.gate_report import counts, sentence
        from tta_bench.rows import load_saved, load_scores

        self.verdicts = judge(load_saved(self.baseline), load_scores(Path(getattr(run, "run", run))), config)
        if blocked(self.verdicts):
            lines = [sentence(item) for item in self.verdicts if item.blocks]
            pytest.fail("\n".join([f"audio quality gate: {counts(self.verdicts)}", *lines]), pytrace=False)
        return self.verdicts


@pytest.fixture
def audio_gate(request: pytest.FixtureRequest) -> AudioGate:
    """Compares runs with the baseline of --tta-baseline; without the flag, the test is skipped."""
    given = request.config.getoption("--tta-baseline")
    if not given:
        pytest.skip("no --tta-baseline FILE was given")
    return AudioGate(Path(given))
