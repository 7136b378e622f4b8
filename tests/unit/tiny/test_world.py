"""The promises that the demo's world makes to the method, checked with real BM25 over the whole corpus."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import bm25s
import pytest
import Stemmer

from ragdro.tiny.words import NOUNS, all_names
from ragdro.tiny.world import DemoWorld, build_world, write_world

Ranks = list[tuple[int, list[int], int]]


@pytest.fixture(scope="module")
def demo() -> DemoWorld:
    return build_world(0)


def tokens(texts: list[str]) -> bm25s.tokenization.Tokenized:
    stemmer = Stemmer.Stemmer("english")
    return bm25s.tokenize(texts, lower=True, stopwords=None, stemmer=stemmer, show_progress=False)


@pytest.fixture(scope="module")
def ranks(demo: DemoWorld) -> Ranks:
    """For every question its hops, the ranks (0 is best, 99 is absent) of its passages, and how many of the
    top 20 hold the answer."""
    retriever = bm25s.BM25()
    retriever.index(tokens([f"{p['title']} {p['text']}" for p in demo.corpus]), show_progress=False)
    questions = [q for split in demo.questions.values() for q in split]
    retrieved, _ = retriever.retrieve(tokens([q["question"] for q in questions]), k=20, show_progress=False)
    ranks = []
    for question, row in zip(questions, retrieved, strict=True):
        texts = [demo.corpus[i]["text"] for i in row]
        gold = [p["text"] for p in question["passages"]]
        places = [texts.index(text) if text in texts else 99 for text in gold]
        holding = sum(question["answers"][0] in text.split() for text in texts)
        ranks.append((question["hops"], places, holding))
    return ranks


def share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def test_one_hop_questions_are_answered_by_the_top_five(ranks: Ranks) -> None:
    assert share([places[0] < 5 for hops, places, _ in ranks if hops == 1]) >= 0.98


def test_second_passage_is_in_the_top_twenty_but_not_in_the_top_five(ranks: Ranks) -> None:
    second = [places[1] for hops, places, _ in ranks if hops == 2]
    assert share([place < 20 for place in second]) >= 0.95
    assert share([place < 5 for place in second]) <= 0.05


def test_first_passage_is_anywhere_among_those_about_the_person(ranks: Ranks) -> None:
    """A question names the relation in other words, so BM25 cannot distinguish the person's eight facts."""
    first = [places[0] for hops, places, _ in ranks if hops == 2]
    assert share([place < 8 for place in first]) >= 0.95
    assert 0.5 <= share([place < 5 for place in first]) <= 0.75


def test_answers_are_also_in_passages_that_do_not_help(ranks: Ranks) -> None:
    holding = [held for hops, _, held in ranks if hops == 2]
    assert sum(holding) / len(holding) >= 2.0


def test_sizes_and_share_of_two_hop_questions(demo: DemoWorld) -> None:
    sizes = {split: len(questions) for split, questions in demo.questions.items()}
    assert sizes == {"train": 378, "validation": 84, "test": 210}
    for questions in demo.questions.values():
        assert 0.65 <= share([q["hops"] == 2 for q in questions]) <= 0.75


def test_second_passage_shares_no_name_with_the_question(demo: DemoWorld) -> None:
    names = set(all_names())
    for question in demo.questions["test"]:
        asked = set(question["question"].strip("?").split()) & names
        for passage in question["passages"][1:]:
            assert not asked & set(f"{passage['title']} {passage['text']}".split())


def test_splits_share_no_needed_fact_and_no_name(demo: DemoWorld) -> None:
    names = set(all_names())
    needed, named = {}, {}
    for split, questions in demo.questions.items():
        texts = [p["text"] for q in questions for p in q["passages"]]
        needed[split] = set(texts)
        named[split] = {word for text in texts for word in text.split()} & names
    for one, other in [("train", "validation"), ("train", "test"), ("validation", "test")]:
        assert not needed[one] & needed[other]
        assert not named[one] & named[other]


def noun(question: dict[str, Any]) -> str:
    return next(word for word in question["question"].split() if word in NOUNS)


def test_a_guess_is_right_less_than_one_time_in_twenty() -> None:
    """The likeliest animal, over many worlds."""
    answers = Counter(
        question["answers"][0]
        for seed in range(12)
        for questions in build_world(seed).questions.values()
        for question in questions
    )
    assert len(answers) == 40
    assert max(answers.values()) / answers.total() < 0.05


def test_the_commonest_training_answers_do_not_answer_the_test(demo: DemoWorld) -> None:
    """The best guess from the training questions alone: the commonest animal for the noun."""
    seen: dict[str, Counter[str]] = {}
    for question in demo.questions["train"]:
        seen.setdefault(noun(question), Counter())[question["answers"][0]] += 1
    guesses = {name: counts.most_common(1)[0][0] for name, counts in seen.items()}
    hits = [guesses.get(noun(q)) in q["answers"] for q in demo.questions["test"]]
    assert share(hits) < 0.05


def test_one_fact_a_passage_and_one_passage_a_fact(demo: DemoWorld) -> None:
    assert len({p["text"] for p in demo.corpus}) == len(demo.corpus) == 1920
    assert len({p["id"] for p in demo.corpus}) == len(demo.corpus)
    assert all(p["title"] in p["text"].split() for p in demo.corpus)


def test_gold_passages_are_in_the_corpus_and_hold_the_answer(demo: DemoWorld) -> None:
    corpus = {(p["title"], p["text"]) for p in demo.corpus}
    for questions in demo.questions.values():
        for question in questions:
            passages = question["passages"]
            assert len(passages) == question["hops"]
            assert all((p["title"], p["text"]) in corpus and p["gold"] is True for p in passages)
            assert question["answers"][0] in passages[-1]["text"].split()


def test_same_seed_same_world_other_seed_another(demo: DemoWorld) -> None:
    assert build_world(0) == demo
    assert build_world(1) != demo


def test_written_files_read_back(demo: DemoWorld, tmp_path: Path) -> None:
    write_world(tmp_path / "demo", seed=0)
    read = {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (tmp_path / "demo").iterdir()
    }
    assert read == {"corpus": demo.corpus, **demo.questions}
