"""Every format in its original shape, read to hand-worked questions and passages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ragdro.data import (
    is_reference,
    load_questions,
    read_corpus,
    read_questions,
    recognise,
    resolve_candidates,
)
from ragdro.errors import DataError
from ragdro.types import Candidates, Passage, Question
from tests.unit.data import originals as o


def put(folder: Path, data: bytes, name: str = "file") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def questions(folder: Path, data: bytes) -> list[Question]:
    return list(read_questions(put(folder, data)))


ARLEN = Passage("q1:0", "Arlen", "Arlen lies on the Visk.", True)
HOTPOT_PASSAGES = (
    Passage("h:0", "Arlen", "Arlen is a town. It lies in Vesk.", True),
    Passage("h:1", "Dell", "Dell is a valley.", False),
    Passage("h:2", "Oster", "Oster is a hill in Vesk.", True),
)


def hotpot_passages(question_id: str) -> tuple[Passage, ...]:
    return tuple(replace(p, id=p.id.replace("h:", f"{question_id}:")) for p in HOTPOT_PASSAGES)


def test_own_questions(tmp_path: Path) -> None:
    (question,) = questions(tmp_path, o.jsonl(o.OWN))
    assert question == Question(
        "q1",
        "Which river crosses Arlen?",
        ("the Visk", "Visk"),
        (ARLEN, Passage("p9", "Oster", "Oster is a hill.", False)),
        Candidates(
            "q1",
            (
                Passage("c7", "Arlen", "Arlen lies on the Visk."),
                Passage("q1:c1", "Oster", "Oster is a hill."),
            ),
            (2.5, 1.0),
        ),
        ("p9", "c7"),
        2,
        ("Visk source",),
    )


def test_own_candidates_as_corpus_ids_are_resolved(tmp_path: Path) -> None:
    (question,) = questions(
        tmp_path, o.jsonl({"id": 3, "question": "Q?", "answers": ["a"], "candidates": ["x", 9]})
    )
    assert question.id == "3" and question.candidates is not None
    assert [p.id for p in question.candidates.passages] == ["x", "9"]
    assert all(is_reference(p) for p in question.candidates.passages)
    corpus = {"x": Passage("x", "X", "text x"), "9": Passage("9", "", "text 9")}
    (resolved,) = resolve_candidates([question], corpus)
    assert resolved.candidates == Candidates("3", (corpus["x"], corpus["9"]))
    with pytest.raises(DataError, match="candidate '9' of question '3'"):
        list(resolve_candidates([question], {"x": corpus["x"]}))


def test_nq_open(tmp_path: Path) -> None:
    loaded = questions(tmp_path, o.jsonl(o.NQ_OPEN, o.NQ_OPEN))
    assert [q.id for q in loaded] == ["nq-open-0", "nq-open-1"]
    assert loaded[0].answers == ("Mara Dell", "M. Dell") and loaded[0].passages == ()


def test_dpr(tmp_path: Path) -> None:
    training, results = questions(tmp_path, o.QUESTION_FILES["dpr"])
    assert [(p.id, p.title, p.gold) for p in training.passages] == [
        ("71", "Arlen", True),
        ("6", "Dell", False),
        ("5", "Oster", False),
    ]
    assert training.candidates is None and training.id == "dpr-0"
    assert results.candidates == Candidates(
        "dpr-1",
        (Passage("wiki:8", "Oster", "A hill."), Passage("wiki:3", "Arlen", "Mara Dell founded Arlen.")),
        (79.5, 78.25),
    )


def test_kilt_and_its_dialogue(tmp_path: Path) -> None:
    question, dialogue = questions(tmp_path, o.QUESTION_FILES["kilt"])
    assert question.answers == ("Mara Dell",) and question.passages == ()
    assert dialogue.question == "I like gardens.\nSo do I!\nWhat grows there?"
    assert dialogue.answers == ("Mostly onions.",)


@pytest.mark.parametrize("data", [o.listed(o.HOTPOTQA), o.jsonl(o.HOTPOTQA), o.jsonl(o.HOTPOTQA_HUB)])
def test_hotpotqa_in_its_three_layouts(tmp_path: Path, data: bytes) -> None:
    (question,) = questions(tmp_path, data)
    assert recognise(tmp_path / "file").name == "hotpotqa"
    named = "5a77ec115542992a6e59dff0"
    assert question == Question(named, "Are Arlen and Oster in one land?", ("yes",), hotpot_passages(named))


def test_2wiki_with_aliases_named_and_beside(tmp_path: Path) -> None:
    path = put(tmp_path, o.listed(o.TWOWIKI))
    (question,) = read_questions(path)
    assert question.answers == ("Vesk",)
    assert question.passages[0].text == "Arlen was founded by Mara Dell. It is a town."
    assert [p.gold for p in question.passages] == [True, True, False]
    named = put(tmp_path, o.jsonl(*o.ALIASES), "names.jsonl")
    expected = ("Vesk", "Land of Vesk", "Veskan")
    assert [q.answers for q in read_questions(path, aliases=named)] == [expected]
    put(tmp_path, o.jsonl(*o.ALIASES), "id_aliases.json")
    assert load_questions(path)[0].answers == expected


def test_musique(tmp_path: Path) -> None:
    (question,) = questions(tmp_path, o.jsonl(o.MUSIQUE))
    assert question.answers == ("Vesk", "Land of Vesk") and question.hops == 2
    assert question.queries == ("Mara Dell place of birth",)
    assert question.passages[2] == Passage("2hop__1_2:2", "Mara Dell", "She was born in Vesk.", True)
    assert [p.id for p in question.gold_passages] == ["2hop__1_2:0", "2hop__1_2:2"]


def test_musique_without_steps_and_with_numbers_that_are_no_references(tmp_path: Path) -> None:
    asked = (
        "Arlen >> founded by",
        "is #1 in the #2 team of #3",
        "#2 >> rival of #1",
        "when did #12 play #3 ?",
    )
    steps = [
        {"question": text, "answer": answer}
        for text, answer in zip(asked, ("Dell", "Visk", "Oster", "1"), strict=True)
    ]
    plain = {name: value for name, value in o.MUSIQUE.items() if name != "question_decomposition"}
    without, four = questions(tmp_path, o.jsonl(plain, {**o.MUSIQUE, "question_decomposition": steps}))
    assert without.queries is None and without.hops is None
    assert four.hops == 4
    assert four.queries == ("is Dell in the #2 team of #3", "Visk rival of Dell", "when did #12 play Oster ?")


def test_2wiki_follow_up_queries_by_type_and_layout(tmp_path: Path) -> None:
    pairs = [
        ["Arlen", "mayor", "Dell"],
        ["Oster", "mayor", "Finn"],
        ["Dell", "born", "1900"],
        ["Finn", "born", "1901"],
    ]
    columns = {
        "fact": ["Arlen", "Mara Dell"],
        "relation": ["founded by", "place of birth"],
        "entity": ["Mara Dell", "Vesk"],
    }
    records: list[dict[str, object]] = [
        o.TWOWIKI,
        {**o.TWOWIKI, "evidences": columns},
        {**o.TWOWIKI, "type": "bridge_comparison", "evidences": pairs},
        {**o.TWOWIKI, "type": "comparison"},
        {**o.TWOWIKI, "evidences": []},
    ]
    chain = ("Mara Dell place of birth",)
    expected = [chain, chain, ("Dell born", "Finn born"), (), None]
    assert [question.queries for question in questions(tmp_path, o.jsonl(*records))] == expected


def test_flashrag(tmp_path: Path) -> None:
    (question,) = questions(tmp_path, o.jsonl(o.FLASHRAG))
    assert question == Question("test_0", "who founded arlen", ("Mara Dell",), hotpot_passages("test_0"))
    assert list(read_corpus(put(tmp_path, o.CORPUS_FILES["flashrag"]))) == [
        Passage("0", 'The "Arlen" song', "A song.\nOf two lines."),
        Passage("1", "", "No title here"),
    ]


def test_the_dro_authors_two_spellings(tmp_path: Path) -> None:
    data, training = questions(tmp_path, o.QUESTION_FILES["dro-authors"])
    assert data.passages == (Passage("query_1:positive:0", "U.S.", "U.S. text, by Mara Dell.", True),)
    assert data.candidates is not None
    assert [p.content for p in data.candidates.passages] == [
        ('The "Big" O', 'Known as "Act" one.'),
        ("Monarchy", "A Title: is no Text: marker here."),
    ]
    assert training.id == "17-0" and training.question == "who founded arlen"
    assert training.answers == ("Mara Dell",) and training.candidates is not None
    assert [p.content for p in training.candidates.passages] == [
        ("Arlen", 'Mara Dell founded "Arlen".'),
        ("Oster", "A hill. [3] is not a passage."),
    ]


def test_wizard_of_wikipedia_turns(tmp_path: Path) -> None:
    assert questions(tmp_path, o.jsonl(o.WIZARD)) == [
        Question(
            "wow-1",
            "I like gardens.\nSo do I!",
            ("Mostly onions.",),
            (Passage("wow-1:0", "", "Onions grow in gardens.", True),),
        )
    ]


def test_own_corpus_and_psgs(tmp_path: Path) -> None:
    assert list(read_corpus(put(tmp_path, o.jsonl(*o.CORPUS)))) == [
        Passage("a", "Arlen", "Arlen lies on the Visk."),
        Passage("2", "", "Untitled."),
    ]
    assert list(read_corpus(put(tmp_path, o.PSGS))) == [
        Passage("1", "Aaron", 'Aaron ("Ahärôn") is a prophet.'),
        Passage("2", 'The "Big" O', 'Plain text with "quotes" inside.'),
    ]


def test_a_beir_folder_and_its_splits(tmp_path: Path) -> None:
    for name, data in o.BEIR.items():
        put(tmp_path, data, f"beir/{name}")
    folder = tmp_path / "beir"
    assert str(recognise(folder)) == "beir (questions and corpus, folder)"
    (test,) = read_questions(folder)
    gold = (Passage("d1", "Arlen", "Mara Dell founded Arlen.", True), Passage("d3", "", "A valley.", True))
    assert test == Question("t1", "who founded arlen", ("Mara Dell",), gold)
    (train,) = read_questions(folder / "qrels" / "train.tsv")
    assert train == Question("t2", "what is oster", (), (Passage("d2", "Oster", "", True),))
    assert [p.id for p in read_corpus(folder)] == ["d1", "d2", "d3"]
