"""FlashRAG's files (RUC-NLPIR/FlashRAG): questions `{"id", "question", "golden_answers", "metadata"}` and
a corpus `{"id", "contents"}`, where `contents` is the title, a line break, and the text.

Pyserini's `{"id", "contents", "title"}` may have the title in `contents` as well, or not.

Where `metadata` carries HotpotQA's columns (`context`, `supporting_facts`), they become passages.
"""

from __future__ import annotations

from ragdro.data import hotpotqa
from ragdro.data.record import Fields, Record
from ragdro.types import Passage, Question


def is_question(fields: Fields) -> bool:
    """A question with `golden_answers`."""
    return "question" in fields and "golden_answers" in fields


def is_passage(fields: Fields) -> bool:
    """A record with an id and `contents`."""
    return "contents" in fields and "id" in fields and "question" not in fields


def question(record: Record) -> Question:
    """One question."""
    question_id = record.identifier("id") if record.has("id") else f"flashrag-{record.position}"
    passages: tuple[Passage, ...] = ()
    if isinstance(record.fields.get("metadata"), dict):
        metadata = record.record("metadata")
        if isinstance(metadata.fields.get("context"), dict):
            passages = hotpotqa.passages(metadata, question_id)
    return Question(question_id, record.text("question"), record.answers("golden_answers"), passages)


def passage(record: Record) -> Passage:
    """One passage; quotation marks around the title, as in FlashRAG's Wikipedia, are not part of it."""
    contents = record.text("contents")
    title, newline, text = contents.partition("\n")
    if record.has("title"):
        known = record.string("title")
        title, text = known, text if newline and _bare(title) == _bare(known) else contents
    elif not newline:
        title, text = "", title
    return Passage(record.identifier("id"), _bare(title), text)


def _bare(title: str) -> str:
    return title[1:-1].replace('""', '"') if len(title) > 1 and title[0] == title[-1] == '"' else title
