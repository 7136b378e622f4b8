"""Two-hop questions whose second passage shares no word with the question, and models that ask again."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.rewriting.rewriter import Rewriter
from ragdro.types import Passage, Question
from tests.conftest import byte_level, random_model
from tests.worlds import TOWNS


def far_passages(count: int) -> list[Passage]:
    """Who works where, where that is, and as many that help nobody."""
    passages = []
    for i in range(count):
        passages += [
            Passage(f"person-{i}", f"Mara{i}", f"Mara{i} works for Firm{i}."),
            Passage(f"firm-{i}", f"Firm{i}", f"Firm{i} lies by {TOWNS[i % len(TOWNS)]}."),
            Passage(f"other-{i}", f"Nobody{i}", f"Somewhere Nobody{i} sleeps."),
        ]
    return passages


def far_questions(count: int) -> list[Question]:
    """In which town somebody works, with a teacher's second query; every third asks for a firm alone."""
    passages, questions = far_passages(count), []
    for i in range(count):
        gold = tuple(Passage(p.id, p.title, p.text, True) for p in passages[3 * i : 3 * i + 2])
        if i % 3 == 2:
            asked, answer, gold, queries = f"Which town has Firm{i}?", TOWNS[i % len(TOWNS)], gold[1:], ()
            questions.append(Question(f"q{i}", asked, (answer,), gold, queries=queries, hops=1))
        else:
            asked, answer = f"Which town has Mara{i}?", TOWNS[i % len(TOWNS)]
            questions.append(Question(f"q{i}", asked, (answer,), gold, queries=(f"Firm{i}",), hops=2))
    return questions


def pocket_rewriter(seed: int = 7) -> Rewriter:
    """A random model behind the tiny prompt."""
    model = random_model(byte_level(), seed=seed)
    return Rewriter(model, load_template("tiny-rewriter"), budget=Budget(24, 24), query_tokens=8)


class Hashed:
    """A retriever by import path in which every text finds something, in an order of its own."""

    fingerprint = "1"

    def search(self, queries: Sequence[str], top_n: int) -> list[list[Passage]]:
        """By a checksum of query and passage."""
        shelf = far_passages(8)
        return [
            sorted(shelf, key=lambda p, query=query: zlib.crc32(f"{query} {p.id}".encode()))[:top_n]  # type: ignore[misc]
            for query in queries
        ]
