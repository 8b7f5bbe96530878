"""The main job: every system at every step count, generated, scored and timed, cell by cell. The same call does only what is missing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tta_bench.audio import duration_of
from tta_bench.embedders.load import load_embedder
from tta_bench.embedders.protocol import Embedder
from tta_bench.errors import AudioError, MetricError, StorageError, TtaBenchError
from tta_bench.files import locked, write_text
from tta_bench.harness.catalogue import Cell, anchor_cells, system_cells
from tta_bench.harness.cell_audio import CellAudio, Generation, generate_cell, load_generation
from tta_bench.harness.cell_features import BATCH, cell_side
from tta_bench.harness.environment import describe_environment
from tta_bench.harness.generate import reason
from tta_bench.harness.material import prepare_material, reference_side
from tta_bench.harness.plan import check_embedders, helper_embedders, run_pairs
from tta_bench.harness.processes import usable_cores
from tta_bench.harness.progress import Progress, silent
from tta_bench.harness.run_config import RunConfig, input_files
from tta_bench.harness.run_plan import write_plan
from tta_bench.harness.scoring import Captions, Pairs, Scorer, Side, score_pairs
from tta_bench.harness.seeds import cells_by_row, side_over_seeds
from tta_bench.harness.stamp import write_stamp
from tta_bench.harness.streaming import time_streams
from tta_bench.harness.timing import time_rows
from tta_bench.harness.workers import Workers
from tta_bench.records import Record, append_records, read_records
from tta_bench.rows import Ledger
from tta_bench.systems.protocol import System

_SCORING_COST = 24.0  # of a clip, in network evaluations: for the time that is left, nothing else


@dataclass
class Sweep:
    """run: the folder. records: of all cells that the configuration asks for. failures: what is missing and why. new: records made now.

    clipped: cells with samples beyond full scale: how many, in how many clips. lengths: mean seconds of each cell's clips, and of the reference's.
    inputs: files and folders elsewhere that it was made from.
    """

    run: Path
    config: RunConfig
    records: list[Record] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    clipped: list[dict[str, Any]] = field(default_factory=list)
    lengths: list[dict[str, Any]] = field(default_factory=list)
    inputs: list[Path] = field(default_factory=list)
    new: int = 0

    @property
    def complete(self) -> bool:
        """Whether every clip of every cell is there and scored."""
        return not self.failures


def sweep(
    config: RunConfig,
    systems: Mapping[str, System] | None = None,
    progress: Progress = silent,
    processes: int = 1,
    request: str | None = None,
) -> Sweep:
    """Run what `config` asks for in `config.out`, where it is not there yet. systems: objects for entries of the configuration by name.

    processes: how many generate at once, on a CPU; with more than one, a script that calls this needs the guard `if __name__ == "__main__"`.
    request: noted in the folder once all of it is done (see `tta_bench.harness.stamp`).
    Everything is checked before anything is generated. A clip or a cell that fails is listed in `failures` and tried again the next time.
    Raises TtaBenchError for what cannot be run at all, for a folder that another process works in, and where nothing can be written.
    """
    with locked(config.out, "--out"):
        started_ns = time.time_ns()
        result = _Job(config, systems or {}, progress, processes if config.device == "cpu" else 1).run()
        if request and result.complete:
            write_stamp(result.run, request, result.inputs, started_ns)
        return result


@dataclass
class _Job:
    config: RunConfig
    objects: Mapping[str, System]
    progress: Progress
    processes: int

    def run(self) -> Sweep:
        out = self.config.out
        result = Sweep(out, self.config, inputs=input_files(self.config))
        ledger = Ledger(read_records(out / "records.jsonl"))
        embedders = self.embedders()
        pairs = run_pairs(self.config.metrics, self.config.embedders, embedders)
        material = prepare_material(self.config.clips, out / "reference", self.progress)
        result.inputs += material.inputs
        cells = system_cells(material, self.config, self.objects, max(item.min_samples / item.sample_rate_hz for item in embedders))
        anchors = anchor_cells(material, self.config) if self.config.anchors else []
        facing = list({id(item): item for spec, item in pairs if spec.against == "reference"}.values())
        reference = reference_side(material, out / "reference", facing, BATCH, self.progress)
        write_text(out / "config.toml", self.config.to_toml())
        write_text(out / "environment.json", json.dumps(describe_environment(), indent=1) + "\n")
        write_plan(out, self.config, material, [*anchors, *cells], pairs)
        append_records(out / "records.jsonl", [])  # a run in which all fails has records too: none
        seconds = {clip.clip_id: duration_of(clip.path) for clip in material.files}
        work = _Work(out, self.config, pairs, reference, Captions(material.captions, BATCH), ledger, result, seconds)
        self.work_through(work, [*anchors, *cells], cells[0] if cells else None)
        work.score_seeds([*anchors, *cells])
        whole = {cell.cell_id: made.generation for cell in cells if (made := work.whole(cell))}
        not_timed = time_rows(out, self.config, cells, whole, self.progress)
        not_timed |= time_streams(out, self.config, cells, whole, self.progress)
        for cell in cells:
            if cell.seed == self.config.seeds[0] and str(cell.row) in not_timed:
                work.fail(cell, None, not_timed[str(cell.row)])
        write_text(out / "failures.json", json.dumps(result.failures, indent=1) + "\n")
        write_text(out / "clipped.json", json.dumps(result.clipped, indent=1) + "\n")
        write_text(out / "lengths.json", json.dumps(result.lengths, indent=1) + "\n")
        return result

    def embedders(self) -> list[Embedder]:
        if self.config.threads:
            import torch

            torch.set_num_threads(usable_cores(self.config.threads))
        named = self.config.embedders
        loaded = [load_embedder(spec, self.config.device) for spec in (*named, *helper_embedders(self.config.metrics, named))]
        check_embedders(loaded)
        return loaded

    def work_through(self, work: _Work, cells: Sequence[Cell], first: Cell | None) -> None:
        done = _Done(cells, self.progress)
        teacher: Side | None = None
        with Workers(self.processes) as workers:
            missing = [cell for cell in cells if cell.source.portable and not work.whole(cell)] if self.processes > 1 else []
            for cell in missing:
                workers.submit(cell, work.folder(cell), self.config.batch_size)
            workers.finish(done.generated)  # nothing is scored meanwhile: times may be taken from the generation
            for cell in cells:
                is_target = first is not None and cell.row[:3] == first.row[:3]
                aside = is_target or (first is not None and not cell.source.starts_like(first.source))
                side = work.do(cell, None if aside else teacher, workers, done)
                if is_target:
                    teacher = side
                done.scored(cell)


class _Done:
    """How much of the work of all cells is done, in network evaluations."""

    def __init__(self, cells: Sequence[Cell], progress: Progress) -> None:
        self.costs = {cell.cell_id: _cost(cell) for cell in cells}
        self.labels = {cell.cell_id: cell.label for cell in cells}
        self.sampling = {cell.cell_id: float(cell.nfe) for cell in cells}  # of one clip
        self.spent = dict.fromkeys(self.costs, 0.0)
        self.progress = progress

    def generated(self, cell_id: str, clips: int) -> None:
        self._tell(cell_id, self.sampling[cell_id] * clips)

    def scored(self, cell: Cell) -> None:
        self._tell(cell.cell_id, self.costs[cell.cell_id])

    def _tell(self, cell_id: str, spent: float) -> None:
        self.spent[cell_id] = max(self.spent[cell_id], spent)  # what a process tells may come late
        self.progress("sweep", round(sum(self.spent.values())), round(sum(self.costs.values())), self.labels[cell_id])


def _cost(cell: Cell) -> float:
    return (cell.nfe + _SCORING_COST) * len(cell.clips)


@dataclass
class _Work:
    out: Path
    config: RunConfig
    pairs: Pairs
    reference: Side
    captions: Captions
    ledger: Ledger
    result: Sweep
    seconds: Mapping[str, float]  # of the reference's clips
    made: dict[str, Generation] = field(default_factory=dict)

    def folder(self, cell: Cell) -> Path:
        return self.out / "cells" / cell.cell_id

    def whole(self, cell: Cell) -> CellAudio | None:
        """What is there of a cell, if all of it is."""
        if cell.cell_id not in self.made:
            made = load_generation(cell, self.folder(cell))
            if made is None:
                return None
            self.made[cell.cell_id] = made.generation
        return CellAudio(self.folder(cell), self.made[cell.cell_id])  # without samples: those of all cells would fill the memory

    def do(self, cell: Cell, teacher: Side | None, workers: Workers, shares: _Done) -> Side | None:
        """Generate and score one cell, as far as it is missing; its clips, None where there are none."""
        try:
            made = self.whole(cell)
            try:
                return self.score(cell, made or self.generate(cell, workers, shares), teacher)
            except AudioError:
                if made is None:
                    raise
                return self.score(cell, self.generate(cell, workers, shares), teacher)  # a file is gone or was changed: made again
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a model raises costs its cell, never the run
            self.fail(cell, None, str(error) if isinstance(error, TtaBenchError) else reason(error))
            return None

    def generate(self, cell: Cell, workers: Workers, shares: _Done) -> CellAudio:
        generation = workers.take(cell)
        if generation is not None:
            return CellAudio(self.folder(cell), generation)

        self.made.pop(cell.cell_id, None)

        def report(task: str, done: int, total: int, note: str = "") -> None:
            shares.generated(cell.cell_id, done)

        return generate_cell(cell, cell.source.load(), self.folder(cell), self.config.batch_size, report)

    def score(self, cell: Cell, made: CellAudio, teacher: Side | None) -> Side:
        for clip_id, message in made.generation.failed.items():
            self.fail(cell, clip_id, message)
        if not made.generation.hashes:
            raise MetricError("too_few_clips", "none of its clips could be generated")
        if made.generation.clipped:
            counts = made.generation.clipped.values()
            self.result.clipped.append({"row": str(cell.row), "seed": cell.seed, "clips": len(counts), "samples": sum(counts)})
        self.result.lengths.append({"row": str(cell.row), "seed": cell.seed, **_mean_lengths(made.generation, self.seconds)})
        side = cell_side(str(cell.row), made)
        scorer = Scorer(side, self.reference, teacher, self.captions, self.about(cell), made_from_captions=True)
        self.keep(cell, scorer, self.pairs_of(side, teacher))
        return side

    def keep(self, cell: Cell, scorer: Scorer, pairs: Pairs) -> None:
        scored = score_pairs(scorer, pairs, self.ledger, self.folder(cell), self.out / "records.jsonl")
        self.result.records += scored.records
        self.result.new += scored.new
        for record in scored.records:
            if record.status != "ok":
                self.fail(cell, None, f"{record.metric} ({record.embedder}): {record.status}: {record.message}")

    def score_seeds(self, cells: Sequence[Cell]) -> None:
        """Scores of rows over their seeds, kept with the first one's cell. A row of which a cell is not whole has none: its failure is listed."""
        pairs = [pair for pair in self.pairs if pair[0].against == "seeds"]
        for mine in cells_by_row(cells).values() if pairs else ():
            made = [one for cell in mine if (one := self.whole(cell))]
            if len(made) < len(mine):
                continue
            try:
                side, about = side_over_seeds(str(mine[0].row), made), self.about(mine[0]) | {"seed": None}
                self.keep(mine[0], Scorer(side, self.reference, None, self.captions, about, made_from_captions=True), pairs)
            except AudioError as error:  # a file is gone since its cell was scored
                self.fail(mine[0], None, str(error))

    def pairs_of(self, side: Side, teacher: Side | None) -> Pairs:
        """Without scores over seeds, without fidelity where there is no teacher, and without paired metrics where real audio is of other captions."""
        alone = not set(side.clip_ids) & set(self.reference.clip_ids)
        dropped = {"seeds", *(["teacher"] if teacher is None else [])}
        return [
            (spec, item) for spec, item in self.pairs if spec.against not in dropped and not (alone and spec.paired and spec.against == "reference")
        ]

    def about(self, cell: Cell) -> dict[str, Any]:
        source = cell.source
        return {
            "run": self.out.name, "cell": cell.cell_id, "system": source.name, "family": source.family, "weighting": source.weighting,
            "parent": source.parent, "sampler": source.sampler, "steps": source.steps, "nfe": cell.nfe,
            "guidance_scale": cell.guidance_scale, "seed": cell.seed,
        }  # fmt: skip

    def fail(self, cell: Cell, clip_id: str | None, message: str) -> None:
        self.result.failures.append({"cell": cell.cell_id, "row": str(cell.row), "seed": cell.seed, "clip_id": clip_id, "message": message})


def _mean_lengths(made: Generation, seconds: Mapping[str, float]) -> dict[str, float]:
    """Of the clips that are there, and of the same clips in the reference; of all of it where it holds none of them."""
    partners = [seconds[clip_id] for clip_id in made.hashes if clip_id in seconds] or list(seconds.values())
    return {"generated_s": made.audio_s / len(made.hashes), "reference_s": sum(partners) / len(partners)}
