"""What our BM25 costs over bare bm25s: time and peak memory for one job, in one run, as one JSON line.

    python -m benchmarks.retrieval [--passages 1000000] [--questions 200] [--top-n 20]

The job, on the same generated file: read the passages, index them (stemmed, without stop words), save the
index, open it memory-mapped, and give the top-N passages, with their texts, of each question. Bare bm25s is
used as leanly as it can be: the texts are dropped once tokenized, and the corpus is streamed to its file.
Each side runs in a process of its own. `overhead` is ours / bare - 1; `cpu` is the metric to trust where
other work shares the machine, `wall` where none does.

    python -m benchmarks.retrieval --search --passages 1000000 5000000 --words 20 60 --carry-on 21015324

`--search`: of each size the index is built once, by us, and only searching is timed, in turn, bm25s with a
thread a processor; `search_ratio` is our time over its. `anonymous_mib`: what the process that searches holds
of memory beside the pages of the index's files, before the first question, and when ours and when bm25s have
answered all of them once and as often as `--rounds` says. Of several sizes `carried_on` goes on to another by
the power law through the last two: not a measurement.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SYLLABLES = [
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "ha",
    "je",
    "ki",
    "lo",
    "mu",
    "na",
    "pe",
    "ri",
    "so",
    "tu",
    "va",
    "we",
    "xi",
    "yo",
    "zu",
]
VOCABULARY = 50_000


def words() -> list[str]:
    """Pronounceable words, the frequent ones short, with English endings for the stemmer to cut."""
    endings = ("", "", "s", "ing", "ed", "ation")
    made = []
    for rank in range(VOCABULARY):
        left, syllables = rank + 400, []
        while left:
            left, syllable = divmod(left, len(SYLLABLES))
            syllables.append(SYLLABLES[syllable])
        made.append("".join(syllables) + endings[rank % len(endings)])
    return made


def write_corpus(path: Path, passages: int, lengths_of: Sequence[int]) -> None:
    """Passages of `lengths_of` words, the least and the most, with Zipf's frequencies, as JSON lines."""
    rng, vocabulary = np.random.default_rng(0), words()
    shares = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    with path.open("w") as file:
        for start in range(0, passages, 10_000):
            lengths = rng.integers(lengths_of[0], lengths_of[1] + 1, size=min(10_000, passages - start))
            drawn = np.searchsorted(shares, rng.random(lengths.sum()) * shares[-1]).tolist()
            position = 0
            for number, length in enumerate(lengths.tolist(), start=start):
                chosen = [vocabulary[word] for word in drawn[position : position + length]]
                position += length
                record = {"id": f"p{number}", "title": " ".join(chosen[:2]), "text": " ".join(chosen)}
                file.write(json.dumps(record) + "\n")


def records(path: Path) -> Iterator[dict[str, str]]:
    with path.open() as file:
        for line in file:
            yield json.loads(line)


def asked(count: int) -> list[str]:
    rng, vocabulary = np.random.default_rng(1), words()
    return [" ".join(vocabulary[word] for word in rng.integers(0, 5_000, size=12)) for _ in range(count)]


def bare(corpus: Path, folder: Path, questions: list[str], top_n: int) -> int:
    """The job with bm25s alone; returns how many characters of passages came back."""
    import Stemmer

    from ragdro.retrieval.bm25_library import bm25s

    stemmer = Stemmer.Stemmer("english")
    texts = [f"{record['title']} {record['text']}" for record in records(corpus)]
    tokens = bm25s.tokenize(texts, stopwords="english", stemmer=stemmer, show_progress=False)
    del texts
    index = bm25s.BM25(k1=1.2, b=0.75)
    index.index(tokens, show_progress=False)
    index.save(folder, corpus=records(corpus), show_progress=False)
    del tokens, index
    index = bm25s.BM25.load(folder, load_corpus=True, mmap=True, show_progress=False)
    queries = bm25s.tokenize(questions, stopwords="english", stemmer=stemmer, show_progress=False)
    rows, _ = index.retrieve(queries, k=top_n, show_progress=False)
    return sum(len(passage["text"]) for row in rows for passage in row)


def ours(corpus: Path, folder: Path, questions: list[str], top_n: int) -> int:
    """The same job with ragdro; returns how many characters of passages came back."""
    from ragdro.config.retriever import Bm25Settings
    from ragdro.retrieval import make_retriever
    from ragdro.types import Passage, Question

    retriever = make_retriever(Bm25Settings(k1=1.2, b=0.75))
    retriever.build((Passage(r["id"], r["title"], r["text"]) for r in records(corpus)), folder)
    retriever.open(folder)
    results = retriever.search([Question(str(i), text, ()) for i, text in enumerate(questions)], top_n)
    return sum(len(passage.text) for candidates in results for passage in candidates.passages)


def measure(side: str, corpus: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One side's job in a process of its own: seconds, peak MiB, and what came back."""
    command = [sys.executable, __file__, "--side", side, "--corpus", str(corpus), "--folder", str(folder)]
    for name in ("questions", "top-n", "rounds"):
        command += [f"--{name}", str(getattr(arguments, name.replace("-", "_")))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    metrics: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return metrics


def run_side(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.side == "search":
        return search_in_turn(arguments)
    questions, job = asked(arguments.questions), {"ours": ours, "bare": bare, "build": build}[arguments.side]
    wall, cpu = time.perf_counter(), time.process_time()
    characters = job(arguments.corpus, arguments.folder, questions, arguments.top_n)
    return {
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "characters": characters,
    }


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    (passages,) = arguments.passages
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        write_corpus(corpus, passages, arguments.words)
        sides = {side: measure(side, corpus, Path(folder) / side, arguments) for side in ("bare", "ours")}
    overhead = {
        name: round(sides["ours"][key] / sides["bare"][key] - 1, 4)
        for name, key in (("wall", "wall_seconds"), ("cpu", "cpu_seconds"), ("peak_memory", "peak_mib"))
    }
    return {"passages": passages, "cores": os.cpu_count(), "overhead": overhead, **sides}


def compare_search(arguments: argparse.Namespace) -> dict[str, Any]:
    """Searching alone, of each size; see the module."""
    sizes = []
    for passages in arguments.passages:
        with tempfile.TemporaryDirectory() as scratch:
            corpus, folder = Path(scratch) / "corpus.jsonl", Path(scratch) / "index"
            write_corpus(corpus, passages, arguments.words)
            built = measure("build", corpus, folder, arguments)
            corpus.unlink()
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            searched = measure("search", corpus, folder, arguments)
        made = {"passages": passages, "index_mib": size >> 20, "build": built, **searched}
        print(json.dumps(made), file=sys.stderr, flush=True)
        sizes.append(made)
    carried_on = {}
    if len(sizes) > 1 and arguments.carry_on:
        for name in ("ours_ms_per_question", "bare_ms_per_question", "index_mib"):
            before, last = (one[name] for one in sizes[-2:])
            growth = math.log(last / before) / math.log(sizes[-1]["passages"] / sizes[-2]["passages"])
            value = last * (arguments.carry_on / sizes[-1]["passages"]) ** growth
            carried_on[name] = {"exponent": round(growth, 3), "value": round(value, 1)}
    words = [*arguments.words]
    return {"benchmark": "search", "cores": os.cpu_count(), "words": words, "sizes": sizes,
            "carried_on": {"passages": arguments.carry_on, **carried_on}}  # fmt: skip


def build(corpus: Path, folder: Path, questions: list[str], top_n: int) -> int:
    """Our index alone; nothing is asked."""
    from ragdro.config.retriever import Bm25Settings
    from ragdro.retrieval import make_retriever
    from ragdro.types import Passage

    retriever = make_retriever(Bm25Settings(k1=1.2, b=0.75))
    retriever.build((Passage(r["id"], r["title"], r["text"]) for r in records(corpus)), folder)
    return 0


def search_in_turn(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both ways over one open index, in turn: bm25s with a thread a processor, and ours; the same scores."""
    import Stemmer

    from ragdro.config.retriever import Bm25Settings
    from ragdro.retrieval import make_retriever
    from ragdro.retrieval.bm25_library import bm25s
    from ragdro.types import Question

    texts, seconds = asked(arguments.questions), {"bare": [], "ours": []}
    questions = [Question(str(i), text, ()) for i, text in enumerate(texts)]
    retriever = make_retriever(Bm25Settings(k1=1.2, b=0.75))
    retriever.open(arguments.folder)
    held = {"opened": anonymous_mib()}
    index = bm25s.BM25.load(arguments.folder / "bm25", mmap=True, show_progress=False)
    stemmer = Stemmer.Stemmer("english")
    for turn in range(arguments.rounds):
        start = time.perf_counter()
        results = list(retriever.search(questions, arguments.top_n))
        seconds["ours"].append(time.perf_counter() - start)
        held |= {} if turn else {"ours_once": anonymous_mib()}
        start = time.perf_counter()
        words = bm25s.tokenize(texts, stopwords="english", stemmer=stemmer, show_progress=False)
        _, scores = index.retrieve(words, k=arguments.top_n, n_threads=-1, chunksize=1, show_progress=False)
        seconds["bare"].append(time.perf_counter() - start)
        held |= {} if turn else {"both_once": anonymous_mib()}
        np.testing.assert_allclose([candidates.scores for candidates in results], scores, rtol=1e-6)
    per_question = {side: float(np.median(turns)) / len(texts) for side, turns in seconds.items()}
    return {
        "search_ratio": round(per_question["ours"] / per_question["bare"], 3),
        **{f"{side}_ms_per_question": round(1000 * value, 2) for side, value in per_question.items()},
        "anonymous_mib": {**held, "at_the_end": anonymous_mib()},
    }


def anonymous_mib() -> int:
    """MiB of this process that are no pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("RssAnon"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--passages", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--words", type=int, nargs=2, default=[40, 120], help="of a passage: least and most")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--top-n", type=int, default=20)
    parser.add_argument("--search", action="store_true", help="time searching alone, index open")
    parser.add_argument("--rounds", type=int, default=5, help="of --search, of which the median counts")
    parser.add_argument("--carry-on", type=int, help="passages to carry --search on to")
    parser.add_argument("--side", choices=("ours", "bare", "build", "search"), help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if len(arguments.passages) > 1 and not arguments.search:
        parser.error("several --passages go with --search only")
    job = run_side if arguments.side else compare_search if arguments.search else compare
    print(json.dumps(job(arguments)))


if __name__ == "__main__":
    main()
