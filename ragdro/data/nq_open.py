"""NQ-open JSONL: `{"question": str, "answer": [str]}`, without ids.

From google-research-datasets/natural-questions. A question's id is `nq-open-N`, N counting the file's
records from 0.
"""

from __future__ import annotations

from ragdro.data.record import Fields, Record
from ragdro.types import Question


def is_question(fields: Fields) -> bool:
    """A question with `answer` and nothing of the formats that carry passages."""
    return "question" in fields and "answer" in fields and "answers" not in fields


def question(record: Record) -> Question:
    """One question with its answers; `answer` may be a list or, as in some copies, one string."""
    named = record.identifier("id") if record.has("id") else f"nq-open-{record.position}"
    return Question(named, record.text("question"), record.answers("answer"))
