"""Time to first audio and real-time factor of rows by batch size."""

from __future__ import annotations

from dataclasses import dataclass

from tta_bench.report.run_data import RunData
from tta_bench.report.speed import Spread


@dataclass(frozen=True)
class Stream:
    """A row at one batch size. first_audio: seconds until every clip has audio. real_time_factor: seconds from the request to the last sample for a
    second of one clip: at most 1 where what comes keeps up with the ear. throughput: seconds of audio made in a second. streams: whether audio
    comes in parts.
    """

    row: str
    batch: int
    first_audio: Spread
    real_time_factor: Spread
    throughput: Spread
    streams: bool


def streams_of(run: RunData) -> list[Stream]:
    """Of the machine that was read last, rows in the order of the plan, batch sizes rising."""
    if not run.streams:
        return []
    host = run.streams[-1]["host"]
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    order = {str(row): i for i, row in enumerate(run.rows)}
    for item in run.streams:
        if item["host"] == host and item["row"] in order:
            found.setdefault((item["row"], item["batch"]), []).append(dict(item))
    made = []
    for (row, batch), readings in sorted(found.items(), key=lambda entry: (order[entry[0][0]], entry[0][1])):
        first = _spread([item["first_audio_s"] for item in readings])
        factor = _spread([item["seconds"] / (item["audio_s"] / batch) for item in readings])
        throughput = _spread([item["audio_s"] / item["seconds"] for item in readings])
        made.append(Stream(row, batch, first, factor, throughput, bool(readings[0]["streams"])))
    return made


def _spread(values: list[float]) -> Spread:
    spread = Spread.of(values)
    assert spread is not None
    return spread
