"""BM25 against a hand-written oracle, ties, restarts and bad input."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import Stemmer
from bm25s.tokenization import Tokenizer

import ragdro
from ragdro.config.retriever import Bm25Settings, HybridSettings
from ragdro.errors import RetrievalError
from ragdro.retrieval import bm25 as module
from ragdro.retrieval import make_retriever, open_retriever
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.bm25 import Bm25Retriever
from ragdro.retrieval.store import PassageStore
from ragdro.types import Passage, Question
from tests.conftest import is_mapped
from tests.unit.retrieval.conftest import generated_corpus, generated_questions, killed_after

STOP = re.findall(
    r"\w+",
    "a an and are as at be but by for if in into is it no not of on or such that the "
    "their then there these they this to was will with",
)


def oracle(
    corpus: Sequence[Passage], question: str, k1: float, b: float, stem: Callable[[str], str]
) -> list[float]:
    """Lucene's BM25, straight from the formula, in double precision."""

    def words(text: str) -> list[str]:
        return [stem(word) for word in re.findall(r"\w+", text.lower()) if word not in STOP]

    documents = [Counter(words(f"{p.title} {p.text}")) for p in corpus]
    lengths = [sum(document.values()) for document in documents]
    mean = sum(lengths) / len(lengths)
    frequency = Counter(word for document in documents for word in document)
    scores = []
    for document, length in zip(documents, lengths, strict=True):
        score = 0.0
        for word in words(question):
            tf, df = document[word], frequency[word]
            idf = math.log(1 + (len(corpus) - df + 0.5) / (df + 0.5))
            score += idf * tf / (tf + k1 * (1 - b + b * length / mean))
        scores.append(score)
    return scores


def built(corpus: Sequence[Passage], folder: Path, settings: Bm25Settings) -> Retriever[Bm25Settings]:
    retriever = Bm25Retriever(settings)
    retriever.build(corpus, folder)
    retriever.open(folder)
    return retriever


@pytest.mark.parametrize(
    "settings",
    [Bm25Settings(), Bm25Settings(k1=0.9, b=0.4, shard_size=7), Bm25Settings(stemmer=None, k1=2.0, b=0.0)],
)
def test_scores_and_order_are_those_of_the_formula(
    settings: Bm25Settings, corpus: list[Passage], questions: list[Question], tmp_path: Path
) -> None:
    stem = str if settings.stemmer is None else Stemmer.Stemmer("english").stemWord
    results = list(built(corpus, tmp_path / "index", settings).search(questions, 15))
    assert [candidates.question_id for candidates in results] == [question.id for question in questions]
    for question, candidates in zip(questions, results, strict=True):
        expected = oracle(corpus, question.question, settings.k1, settings.b, stem)
        rank = {passage.id: expected[row] for row, passage in enumerate(corpus)}
        assert candidates.scores == pytest.approx(sorted(expected, reverse=True)[:15], rel=1e-5)
        assert [rank[p.id] for p in candidates.passages] == pytest.approx(candidates.scores, rel=1e-5)
        assert set(candidates.passages) <= set(corpus)


def test_passages_without_a_word_of_the_question_rank_in_corpus_order(tmp_path: Path) -> None:
    corpus = [
        Passage(str(i), "", text) for i, text in enumerate(["dog", "cat", "dog", "", "bird cat", "dog"])
    ]
    retriever = built(corpus, tmp_path / "index", Bm25Settings())
    ranked = [
        [p.id for p in candidates.passages]
        for candidates in retriever.search(
            [Question("q1", "bird?", ()), Question("q2", "zebra of the", ()), Question("q3", "dogs", ())], 6
        )
    ]
    assert ranked == [list("401235"), list("012345"), list("025134")]


def test_an_index_is_read_from_its_files_as_it_is_searched(corpus: list[Passage], tmp_path: Path) -> None:
    postings = vars(built(corpus, tmp_path / "index", Bm25Settings()))["_postings"]
    arrays = [value for value in vars(postings).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 3 and all(map(is_mapped, arrays))


def test_of_a_corpus_smaller_than_top_n_all_is_taken_and_that_is_said_once(
    corpus: list[Passage], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    retriever = built(corpus, tmp_path / "index", Bm25Settings())
    question = [Question("q", "river", ())]
    (whole,) = retriever.search(question, 60)
    assert len(whole.passages) == 60
    assert "fewer" not in caplog.text
    two = [*question, Question("r", "bridge", ())]
    assert next(iter(retriever.search(two, 61))) == whole
    assert [len(found.passages) for found in retriever.search(two, 100)] == [60, 60]
    (record,) = [entry for entry in caplog.records if entry.levelname == "WARNING"]
    assert record.getMessage().startswith(
        "2 of 2 questions have fewer than top_n = 100 candidates (the fewest: 60)"
    )
    with pytest.raises(RetrievalError, match="top_n must be at least 1, not 0"):
        retriever.search(question, 0)


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([Question("a", " ", ())], "question 'a' is empty"),
        ([Question("a", "x", ()), Question("a", "y", ())], "'a' occurs more than once"),
    ],
)
def test_bad_questions_are_named(
    questions: list[Question], message: str, corpus: list[Passage], tmp_path: Path
) -> None:
    with pytest.raises(RetrievalError, match=message):
        built(corpus, tmp_path / "index", Bm25Settings()).search(questions, 3)


def test_a_killed_build_goes_on_after_its_finished_shards(
    questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, settings, folder = generated_corpus(50), Bm25Settings(shard_size=10), tmp_path / "index"
    plain = list(built(corpus, tmp_path / "plain", settings).search(questions, 10))
    written: list[int] = []
    write_shard = Bm25Retriever._write_shard

    def counted(
        self: Bm25Retriever, tokenizer: Tokenizer, store: PassageStore, start: int, path: Path
    ) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(start)
        write_shard(self, tokenizer, store, start, path)

    monkeypatch.setattr(Bm25Retriever, "_write_shard", counted)
    with pytest.raises(KeyboardInterrupt):
        Bm25Retriever(settings).build(corpus, folder, corpus_key="c")
    with pytest.raises(RetrievalError, match="unfinished: build it again"):
        Bm25Retriever(settings).open(folder)
    assert written == [0, 10, 20]
    written.clear()
    retriever = Bm25Retriever(settings)
    retriever.build(
        killed_after(corpus, 0), folder, corpus_key="c"
    )  # the passages are stored: not read again
    assert written == [30, 40]
    retriever.open(folder)
    assert list(retriever.search(questions, 10)) == plain
    assert sorted(path.name for path in folder.iterdir() if "shards" in path.name) == []


def test_unfinished_work_on_another_corpus_is_not_taken_up(corpus: list[Passage], tmp_path: Path) -> None:
    folder = tmp_path / "index"
    for corpus_key in ("one", None):
        with pytest.raises(KeyboardInterrupt):
            Bm25Retriever(Bm25Settings()).build(killed_after(corpus, 5), folder, corpus_key=corpus_key)
        assert not folder.exists()  # nothing of a corpus cut short is kept
    with pytest.raises(RetrievalError, match="no passage of the corpus holds a word"):
        Bm25Retriever(Bm25Settings()).build([Passage("1", "", "!?")], folder, corpus_key="two")
    retriever = Bm25Retriever(Bm25Settings())
    retriever.build(corpus, folder, corpus_key="one")
    retriever.open(folder)
    assert list(retriever.store.rows()) == corpus


def test_folders_that_hold_something_else_are_left_alone(corpus: list[Passage], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("my notes")
    with pytest.raises(RetrievalError, match="not empty and not an index"):
        Bm25Retriever(Bm25Settings()).build(corpus, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "my notes"
    built(corpus, tmp_path / "index", Bm25Settings())
    with pytest.raises(RetrievalError, match="already holds an index"):
        Bm25Retriever(Bm25Settings()).build(corpus, tmp_path / "index")
    with pytest.raises(RetrievalError, match="built with other settings"):
        Bm25Retriever(Bm25Settings(k1=3.0)).open(tmp_path / "index")
    with pytest.raises(
        RetrievalError, match=r"(the folder holds no|no such) index.*; build one: ragdro index"
    ):
        Bm25Retriever(Bm25Settings()).open(tmp_path / "nowhere")


def test_an_index_opens_with_the_settings_that_it_was_built_with(
    corpus: list[Passage], tmp_path: Path
) -> None:
    questions = generated_questions(3)
    settings = Bm25Settings(k1=0.7, stopwords=None)
    expected = list(built(corpus, tmp_path / "index", settings).search(questions, 5))
    opened = open_retriever(tmp_path / "index")
    assert opened.settings == settings
    assert list(opened.search(questions, 5)) == expected


def test_languages_that_do_not_exist_are_refused(corpus: list[Passage], tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match=r"retriever\.stemmer: no 'klingon'"):
        make_retriever(Bm25Settings(stemmer="klingon")).build(corpus, tmp_path / "one")
    with pytest.raises(RetrievalError, match=r"retriever\.stopwords: bm25s has no list for 'klingon'"):
        make_retriever(Bm25Settings(stopwords="klingon")).build(corpus, tmp_path / "two")
    with pytest.raises(
        RetrievalError, match=r"retriever\.language: neither a stemmer nor stop words for 'kli"
    ):
        make_retriever(Bm25Settings(language="klingon")).build(corpus, tmp_path / "three")


def test_questions_that_match_nothing_are_counted_in_one_warning(
    corpus: list[Passage], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = [
        Question(f"q{i}", text, ()) for i, text in enumerate(["river", "zebra", "of the", "bridge"] * 40)
    ]
    for settings in (Bm25Settings(), HybridSettings(members=(Bm25Settings(),))):
        caplog.clear()
        retriever = make_retriever(settings)
        retriever.build(corpus, tmp_path / settings.kind)
        retriever.open(tmp_path / settings.kind)
        results = list(retriever.search(asked, 3))
        assert [passage.id for passage in results[1].passages] == ["p0", "p1", "p2"]
        (record,) = [entry for entry in caplog.records if entry.levelname == "WARNING"]
        assert record.getMessage().startswith("80 of 160 questions share no word with the corpus")
        caplog.clear()
        assert list(retriever.search(asked[:1], 3)) and not caplog.text


def test_a_question_that_is_a_passage_is_not_its_own_candidate(corpus: list[Passage], tmp_path: Path) -> None:
    # as in BEIR's ArguAna; a passage that has the question's id by chance, or its text alone, stays
    itself = Question("p7", f" {corpus[7].text.upper()}", ())
    by_chance = Question("p8", "silver river?", ())
    twin = Question("other", corpus[9].text, ())
    retriever = built(corpus, tmp_path / "index", Bm25Settings())
    ranked = [[p.id for p in c.passages] for c in retriever.search([itself, by_chance, twin], 59)]
    assert "p7" not in ranked[0] and len(set(ranked[0])) == 59
    assert "p9" in ranked[2] and all(len(set(ids)) == 59 for ids in ranked)
    plain = [p.id for p in next(retriever.search([Question("x", by_chance.question, ())], 59)).passages]
    assert ranked[1] == plain
    (alone,) = retriever.search([itself], 60)
    assert "p7" not in [p.id for p in alone.passages] and len(alone.passages) == 59


def test_searching_before_opening_is_refused() -> None:
    with pytest.raises(RetrievalError, match="has no index open"):
        module.Bm25Retriever(Bm25Settings()).search([Question("q", "x", ())], 1)


@pytest.mark.parametrize("module", ["bm25", "sparse", "language"])
def test_a_jax_that_is_installed_is_not_called(module: str, tmp_path: Path) -> None:
    """It would take most of a GPU's memory."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax/__init__.py").write_text("raise AssertionError('jax was imported')")
    code = (
        f"import ragdro.retrieval.{module}, sys; assert 'jax' not in sys.modules; import bm25s;"
        " assert not bm25s.selection.JAX_IS_AVAILABLE"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(ragdro.__file__).parents[1]}"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
