"""BM25 search with threads of one process against processes over the same index, as one JSON line.

    python -m benchmarks.search_workers [--passages 1000000] [--words 20 60] [--questions 400] [--workers 2]

In turn, over one index of generated passages: one thread, so many threads, and so many processes with a
thread each, which have opened the index and get every n-th question. Their answers are the same. Milliseconds
a question of the clock and of the processor, medians; `threads_over_processes` is the median of a turn's
ratio. On a machine whose processors are busy the processor's time alone says what threads cost, and not how
far they carry: for that, `--index FOLDER` keeps the index and `--only N` searches it with N threads for ever,
so that a profiler can say for how much of the time Python's lock is held (`py-spy record --gil`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.retrieval import anonymous_mib, asked, build, write_corpus
from ragdro.config.retriever import Bm25Settings
from ragdro.retrieval import make_retriever, postings
from ragdro.types import Question

Answers = list[list[tuple[str, float]]]


class Searcher:
    """The index, open, searched with so many threads."""

    def __init__(self, folder: Path, threads: int, questions: Sequence[Question]) -> None:
        postings._cpus = lambda: threads  # type: ignore[assignment]
        self._retriever = make_retriever(Bm25Settings(k1=1.2, b=0.75))
        self._retriever.open(folder)
        self._questions = questions

    def search(self) -> tuple[Answers, float]:
        """Ids and scores of each question's best 20, and seconds of this process's processor time."""
        start = time.process_time()
        searched = list(self._retriever.search(self._questions, 20))
        taken = time.process_time() - start
        return [[(p.id, s) for p, s in zip(c.passages, c.scores or (), strict=True)] for c in searched], taken


def serve(connection: Connection, folder: Path, questions: Sequence[Question]) -> None:
    """A process: search whenever it is said, until there is nothing more to do."""
    searcher = Searcher(folder, 1, questions)
    while connection.recv():
        answers, taken = searcher.search()
        connection.send((answers, taken, anonymous_mib()))


def measure(folder: Path, questions: Sequence[Question], workers: int, rounds: int) -> dict[str, Any]:
    one, many = Searcher(folder, 1, questions), Searcher(folder, workers, questions)
    context, pipes, started = multiprocessing.get_context("spawn"), list[Connection](), []
    for number in range(workers):
        ours, theirs = context.Pipe()
        started.append(context.Process(target=serve, args=(theirs, folder, questions[number::workers])))
        started[-1].start()
        pipes.append(ours)
    clock: dict[str, list[float]] = {"one_thread": [], "threads": [], "processes": []}
    processor: dict[str, list[float]] = {name: [] for name in clock}
    held = 0
    for _ in range(rounds + 1):  # the first turn opens files, and does not count
        expected: Answers | None = None
        for name, searcher in (("one_thread", one), ("threads", many)):
            start = time.perf_counter()
            answers, taken = searcher.search()
            clock[name].append(time.perf_counter() - start)
            processor[name].append(taken)
            assert expected is None or answers == expected
            expected = answers
        start = time.perf_counter()
        for pipe in pipes:
            pipe.send(True)
        results = [pipe.recv() for pipe in pipes]
        clock["processes"].append(time.perf_counter() - start)
        processor["processes"].append(sum(taken for _, taken, _ in results))
        held = max(mib for _, _, mib in results)
        assert expected is not None
        assert [answers for answers, _, _ in results] == [expected[n::workers] for n in range(workers)]
    for pipe, process in zip(pipes, started, strict=True):
        pipe.send(False)
        process.join()
    ratios = {
        name: round(
            median(a / b for a, b in zip(times["threads"][1:], times["processes"][1:], strict=True)), 3
        )
        for name, times in (("clock", clock), ("processor", processor))
    }
    return {
        "threads_over_processes": ratios,
        **{
            name: {
                "clock_ms": round(1000 * median(clock[name][1:]) / len(questions), 3),
                "processor_ms": round(1000 * median(processor[name][1:]) / len(questions), 3),
            }
            for name in clock
        },
        "anonymous_mib": {"this": anonymous_mib(), "a_process": held},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--words", type=int, nargs=2, default=[20, 60], help="of a passage: least and most")
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--index", type=Path, help="keep the index in this folder, and use the one in it")
    parser.add_argument("--only", type=int, metavar="N", help="search with N threads for ever")
    arguments = parser.parse_args()
    questions = [Question(str(i), text, ()) for i, text in enumerate(asked(arguments.questions))]
    with tempfile.TemporaryDirectory() as scratch:
        folder, corpus = arguments.index or Path(scratch) / "index", Path(scratch) / "corpus.jsonl"
        if not folder.exists():
            write_corpus(corpus, arguments.passages, arguments.words)
            build(corpus, folder, [], 0)
            corpus.unlink()
        searcher = Searcher(folder, arguments.only, questions) if arguments.only else None
        while searcher is not None:
            searcher.search()
        measured = measure(folder, questions, arguments.workers, arguments.rounds)
    print(json.dumps({"benchmark": "search_workers", "passages": arguments.passages, **measured}))


if __name__ == "__main__":
    main()
