"""Queries that a model wrote: each text once, what was read left out, nothing found no error."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ragdro.config.retriever import CandidatesFile, ExternalSettings, HybridSettings
from ragdro.errors import RetrievalError
from ragdro.retrieval import make_retriever, queries
from ragdro.retrieval.candidates import encode_line
from ragdro.retrieval.over import retriever_over
from ragdro.retrieval.queries import QuerySearch, as_find, unread
from ragdro.types import Candidates, Passage, Question, Task

SHELF = [Passage(f"p{i}", f"Title{i}", f"word{i} common thing{i % 2}") for i in range(6)]


def ids(candidates: Candidates) -> list[str]:
    return [passage.id for passage in candidates.passages]


def test_each_distinct_text_is_searched_for_once() -> None:
    asked: list[str] = []
    bm25 = as_find(retriever_over(SHELF))

    def find(texts: Sequence[str], top_n: int) -> Sequence[Candidates]:
        asked.extend(texts)
        return bm25(texts, top_n)

    search = QuerySearch(find, 2, 1)
    found = search.search(["word1", "", "  ", "word2", "word1"])
    again = search.search(["word2", "thing1"])
    assert asked == ["word1", "word2", "thing1"]
    assert ids(found["word1"]) == ["p1"] and found[""].passages == found["  "].passages == ()
    assert again["word2"] is found["word2"]
    assert ids(again["thing1"]) == ["p1", "p3", "p5"]  # two, and one more for what was read
    assert again["thing1"].passages[0] is found["word1"].passages[0]


def test_texts_and_passages_of_long_ago_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_KEPT", 4)
    made: list[weakref.ref[Found]] = []

    def find(texts: Sequence[str], top_n: int) -> list[Candidates]:
        passages = [Found(text, text, text) for text in texts]
        made.extend(map(weakref.ref, passages))
        return [Candidates(text, (p,)) for text, p in zip(texts, passages, strict=True)]

    search = QuerySearch(find, 1, 0)
    assert list(search.search(["a", "b", "c", "d"])) == ["a", "b", "c", "d"]
    assert all(ref() is not None for ref in made)
    candidates = search.search(["a", "e"])
    assert ids(candidates["a"]) == ["a"] and ids(candidates["e"]) == ["e"]
    del candidates
    assert [ref() is not None for ref in made] == [False, False, False, True, True]
    assert search.search(["e"])["e"].passages[0] is made[4]() and len(made) == 5


@dataclass(frozen=True)
class Found(Passage):
    """A passage that can be referred to weakly."""


def test_what_was_read_is_left_out() -> None:
    (found,) = as_find(retriever_over(SHELF))(["common"], 4)
    task = Task(Question("q", "?", ()), Candidates("q", ()), (SHELF[0], SHELF[2]))
    left = unread(found, task, 2)
    assert left.question_id == "q" and ids(left) == ["p1", "p3"]
    assert left.scores is not None and found.scores is not None
    assert left.scores == (found.scores[1], found.scores[3])


def test_words_that_the_corpus_has_not_find_nothing_and_nothing_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    retriever = retriever_over(SHELF)
    found = retriever.find(["nowhere", "word3 nowhere", "..."], 3)
    assert [ids(one) for one in found] == [[], ["p3"], []]
    list(retriever.search([Question("q", "word1", ())], 1))
    assert "share no word" not in caplog.text
    with pytest.raises(RetrievalError, match="top_n must be at least 1"):
        retriever.find(["word1"], 0)


@pytest.mark.parametrize("fused", [False, True])
def test_what_lists_known_questions_is_asked_nothing(fused: bool, tmp_path: Path) -> None:
    """A text's number is no id of a question, whatever the file's ids are."""
    listed = tmp_path / "found.jsonl"
    listed.write_bytes(encode_line(Candidates("0", tuple(SHELF))))
    settings = ExternalSettings(source=CandidatesFile(path=listed))
    retriever = make_retriever(HybridSettings(members=(settings,)) if fused else settings)
    assert ids(next(retriever.search([Question("0", "word1", ())], 1))) == ["p0"]
    with pytest.raises(RetrievalError, match=r"known questions alone.*retrieval\.rounds: 1"):
        retriever.find(["word1"], 1)


def test_a_retriever_of_ones_own_and_a_function_find_too() -> None:
    class Own:
        def search(self, queries: Sequence[str], top_n: int) -> list[list[Passage]]:
            return [SHELF[: len(query)][:top_n] for query in queries]

    def function(questions: Sequence[Question]) -> list[Candidates]:
        return [Candidates(q.id, tuple(SHELF[: len(q.question)])) for q in questions]

    for own in (Own(), function):
        assert [ids(one) for one in as_find(own)(["a", "abc"], 9)] == [["p0"], ["p0", "p1", "p2"]]
