"""Wall clock of generation, apart from scoring and disk: passes over all rows, so that a ratio is taken between neighbours in time.

A pass times one batch of every row that still lacks repeats, the target before and after them: how much slower it has become tells how the
machine drifted meanwhile. The speed-up of a row is the median over passes of target / row within the same pass, drift taken out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tta_bench.files import write_text
from tta_bench.harness.catalogue import Cell
from tta_bench.harness.cell_audio import Generation
from tta_bench.harness.environment import describe_host
from tta_bench.harness.generate import Setting, reason, timed_batch
from tta_bench.harness.progress import Progress
from tta_bench.harness.run_config import RunConfig

FORMAT = 1


def time_rows(out: Path, config: RunConfig, cells: Sequence[Cell], there: Mapping[str, Generation], progress: Progress) -> dict[str, str]:
    """Bring out/timing.json up to date for the rows of `cells` whose audio is `there`, by cell id; the first cell is the target's.

    A pass over a row that has other networks now is dropped. Rows that could not be timed, with the reason: a system may make clips one by one
    that it cannot make in a batch.
    """
    path = out / "timing.json"
    rows = {str(cell.row): cell for cell in reversed(cells) if cell.cell_id in there and cell.source.timed}  # of several seeds the first
    failed: dict[str, str] = {}
    if not rows:
        return failed
    host = describe_host(config.device)
    now = {name: cell.source.checksum for name, cell in rows.items()}
    passes = [item for item in _read(path) if all(now.get(name, made) == made for name, made in _checksums(item).items())]
    if config.timing_repeats == 0:
        measured = [item for item in passes if item["source"] == "passes"]
        _write(path, [*measured, *_of_generation(cells, there, config.batch_size)])
        return failed
    targets = {cell.guidance_scale: str(cell.row) for cell in cells if cell.row[:3] == cells[0].row[:3] and str(cell.row) in rows}
    size = min(config.batch_size, len(cells[0].clips))
    todo = {
        batch: [_lacking(passes, rows, batch, host, config.timing_repeats, i) for i in range(config.timing_repeats)] for batch in sorted({1, size})
    }
    total = sum(len(_order(names, rows, targets, 0)) + 1 for repeats in todo.values() for names in repeats if names)
    done = 0
    for batch, repeats in todo.items():
        for number, names in enumerate(repeats):
            timed: dict[str, Any] = {}
            for name in _order(names, rows, targets, number):
                if name not in failed:
                    try:
                        timed[name] = _timed(rows[name], batch, config.device, warm=number == 0)
                    except Exception as error:  # noqa: BLE001 - whatever a model raises costs its times, never the run
                        failed[name] = f"could not be timed, {_clips(batch)} at a time: {reason(error)}"
                done += 1
                progress("timing", done, total, f"{name}, batch {batch}")
            if not timed:
                continue
            first = next(iter(timed))
            again = _timed(rows[first], batch, config.device, warm=False) if first in targets.values() else None
            done += 1
            passes.append({"source": "passes", "host": host, "batch": batch, "rows": timed, "again": again})
            _write(path, passes)
    if total:
        progress("timing", total, total)
    return failed


def _clips(count: int) -> str:
    return f"{count} clip{'s' * (count != 1)}"


def _order(names: Sequence[str], rows: Mapping[str, Cell], targets: Mapping[float | None, str], number: int) -> list[str]:
    """What pass `number` times: the targets of all guidance scales among `names` first, then the rest, every other time backwards."""
    scales = dict.fromkeys(rows[name].guidance_scale for name in names)
    first = [targets[scale] for scale in scales if scale in targets]
    return first + [name for name in (names if number % 2 == 0 else reversed(names)) if name not in first]


def _lacking(passes: list[dict[str, Any]], rows: Iterable[str], batch: int, host: dict[str, Any], repeats: int, index: int) -> list[str]:
    """Rows that need a pass number `index`, counted back from the last: those with fewer than repeats - index passes on this host."""
    mine = [item for item in passes if item["source"] == "passes" and item["batch"] == batch and item["host"] == host]
    return [name for name in rows if sum(name in item["rows"] for item in mine) < repeats - index]


def _timed(cell: Cell, batch: int, device: str, warm: bool) -> dict[str, Any]:
    system, clips = cell.source.load(), cell.clips[:batch]
    if warm:
        timed_batch(system, clips, _shortest(cell), device)
    reset_peak(device)
    made = timed_batch(system, clips, cell.setting, device)
    audio_s = sum(len(samples) for samples in made.audio.values()) / system.sample_rate_hz
    times = {"sampling_s": made.sampling_s, "decoding_s": made.decoding_s, "clips": len(clips), "audio_s": audio_s}
    return {"checksum": cell.source.checksum, **times, "peak_memory_mib": peak_mib(device)}


def _checksums(item: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a pass has timed, by row; of one that is made of the generation none are needed, since that is always the present one's."""
    return {name: timed.get("checksum") for name, timed in item["rows"].items()} if item["source"] == "passes" else {}


def _shortest(cell: Cell) -> Setting:
    """A warm-up that costs little: samplers take any number of steps; another system is asked for what it will be asked for."""
    setting = cell.setting
    return Setting(1, setting.guidance_scale, setting.seed) if cell.source.family in ("latent", "diffusers") else setting


def reset_peak(device: str) -> None:
    """Forget the largest memory so far, where the system can."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def peak_mib(device: str) -> float | None:
    """Largest memory since `reset_peak`, MiB: allocated on the GPU, or resident of the process (its weights and libraries too)."""
    if device == "cuda":
        return float(torch.cuda.max_memory_allocated()) / 2**20
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024.0 for line in status.splitlines() if line.startswith("VmHWM")), None)


def _of_generation(cells: Sequence[Cell], there: Mapping[str, Generation], batch_size: int) -> list[dict[str, Any]]:
    """Full batches of the generation as passes: the i-th full batch of every row and seed, those of one machine together."""
    passes: dict[tuple[str, int | None, int], dict[str, Any]] = {}
    for cell in (cell for cell in cells if cell.cell_id in there):
        made = there[cell.cell_id]
        size = min(batch_size, len(cell.clips))
        for number, batch in enumerate(batch for batch in made.batches if batch["clips"] == size):
            times = {**batch, "audio_s": made.audio_s / len(made.hashes) * size, "peak_memory_mib": None}
            one = {"source": "generation", "host": made.host, "batch": size, "rows": {}, "again": None}
            passes.setdefault((json.dumps(made.host), cell.seed, number), one)["rows"][str(cell.row)] = times
    return list(passes.values())


def _read(path: Path) -> list[dict[str, Any]]:
    """Passes so far; none where the file is damaged: they are timed again."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return list(known["passes"]) if known["format"] == FORMAT else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write(path: Path, passes: list[dict[str, Any]]) -> None:
    write_text(path, json.dumps({"format": FORMAT, "passes": passes}, indent=1) + "\n")
