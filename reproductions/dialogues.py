"""What a dialogue is searched for with: its last turn, all of it, or a query that a model writes, untrained.

    python reproductions/dialogues.py DATA [--questions 300] [--model FOLDER --written 60]

In: a folder with `wow_train.jsonl` and `wow_dev.jsonl` (Wizard of Wikipedia, docs/how-to/data.md). The corpus
is every sentence that a wizard was given, once. Out: a line for each kind of query, the fraction of questions
whose own sentence is among the first 5 and 20 that BM25 finds, with the standard error. First turns, which
stand alone, are left out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from ragdro.data import load_questions
from ragdro.dialogue import last_turn
from ragdro.generation.reading import Reading
from ragdro.retrieval.over import retriever_over
from ragdro.retrieval.queries import Find, as_find
from ragdro.rewriting.rewriter import Rewriter
from ragdro.types import Passage, Question

TOP = (5, 20)


def shelf_of(questions: Sequence[Question]) -> list[Passage]:
    """The sentences of all questions, each once."""
    texts = dict.fromkeys(p.text for question in questions for p in question.gold_passages)
    return [Passage(str(i), "", text) for i, text in enumerate(texts)]


def recalls(
    find: Find, questions: Sequence[Question], queries: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """By how many are looked at the fraction of questions whose sentence is found, and its standard error."""
    candidates = iter(find([query for query in queries if query.strip()], TOP[-1]))
    texts = [[p.text for p in next(candidates).passages] if query.strip() else [] for query in queries]
    result = {}
    for k in TOP:
        hits = [q.gold_passages[0].text in own[:k] for q, own in zip(questions, texts, strict=True)]
        mean = sum(hits) / len(hits)
        result[f"recall@{k}"] = round(mean, 3), round(math.sqrt(mean * (1 - mean) / len(hits)), 3)
    return result


def later_turns(questions: Sequence[Question], count: int) -> list[Question]:
    """At most `count` questions that lean on a dialogue and have a sentence, at equal distances."""
    leaning = [q for q in questions if q.gold_passages and q.question.strip() != last_turn(q.question)]
    step = max(1, len(leaning) // count)
    return leaning[::step][:count]


def written(model: str, questions: Sequence[Question]) -> list[str]:
    """The queries that a model writes without training."""
    rewriter = Rewriter.from_pretrained(model, prompt="standalone", question_tokens=384, query_tokens=32)
    return [query.text for query in rewriter.greedy([Reading(q, ()) for q in questions], 4096)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--model", help="folder or hub name of the model that rewrites")
    parser.add_argument("--written", type=int, default=60, help="questions that the model rewrites")
    arguments = parser.parse_args()
    splits = [load_questions(arguments.data / f"wow_{name}.jsonl") for name in ("train", "dev")]
    shelf = shelf_of([question for split in splits for question in split])
    find = as_find(retriever_over(shelf))
    kinds: dict[str, Callable[[Question], str]] = {
        "last turn": lambda question: last_turn(question.question),
        "whole dialogue": lambda question: question.question,
    }
    counts = [arguments.questions, *([arguments.written] if arguments.model else [])]
    for count in counts:
        questions = later_turns(splits[1], count)
        rows = {name: [query(q) for q in questions] for name, query in kinds.items()}
        if count is counts[-1] and arguments.model:
            rows["written, untrained"] = queries = written(arguments.model, questions)
            rows["last turn and written"] = [
                f"{last_turn(q.question)} {w}" for q, w in zip(questions, queries, strict=True)
            ]
        for name, queries in rows.items():
            line = {"query": name, "questions": len(questions), "passages": len(shelf)}
            print(json.dumps({**line, **recalls(find, questions, queries)}), flush=True)


if __name__ == "__main__":
    main()
