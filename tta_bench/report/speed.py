"""Speed of a row: seconds per clip and speed-up over the target, from the passes of one machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tta_bench.report.run_data import RunData
from tta_bench.rows import RowKey


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeats."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None of no values."""
        if not values:
            return None
        low, median, high = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(low), float(high), len(values))


@dataclass(frozen=True)
class Speed:
    """seconds_per_clip: sampling and decoding, at the throughput batch; one_clip: at batch 1. speed_up: target / this, pass by pass.

    real_time_factor: seconds of work for a second of audio. sampling, decoding: seconds per clip apart. memory_mib: largest.
    """

    seconds_per_clip: Spread | None = None
    one_clip: Spread | None = None
    speed_up: Spread | None = None
    sampling: Spread | None = None
    decoding: Spread | None = None
    real_time_factor: float | None = None
    memory_mib: float | None = None
    batch: int | None = None
    source: str | None = None


def chosen_passes(run: RunData) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Passes at the throughput batch and at batch 1 that stand in one table: of one machine, one batch size and one way of timing.

    The machine is that of the target's last pass; measured passes are preferred to batches of the generation.
    """
    system, sampler, steps = run.target
    target = {str(row) for row in run.rows if row[:3] == (system, sampler, steps)}
    host = next((item["host"] for item in reversed(run.passes) if target & item["rows"].keys()), None)
    batch = min(run.plan["batch_size"], run.plan["reference"]["n"])
    mine = [item for item in run.passes if item["host"] == host]
    measured = [item for item in mine if item["source"] == "passes"]
    return [item for item in measured or mine if item["batch"] == batch], [item for item in measured if item["batch"] == 1]


def speed_of(run: RunData, key: RowKey) -> Speed:
    """Of all passes over the row that `chosen_passes` gives."""
    name = str(key)
    large, small = ([item for item in passes if name in item["rows"]] for passes in chosen_passes(run))
    if not large:
        return Speed(one_clip=Spread.of([_per_clip(item["rows"][name]) for item in small]))
    target = str(RowKey(*run.target, key.guidance_scale))
    times = [item["rows"][name] for item in large]
    return Speed(
        seconds_per_clip=Spread.of([_per_clip(time) for time in times]),
        one_clip=Spread.of([_per_clip(item["rows"][name]) for item in small]),
        speed_up=Spread.of([speed_up(item, target, name) for item in large if target in item["rows"]]),
        sampling=Spread.of([time["sampling_s"] / time["clips"] for time in times]),
        decoding=Spread.of([time["decoding_s"] / time["clips"] for time in times if time["decoding_s"] is not None]),
        real_time_factor=float(np.median([_per_clip(time) * time["clips"] / time["audio_s"] for time in times if time["audio_s"]] or [np.nan])),
        memory_mib=max((time["peak_memory_mib"] for time in times if time["peak_memory_mib"] is not None), default=None),
        batch=large[0]["batch"],
        source=large[0]["source"],
    )


def speed_up(timed: Mapping[str, Any], target: str, name: str) -> float:
    """target / row within a pass, each divided by how slow the machine was then.

    The first row of a pass is timed `again` after the last; between, the machine is taken to have drifted evenly over the time spent.
    """
    slow = _slowness(timed)
    return (_per_clip(timed["rows"][target]) / slow[target]) / (_per_clip(timed["rows"][name]) / slow[name])


def _slowness(timed: Mapping[str, Any]) -> dict[str, float]:
    """By row, how slow the machine was in the middle of it; 1 for the first row, and for all where that was not timed again."""
    rows, again = timed["rows"], timed.get("again")
    spent = np.array([_per_clip(time) for time in rows.values()] + ([_per_clip(again)] if again else [0.0]))
    middles = np.cumsum(spent) - spent / 2.0
    shares = (middles[:-1] - middles[0]) / (middles[-1] - middles[0]) if len(rows) > 1 or again else np.zeros(1)
    drift = _per_clip(again) / _per_clip(next(iter(rows.values()))) - 1.0 if again else 0.0
    return dict(zip(rows, (1.0 + drift * shares).tolist(), strict=True))


def _per_clip(time: Mapping[str, Any]) -> float:
    return float((time["sampling_s"] + (time["decoding_s"] or 0.0)) / time["clips"])
