"""Wizard of Wikipedia, one turn a line: `{"id", "context": [turns], "response", "knowledge"}`.

The question is the dialogue so far, a turn a line (as in KILT), the answer the wizard's response, and the
sentence it was given is a gold passage without a title.
"""

from __future__ import annotations

from ragdro.data.record import Fields, Record
from ragdro.types import Passage, Question


def is_question(fields: Fields) -> bool:
    """A record with a context and a response."""
    return "context" in fields and "response" in fields


def question(record: Record) -> Question:
    """One turn of a dialogue."""
    question_id = record.identifier("id")
    turns = record.texts("context")
    if not turns:
        raise record.error("is empty", "context")
    passages = (
        (Passage(f"{question_id}:0", "", record.text("knowledge"), True),)
        if record.string("knowledge")
        else ()
    )
    return Question(question_id, "\n".join(turns), record.answers("response"), passages)
