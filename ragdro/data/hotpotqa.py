"""HotpotQA JSON: `{"_id", "question", "answer", "supporting_facts": [[title, sentence]], "context":
[[title, [sentences]]], "type", "level"}`; the official files are one JSON list, line by line is read too.

The copy on the Hugging Face hub has `id`, and columns in place of rows: `context: {"title": [],
"sentences": []}`, `supporting_facts: {"title": [], "sent_id": []}`. Both are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from ragdro.data.record import Fields, Record
from ragdro.types import Passage, Question


def is_question(fields: Fields) -> bool:
    """A question whose context is a list of titled paragraphs, or the hub's columns of them."""
    context = fields.get("context")
    if "question" not in fields or not isinstance(context, (list, dict)):
        return False
    return isinstance(context, dict) or all(isinstance(entry, list) for entry in context)


def join_sentences(sentences: Sequence[str]) -> str:
    """The paragraph that `sentences` were cut from: HotpotQA keeps the blank before each, 2Wiki drops it."""
    text = ""
    for sentence in sentences:
        glued = not text or text[-1:].isspace() or sentence[:1].isspace()
        text += sentence if glued else f" {sentence}"
    return text.strip()


def _rows(record: Record, field: str, columns: tuple[str, ...]) -> list[tuple[object, object]]:
    """The pairs of a field that is a list of pairs or an object of two columns."""
    if isinstance(record.fields.get(field), dict):
        inner = record.record(field)
        second = next((name for name in columns[1:] if inner.has(name)), columns[1])
        left, right = inner.items(columns[0]), inner.items(second)
        if len(left) != len(right):
            raise record.error("has columns of different lengths", field)
        return list(zip(left, right, strict=True))
    pairs = []
    for index, value in enumerate(record.items(field)):
        if not isinstance(value, list) or len(value) != 2:
            raise record.error("must be a pair", f"{field}[{index}]")
        pairs.append((value[0], value[1]))
    return pairs


def supporting_facts(record: Record) -> tuple[tuple[str, int], ...]:
    """The gold sentences, each as title and index of the sentence, in the file's order."""
    facts = []
    for index, (title, sentence) in enumerate(_rows(record, "supporting_facts", ("title", "sent_id"))):
        if not isinstance(title, str) or isinstance(sentence, bool) or not isinstance(sentence, int):
            raise record.error("must be a title and a sentence number", f"supporting_facts[{index}]")
        facts.append((title, sentence))
    return tuple(facts)


def passages(record: Record, question_id: str) -> tuple[Passage, ...]:
    """The paragraphs; gold are those that a supporting fact names, unknown where the file has no facts."""
    gold_titles = {title for title, _ in supporting_facts(record)}
    known = record.has("supporting_facts")
    paragraphs = []
    for index, (title, sentences) in enumerate(_rows(record, "context", ("title", "sentences", "content"))):
        place = f"context[{index}]"
        if not isinstance(title, str) or not isinstance(sentences, list):
            raise record.error("must be a title and a list of sentences", place)
        parts = [sentence for sentence in sentences if isinstance(sentence, str)]
        if len(parts) < len(sentences):
            raise record.error("has a sentence that is not a string", place)
        text = join_sentences(parts)
        if not text and not title.strip():
            raise record.error("is empty", place)
        gold = title in gold_titles if known else None
        paragraphs.append(Passage(f"{question_id}:{index}", title, text, gold))
    return tuple(paragraphs)


def question_id(record: Record) -> str:
    """`_id`, or `id` in the hub's copy."""
    return record.identifier("_id" if record.has("_id") or not record.has("id") else "id")


def question(record: Record) -> Question:
    """One question with its paragraphs; test files have no answer."""
    named = question_id(record)
    return Question(named, record.text("question"), record.answers("answer"), passages(record, named))
