"""Time to first audio and real-time factor over batch size: how long a listener waits, and whether what comes keeps up with the ear."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tta_bench.files import write_text
from tta_bench.harness.catalogue import Cell
from tta_bench.harness.environment import describe_host
from tta_bench.harness.generate import Setting, reason, synchroniser, timed_batch
from tta_bench.harness.progress import Progress
from tta_bench.harness.run_config import RunConfig
from tta_bench.systems.protocol import Clip, System

FORMAT = 1


@runtime_checkable
class StreamingSystem(System, Protocol):
    """A system whose audio comes in parts."""

    def stream_together(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        """What is new of each clip of one batch, by its id."""
        ...


def time_streams(out: Path, config: RunConfig, cells: Sequence[Cell], there: Collection[str], progress: Progress) -> dict[str, str]:
    """Bring out/streaming.json up to date for the rows of `cells` whose system has `streaming_batches` and whose audio is `there`.

    Rows in turn and sizes in turn, repeat by repeat, so that what slows the machine for a while slows all of them. Readings of a row that has other
    networks now are dropped. With `timing_repeats` = 0 once, since generation says nothing of it. Rows that failed, with the reason.
    """
    sizes = _sizes(config)
    rows = {str(cell.row): cell for cell in reversed(cells) if _key(cell) in sizes and cell.cell_id in there}  # of several seeds the first
    failed: dict[str, str] = {}
    if not rows:
        return failed
    repeats = max(1, config.timing_repeats)
    host, path = describe_host(config.device), out / "streaming.json"
    now = {name: cell.source.checksum for name, cell in rows.items()}
    readings = [item for item in _read(path) if item["row"] not in now or item.get("checksum") == now[item["row"]]]
    warm: set[tuple[str, int]] = set()
    wanted = [(name, size) for name, cell in rows.items() for size in sizes[_key(cell)]]
    for repeat in range(repeats):
        for i, (name, size) in enumerate(wanted):
            mine = [item for item in readings if (item["row"], item["batch"], item["host"]) == (name, size, host)]
            if name in failed or len(mine) > repeat:
                continue
            try:
                if (name, size) not in warm:
                    time_stream(rows[name], size, config.device)  # what comes first in a process pays for what is made once
                    warm.add((name, size))
                made = time_stream(rows[name], size, config.device)
                readings.append({"host": host, "row": name, "checksum": now[name], "batch": size, **made})
            except Exception as error:  # noqa: BLE001 - whatever a model raises costs its times, never the run
                failed[name] = f"could not be streamed, {size} at a time: {reason(error)}"
            progress("streaming", repeat * len(wanted) + i + 1, repeats * len(wanted), f"{name}, batch {size}")
        write_text(path, json.dumps({"format": FORMAT, "readings": readings}, indent=1) + "\n")
    return failed


def _sizes(config: RunConfig) -> dict[tuple[str, str, int | None], tuple[int, ...]]:
    """Batch sizes by a row's system, sampler and steps."""
    return {
        (system.name, label, steps): system.streaming_batches
        for system in config.systems
        if system.streaming_batches
        for label in system.labels
        for steps in system.steps
    }


def _key(cell: Cell) -> tuple[str, str, int | None]:
    return cell.source.name, cell.source.sampler or "", cell.source.steps


def time_stream(cell: Cell, size: int, device: str) -> dict[str, Any]:
    """first_audio_s: until every clip of a batch of `size` has audio; seconds: until all of it is there; audio_s: of all clips; streams: whether it
    came in parts, else the first came with the last.
    """
    system, clips, setting = cell.source.load(), _batch(cell.clips, size), cell.setting
    if not isinstance(system, StreamingSystem):
        made = timed_batch(system, clips, setting, device)
        seconds = made.sampling_s + (made.decoding_s or 0.0)
        audio_s = sum(map(len, made.audio.values())) / system.sample_rate_hz
        return {"first_audio_s": seconds, "seconds": seconds, "audio_s": audio_s, "streams": False}
    return _streamed(system, clips, setting, device)


def _streamed(system: StreamingSystem, clips: Sequence[Clip], setting: Setting, device: str) -> dict[str, Any]:
    wait = synchroniser(device)
    samples, silent, first_audio_s = 0, {clip.clip_id for clip in clips}, math.inf
    wait()
    start = perf_counter()
    for parts in system.stream_together(clips, steps=setting.steps, guidance_scale=setting.guidance_scale, seed=setting.seed):
        samples += sum(map(len, parts.values()))
        if silent:
            silent -= parts.keys()
            first_audio_s = first_audio_s if silent else perf_counter() - start
    seconds = perf_counter() - start
    return {"first_audio_s": first_audio_s, "seconds": seconds, "audio_s": samples / system.sample_rate_hz, "streams": True}


def _batch(clips: Sequence[Clip], size: int) -> list[Clip]:
    """`size` clips, captions again under other ids where there are too few."""
    return [Clip(f"{clips[i % len(clips)].clip_id}-{i // len(clips)}", clips[i % len(clips)].caption) for i in range(size)]


def _read(path: Path) -> list[dict[str, Any]]:
    """Readings so far; none where the file is damaged: they are taken again."""
    try:
        known: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return list(known["readings"]) if known["format"] == FORMAT else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
