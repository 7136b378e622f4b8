"""HotpotQA's own ten paragraphs a question, in BM25's order: what `make demo-real` trains and is measured on.

    python reproductions/ten_paragraphs.py DATA OUT

DATA has `multihop/hotpotqa_train.jsonl` and `multihop/hotpotqa_dev.jsonl`; the questions of
`more/hotpotqa_train_2226.jsonl.gz`, where it is there, come behind those of the first. OUT gets `train.jsonl`
and `validation.jsonl`, whose `candidates` are in the order of BM25 over all paragraphs of the file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import Stemmer

from ragdro.data import read_questions
from ragdro.errors import RagdroError
from ragdro.files import atomic_file
from ragdro.retrieval.bm25_library import bm25s
from ragdro.types import Passage, Question

TRAIN, MORE, DEV = (
    "multihop/hotpotqa_train.jsonl",
    "more/hotpotqa_train_2226.jsonl.gz",
    "multihop/hotpotqa_dev.jsonl",
)


def main(data: Path, out: Path) -> None:
    """Read DATA, write OUT. Exits with one line where a file is missing."""
    for name in (TRAIN, DEV):
        if not (data / name).is_file():
            sys.exit(
                f"demo-real: {data / name} is missing; give the folder that has multihop/hotpotqa_train.jsonl"
                " and hotpotqa_dev.jsonl: make demo-real DATA=FOLDER"
            )
    out.mkdir(parents=True, exist_ok=True)
    more = [MORE] if (data / MORE).is_file() else []
    for split, names in (("train", [TRAIN, *more]), ("validation", [DEV])):
        questions = [q for name in names for q in read_questions(data / name)]
        with atomic_file(out / f"{split}.jsonl") as file:
            for question, ranks in zip(questions, bm25_orders(questions), strict=True):
                file.write(orjson.dumps(record(question, ranks)) + b"\n")


def bm25_orders(questions: list[Question]) -> list[list[int]]:
    """Each question's paragraphs by their score, how rare a word is counted over all paragraphs."""
    stem = Stemmer.Stemmer("english")
    texts = [f"{p.title} {p.text}" for q in questions for p in q.passages]
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stopwords="en", stemmer=stem, show_progress=False), show_progress=False)
    orders, begin = [], 0
    for question in questions:
        (words,) = bm25s.tokenize(
            [question.question], stopwords="en", stemmer=stem, show_progress=False, return_ids=False
        )
        end = begin + len(question.passages)
        scores = index.get_scores(words)[begin:end]
        orders.append(sorted(range(end - begin), key=lambda i: -scores[i]))
        begin = end
    return orders


def record(question: Question, ranks: list[int]) -> dict[str, Any]:
    """The question in our own format."""

    def shown(passage: Passage) -> dict[str, Any]:
        return {"id": passage.id, "title": passage.title, "text": passage.text, "gold": passage.gold}

    passages = [shown(p) for p in question.passages]
    return {
        "id": question.id,
        "question": question.question,
        "answers": list(question.answers),
        "passages": passages,
        "candidates": [passages[i] for i in ranks],
    }


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except RagdroError as error:
        sys.exit(f"demo-real: {error}")
