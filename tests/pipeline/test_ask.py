"""`ragdro answer` and `ragdro evaluate` on runs, exported folders, other corpora and given passages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.errors import RagdroError
from tests.pipeline.test_train import write_config
from tests.serving import PASSAGES, QUESTIONS, exported_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained with `retriever: given`; keeps every checkpoint."""
    folder = tmp_path_factory.mktemp("given")
    ragdro.run(
        ragdro.load_config(
            write_config(folder, retriever={"kind": "given"}, checkpoints={"keep": "all"}), ["iterations=1"]
        )
    )
    return folder / "runs/run"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_folder(tmp_path_factory.mktemp("exported") / "tiny")


def ask(*words: object, lines: str = "") -> str:
    done = CliRunner().invoke(app, ["answer", *map(str, words)], input=lines, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def write_passages(path: Path) -> Path:
    path.write_text("".join(json.dumps({"id": f"x{i}", "text": t}) + "\n" for i, t in enumerate(PASSAGES)))
    return path


def test_a_run_on_given_passages_takes_a_corpus_or_passages(run: Path, tmp_path: Path) -> None:
    question, passages = QUESTIONS[0], write_passages(tmp_path / "passages.jsonl")
    with pytest.raises(RagdroError, match=r"retriever: given.*--passages FILE, --corpus FILE"):
        ask(run, question)
    record = json.loads(ask(run, question, "--passages", passages, "--json"))
    assert [c["id"] for c in record["candidates"]] == ["x0", "x1", "x2"]
    assert record["answer"] == ragdro.load(run).answer(question, PASSAGES).answer
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        "".join(
            json.dumps(
                {
                    "id": f"c{i}",
                    "title": f"Firm {i}",
                    "text": f"Mara{i} works",
                    "source": {"path": "book.pdf", "start": 0, "end": 9, "page": i + 1},
                }
            )
            + "\n"
            for i in range(9)
        )
    )
    record = json.loads(ask(run, "Where does Mara4 work?", "--corpus", corpus, "--json"))
    assert record["candidates"][0]["id"] == "c4" and record["candidates"][0]["score"] > 0
    assert record["selection"][0]["source"]["path"] == "book.pdf"
    assert "(book.pdf, page " in ask(run, "Where is Mara4?", "--corpus", corpus, "--show-selection")
    with pytest.raises(RagdroError, match="--corpus and --passages: give one"):
        ask(run, question, "--corpus", corpus, "--passages", passages)


def test_standard_input_is_answered_as_each_question_alone(exported: Path) -> None:
    lines = "\n".join([QUESTIONS[0], "", json.dumps({"id": "two", "question": QUESTIONS[1]}), QUESTIONS[2]])
    alone = [ragdro.load(exported).answer(question) for question in QUESTIONS]
    assert ask(exported, "-", lines=lines).splitlines() == [one.answer for one in alone]
    records = [json.loads(line) for line in ask(exported, "-", "--json", lines=lines).splitlines()]
    assert [r["id"] for r in records] == ["question-0", "two", "question-3"]
    for record, one in zip(records, alone, strict=True):
        assert [s["id"] for s in record["selection"]] == [p.id for p in one.selected]


def test_a_question_brings_its_own_passages(run: Path, tmp_path: Path) -> None:
    lines = "".join(
        json.dumps({"id": f"q{i}", "question": QUESTIONS[0], "passages": [{"text": text}, {"text": "Kepin"}]})
        + "\n"
        for i, text in enumerate(PASSAGES)
    )
    records = [json.loads(line) for line in ask(run, "-", "--json", lines="\ufeff" + lines).splitlines()]
    assert [r["candidates"][0]["text"] for r in records] == PASSAGES


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"question": 3}', r"standard input:1: field 'question'"),
        ('ok?\n{"question": ', r"standard input:2: is not valid JSON"),
        (
            '{"id": "a", "question": "x"}\n{"id": "a", "question": "y"}',
            r"standard input:2: .*'a' occurs twice",
        ),
    ],
)
def test_lines_that_are_no_questions(exported: Path, lines: str, message: str) -> None:
    with pytest.raises(RagdroError, match=message):
        ask(exported, "-", lines=lines)


def test_stages(run: Path) -> None:
    vanilla = ragdro.load(run, stage="vanilla")
    warm, texts = ragdro.load(run, stage="warm-up"), [f"Mara{i} works" for i in range(6)]
    prediction = vanilla.answer("Where does Mara4 work?", texts)
    assert prediction.selection.permutation == (0, 1, 2) and prediction.selection.probabilities is None
    assert prediction.answer == warm.predict([prediction.task], select=False)[0].answer
    for stage in ("nonsense", "iteration-9"):
        with pytest.raises(RagdroError, match=stage):
            ragdro.load(run, stage=stage)


def test_evaluate_on_another_corpus(run: Path, tmp_path: Path) -> None:
    corpus = run.parents[1] / "corpus.jsonl"
    data = run.parents[1] / "validation.jsonl"
    words = ["evaluate", run, "--data", data, "--corpus", corpus, "--out", tmp_path / "new" / "out.jsonl"]
    for stage in ("best", "vanilla"):
        done = CliRunner().invoke(app, [*map(str, words), "--stage", stage], catch_exceptions=False)
        assert done.exit_code == 0
        assert json.loads(done.stdout)["questions"] == 2
    first = json.loads((tmp_path / "new/out.jsonl").read_text().splitlines()[0])
    assert len(first["selection"]) == 3


def test_more_passages_than_the_selector_reads(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    texts = [f"Name{i} sings at Sivel" for i in range(44)] + [PASSAGES[0]]
    path.write_text("".join(json.dumps({"id": str(i), "text": t}) + "\n" for i, t in enumerate(texts)))
    record = json.loads(ask(exported, QUESTIONS[0], "--passages", path, "--json"))
    assert len(record["candidates"]) == 45 and len(record["selection"]) == 5
