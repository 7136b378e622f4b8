"""Files processed by several processes at once, with memory that does not grow with their number."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from ragdro.errors import DataError
from ragdro.ingest.listing import InputFile
from ragdro.ingest.work import FileResult, FileWorker, WorkSettings

_WAITING = 8
"""Files handed out for each process: enough to keep it busy."""

_worker: FileWorker | None = None


def process_files(
    files: Sequence[InputFile], settings: WorkSettings, cache: Path, jobs: int
) -> Iterator[tuple[int, FileResult]]:
    """The result of each file and its place in `files`, as they are done.

    Raises DataError where the cache cannot be written, and naming files where a process dies.
    """
    if jobs == 1:
        worker = FileWorker(settings, cache)
        for place, file in enumerate(files):
            yield place, worker.process(file)
        return
    # Not forked: a fork copies the lock of the progress bar's thread in whatever state it is.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(settings, cache))
    finished = False
    try:
        yield from _hand_out(pool, files, jobs * _WAITING)
        finished = True
    finally:
        if not finished:
            for child in multiprocessing.active_children():
                child.terminate()
        pool.shutdown(cancel_futures=True)


def _hand_out(
    pool: ProcessPoolExecutor, files: Sequence[InputFile], most: int
) -> Iterator[tuple[int, FileResult]]:
    waiting: dict[Future[FileResult], int] = {}
    rest = iter(enumerate(files))
    while True:
        for place, file in rest:
            waiting[pool.submit(_process, file)] = place
            if len(waiting) >= most:
                break
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            place = waiting.pop(future)
            try:
                yield place, future.result()
            except BrokenProcessPool as error:
                names = sorted([files[place].name, *(files[other].name for other in waiting.values())])
                raise DataError(
                    f"a process that read one of {len(names)} files ({', '.join(names[:3])}, …) died, as it "
                    "does when memory runs out: try --jobs 1; files that are done are not read again"
                ) from error


def _start(settings: WorkSettings, cache: Path) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the parent ends its children
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = FileWorker(settings, cache)


def _end_with_parent() -> None:
    """A killed parent cannot end its children, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _process(file: InputFile) -> FileResult:
    assert _worker is not None
    return _worker.process(file)
