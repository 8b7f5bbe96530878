"""What a process must know that works for another one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def start_worker() -> None:
    """First thing in a worker: signals are for the process that started it, which ends its workers and says what happened; and it never
    outlives that one, however it ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def usable_cores(threads: int | None = None) -> int:
    """Cores that this process may use, or at most `threads` of them."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(threads or there, there)


def is_first_process() -> bool:
    """Whether it is the first of several that train together, under whatever launcher, or the only one."""
    return os.environ.get("RANK", "0") == "0"
