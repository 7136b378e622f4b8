"""SQuAD 1.1 and 2.0 (rajpurkar.github.io/SQuAD-explorer): a question about one paragraph.

Their JSON comes here as records by `nested`: `{"id", "question", "answers": [{"text", "answer_start"}],
"is_impossible"?, "title", "context"}`; the copy on the Hugging Face hub has `answers` as columns: `{"text":
[], "answer_start": []}`. The paragraph is a passage: gold where it answers the question. SQuAD 2.0's
unanswerable questions have no answers: they can be read and retrieved for, and `load_questions` leaves them
out.
"""

from __future__ import annotations

from ragdro.data.record import Fields, Record
from ragdro.types import Passage, Question

NAME = "squad"


def is_question(fields: Fields) -> bool:
    """A question about one paragraph, with the answers that occur in it."""
    answers = fields.get("answers")
    return (
        "question" in fields
        and isinstance(fields.get("context"), str)
        and (
            (isinstance(answers, dict) and "text" in answers)
            or (isinstance(answers, list) and all(isinstance(answer, dict) for answer in answers))
        )
    )


def answers(record: Record, field: str = "answers") -> tuple[str, ...]:
    """The answers' texts, without repeats, in the file's order; none for an unanswerable question."""
    if isinstance(record.fields.get(field), dict):
        return tuple(dict.fromkeys(record.record(field).texts("text")))
    return tuple(dict.fromkeys(answer.text("text") for answer in record.records(field)))


def question(record: Record) -> Question:
    """One question with its paragraph."""
    question_id = record.identifier("id") if record.has("id") else f"squad-{record.position}"
    gold_answers = () if record.flag("is_impossible") else answers(record)
    paragraph = Passage(
        f"{question_id}:0", record.string("title"), record.text("context"), bool(gold_answers)
    )
    return Question(question_id, record.text("question"), gold_answers, (paragraph,))
