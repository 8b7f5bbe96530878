"""Generation in processes of their own: small networks gain little from threads, and no cell needs anything of another."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Any

from tta_bench.errors import StorageError, TtaBenchError
from tta_bench.harness.catalogue import Cell
from tta_bench.harness.cell_audio import Generation, generate_cell
from tta_bench.harness.generate import reason
from tta_bench.harness.processes import start_worker

_MOST = 8  # each holds its own copy of the libraries
_POLL_S = 0.2
_Outcome = tuple[Generation | None, type[TtaBenchError], str]
_progress: Any = None  # a worker's way to tell how far it is
_processes = 1  # how many workers share the machine


class Workers:
    """Processes that generate cells in the order in which they are submitted, as a context: leaving it ends them, whatever they are at.

    cores: how many they share; at most 8 processes. They start with the first cell.
    """

    def __init__(self, cores: int) -> None:
        self.processes = min(cores, _MOST)
        self._threads = max(1, cores // self.processes)
        self._futures: dict[str, Future[_Outcome]] = {}
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is None:
            return
        if kind is not None:  # first, and without cancelling: a pool that breaks while it cancels writes a traceback
            for process in multiprocessing.active_children():
                process.kill()
        self._pool.shutdown()

    def submit(self, cell: Cell, folder: Path, batch_size: int) -> None:
        """Have a cell generated into `folder`."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._queue = context.Queue()
            self._pool = ProcessPoolExecutor(self.processes, context, initializer=_start, initargs=(self._threads, self.processes, self._queue))
        self._futures[cell.cell_id] = self._pool.submit(_generated, cell, folder, batch_size)

    def finish(self, report: Callable[[str, int], None]) -> None:
        """Wait for all cells. report: is told cell ids and clips done."""
        while not all(future.done() for future in self._futures.values()):
            wait(self._futures.values(), _POLL_S)
            self._tell(report)

    def take(self, cell: Cell) -> Generation | None:
        """What a cell's process made; None for a cell that was not submitted, or whose process died.

        Raises StorageError where nothing can be written, TtaBenchError with the reason where generating failed.
        """
        future = self._futures.pop(cell.cell_id, None)
        if future is None:
            return None
        try:
            generation, kind, message = future.result()
        except BrokenProcessPool:
            return None
        if generation is None:
            raise kind(message)
        return generation

    def _tell(self, report: Callable[[str, int], None]) -> None:
        while True:
            try:
                report(*self._queue.get_nowait())
            except Empty:
                return


def _start(threads: int, processes: int, queue: Any) -> None:
    import torch

    start_worker()
    torch.set_num_threads(threads)
    global _progress, _processes
    _progress, _processes = queue, processes


def _generated(cell: Cell, folder: Path, batch_size: int) -> _Outcome:
    """In a worker. Errors go back as words: not every exception can be sent."""

    def report(task: str, done: int, total: int, note: str = "") -> None:
        _progress.put((cell.cell_id, done))

    try:
        made = generate_cell(cell, cell.source.load(), folder, batch_size, report, {"processes": _processes})
        return made.generation, TtaBenchError, ""
    except StorageError as error:
        return None, StorageError, str(error)
    except Exception as error:  # noqa: BLE001 - whatever a model raises costs its cell
        return None, TtaBenchError, str(error) if isinstance(error, TtaBenchError) else reason(error)
