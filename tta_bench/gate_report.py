"""What the gate says: Markdown for the summary of a CI job, JUnit XML for its test report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree

from tta_bench.gate import VERDICTS, Verdict, blocked

_ORDER = ("WORSE", "NOT_FINITE", "INCOMPARABLE", "MISSING", "UNRESOLVED", "NEW", "BETTER", "SAME")


def by_severity(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """What blocks first."""
    return sorted(verdicts, key=lambda item: (not item.blocks, _ORDER.index(item.verdict)))


def counts(verdicts: Sequence[Verdict]) -> str:
    """For one line: how many of each."""
    found = [(name, sum(item.verdict == name for item in verdicts)) for name in _ORDER]
    return ", ".join(f"{count} {name}" for name, count in found if count) or "nothing to compare"


def row_name(item: Verdict) -> str:
    """The row, as the report calls it."""
    return str(item.key.row)


def metric_name(item: Verdict) -> str:
    """The metric, with its embedder."""
    return f"{item.key.metric} ({item.key.embedder})"


def number(value: float | None) -> str:
    """Four digits, or nothing."""
    return "" if value is None else f"{value:.4g}"


def detectable(item: Verdict) -> str:
    """The smallest change that would be blocked; unknown where one seed, or the same audio twice, does not tell how runs differ by chance."""
    return "unknown" if item.detectable is None and item.margin is not None else number(item.detectable)


def detectable_by_metric(verdicts: Sequence[Verdict]) -> str:
    """For each metric, the change that even the least sensitive row would show with the power asked for."""
    found: dict[str, float] = {}
    for item in verdicts:
        if item.detectable is not None:
            found[item.key.metric] = max(found.get(item.key.metric, 0.0), item.detectable)
    if not found and all(item.difference is None for item in verdicts):
        return "unknown, as nothing could be compared"
    return ", ".join(f"{metric} {number(value)}" for metric, value in found.items()) or "unknown, as one seed does not tell how runs differ by chance"


def reasons(verdicts: Sequence[Verdict]) -> list[tuple[int, str, str]]:
    """How many rows cannot be compared, by verdict and reason, the most frequent first."""
    counted = Counter((item.verdict, item.reason) for item in verdicts if item.verdict in ("INCOMPARABLE", "NOT_FINITE", "MISSING"))
    return [(count, verdict, reason) for (verdict, reason), count in counted.most_common()]


def interval(item: Verdict) -> str:
    """Of the difference."""
    return "" if item.low is None or item.high is None else f"{item.low:+.3g} to {item.high:+.3g}"


def markdown(verdicts: Sequence[Verdict], run: str, baseline: str) -> str:
    """A table of all rows that are not SAME, those that block first, and how many are SAME."""
    head = "blocked" if blocked(verdicts) else "passed"
    lines = [f"## Audio quality gate: {head}", "", f"`{run}` against `{baseline}`: {counts(verdicts)}.", ""]
    shown = [item for item in by_severity(verdicts) if item.verdict != "SAME"]
    lines += [f"A change for the worse that any row would show: {detectable_by_metric(verdicts)}.", ""]
    if shown:
        lines += ["| | row | metric | baseline | run | difference | margin | detectable |", "|---|---|---|---|---|---|---|---|"]
    for item in shown:
        mark = f"**{item.verdict}**" if item.blocks else item.verdict
        what = interval(item) or item.reason
        cells = [
            mark,
            row_name(item).replace("|", "·"),
            metric_name(item),
            number(item.baseline),
            number(item.value),
            what,
            number(item.margin),
            detectable(item),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def junit(verdicts: Sequence[Verdict], run: str) -> str:
    """A test case for every row and metric; what blocks is a failure, what is unresolved without blocking is skipped."""
    failures = [item for item in verdicts if item.blocks]
    skipped = [item for item in verdicts if item.verdict == "UNRESOLVED" and not item.blocks]
    suite = ElementTree.Element(
        "testsuite", name=f"tta_bench {run}", tests=str(len(verdicts)), failures=str(len(failures)), skipped=str(len(skipped)), errors="0"
    )
    for item in verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname=row_name(item), name=metric_name(item))
        if item.blocks:
            ElementTree.SubElement(case, "failure", type=item.verdict, message=sentence(item))
        elif item in skipped:
            ElementTree.SubElement(case, "skipped", message=sentence(item))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def sentence(item: Verdict) -> str:
    """One line on a row, for people."""
    head = f"{row_name(item)}, {metric_name(item)}: {item.verdict}"
    if item.difference is None:
        return f"{head}: {item.reason or VERDICTS[item.verdict]}"
    return (
        f"{head}: {number(item.baseline)} -> {number(item.value)}, difference {item.difference:+.3g} ({interval(item)}), "
        f"margin {number(item.margin)}, smallest detectable {detectable(item)}"
    )
