"""KILT JSONL (facebookresearch/KILT): `{"id", "input", "output": [{"answer", "provenance"}], "meta"}`.

Wizard of Wikipedia is one of its tasks: `input` is the dialogue so far, a turn a line. Outputs without an
answer (provenance alone) are no answers; answers are stripped, as KILT's own evaluation does. Provenance
names Wikipedia pages without their text, so it gives passages only where a file carries `text`.
"""

from __future__ import annotations

from ragdro.data.record import Fields, Record
from ragdro.types import Passage, Question


def is_question(fields: Fields) -> bool:
    """A record with `input`, and `output` unless it is a test file."""
    return "input" in fields and "id" in fields


def answers(record: Record) -> tuple[str, ...]:
    """The gold answers in the file's order, stripped, without repeats and without empty ones."""
    texts = [output.string("answer").strip() for output in record.records("output")]
    return tuple(dict.fromkeys(answer for answer in texts if answer))


def question(record: Record) -> Question:
    """One question or dialogue."""
    question_id = record.identifier("id").strip()
    passages: list[Passage] = []
    for output in record.records("output"):
        for index, source in enumerate(output.records("provenance")):
            if source.has("text"):
                page = source.identifier("wikipedia_id") if source.has("wikipedia_id") else question_id
                passages.append(Passage(f"{page}:{index}", source.string("title"), source.text("text"), True))
    return Question(question_id, record.text("input"), answers(record), tuple(dict.fromkeys(passages)))
