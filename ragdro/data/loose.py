"""Records that are known by the names of their fields alone: the user's own, or names that many files have.

Questions: `{query, response}`, `{question, possible_answers}` (PopQA), `{query, reference_answer}`
(LlamaIndex), and so on. Passages: `{text}`, `{content, doc_id}`, `{page_content, metadata}` (LangChain,
plain or as `dumpd` writes it), nodes of LlamaIndex. Where there is no id, the record's number makes one; a
title may stand in `metadata`.

`fields` are the user's names: ours → theirs, such as `{"question": "q"}`; `a.b` is field `b` of object `a`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias, get_args

from ragdro.data import squad
from ragdro.data.record import Fields, Record
from ragdro.errors import DataError, brief
from ragdro.types import Candidates, CorpusField, Passage, Question, QuestionField

NAME = "by field names"
FieldNames: TypeAlias = Mapping[str, str]
NO_NAMES: FieldNames = MappingProxyType({})

_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "_id", "qid", "query_id", "question_id"),
    "question": ("question", "query", "question_text", "query_text"),
    "answers": (
        *("answers", "answer", "golden_answers", "gold_answers", "possible_answers", "reference_answer"),
        *("ground_truth", "ground_truths", "expected_answer", "response"),
    ),
    "passage_id": (
        *("id", "_id", "doc_id", "docid", "document_id", "passage_id", "pid", "chunk_id", "node_id", "id_"),
        *("metadata.id", "metadata.doc_id"),
    ),
    "title": ("title", "doc_title", "document_title", "page_title", "wikipedia_title", "metadata.title"),
    "text": (
        *("text", "contents", "content", "page_content", "passage", "passage_text", "body", "chunk"),
        *("document", "paragraph", "text_resource.text"),
    ),
}
"""What our fields are called where the user names nothing; the first that is there is taken."""

COLUMNS = frozenset(name for names in _NAMES.values() for name in names)
"""Column names by which the first line of a table is known."""


def check_names(names: FieldNames) -> None:
    """DataError where `names` has a field of ours that does not exist."""
    known = (*get_args(QuestionField), *get_args(CorpusField))
    for ours in names:
        if ours not in known:
            raise DataError(f"data.fields: no field {brief(ours)} of ours; there are {', '.join(known)}")


def names_question(names: FieldNames) -> bool:
    """Whether the user's names are of a question's fields."""
    return not set(get_args(QuestionField)).isdisjoint(names)


def names_passage(names: FieldNames) -> bool:
    """Whether the user's names are of a passage's fields."""
    return not set(get_args(CorpusField)).isdisjoint(names)


def has(fields: Fields, ours: str, names: FieldNames = NO_NAMES) -> bool:
    """Whether a record has a field of ours, under the user's name or, without one, a common one."""
    return any(_value(_unwrapped(fields), name) is not None for name in _names(ours, names))


def is_question(fields: Fields) -> bool:
    """A question with answers under names that no other format has, or a query alone."""
    if has(fields, "question") and has(fields, "answers"):
        return not ("question" in fields and "answers" in fields)
    return "query" in fields and not has(fields, "text")


def is_passage(fields: Fields) -> bool:
    """A text, and no question."""
    return has(fields, "text") and not has(fields, "question")


def question(record: Record, names: FieldNames = NO_NAMES) -> Question:
    """One question. `passages` and `candidates` are read where the user names them: texts, or objects."""
    ids, id_name = _field(record, "id", names)
    question_id = ids.identifier(id_name) if ids.has(id_name) else f"question-{record.position}"
    asked, question_name = _field(record, "question", names)
    passages = _passages(record, "passages", names, question_id)
    candidates = _passages(record, "candidates", names, question_id)
    return Question(
        question_id,
        asked.text(question_name),
        _answers(*_field(record, "answers", names)),
        passages,
        Candidates(question_id, candidates) if candidates else None,
    )


def passage(record: Record, names: FieldNames = NO_NAMES, default_id: str | None = None) -> Passage:
    """One passage; `default_id` names it where the record has no id."""
    ids, id_name = _field(record, "passage_id", names)
    titles, title_name = _field(record, "title", names)
    texts, text_name = _field(record, "text", names)
    title, text = titles.string(title_name), texts.string(text_name)
    if not title.strip() and not text.strip():
        raise texts.error("is empty", text_name)
    named = ids.identifier(id_name) if ids.has(id_name) else default_id or f"passage-{record.position}"
    return Passage(named, title, text)


def _answers(record: Record, name: str) -> tuple[str, ...]:
    """Answers as a string, a list, a number, or in SQuAD's ways."""
    value = record.fields.get(name)
    if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
        return squad.answers(record, name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (str(value),)
    return record.answers(name)


def _passages(record: Record, ours: str, names: FieldNames, question_id: str) -> tuple[Passage, ...]:
    if ours not in names:
        return ()
    inner, name = _field(record, ours, names)
    if isinstance(inner.fields.get(name), str):
        values: Sequence[object] = inner.answers(name)
    else:
        values = inner.items(name)
    passages = []
    for index, value in enumerate(values):
        fields = value if isinstance(value, dict) else {"text": value}
        entry = replace(inner, fields=fields, inside=f"{inner.inside}{name}[{index}].")
        passages.append(passage(entry, default_id=f"{question_id}:{ours[0]}{index}"))
    return tuple(passages)


def _names(ours: str, names: FieldNames) -> tuple[str, ...]:
    return (names[ours],) if ours in names else _NAMES[ours]


def _field(record: Record, ours: str, names: FieldNames) -> tuple[Record, str]:
    """A record that has the value of a field of ours under its name in the file, and that name."""
    fields = _unwrapped(record.fields)
    possible = _names(ours, names)
    name = next((one for one in possible if _value(fields, one) is not None), possible[0])
    return replace(record, fields={name: _value(fields, name)}), name


def _value(fields: Fields, name: str) -> object:
    """The value under a name, or under a path of names with dots; None where it is absent."""
    if name in fields or "." not in name:
        return fields.get(name)
    outer, _, rest = name.partition(".")
    inner = fields.get(outer)
    return _value(inner, rest) if isinstance(inner, dict) else None


def _unwrapped(fields: Fields) -> Fields:
    """The fields of an object that LangChain or LlamaIndex wrapped for its own store."""
    for wrapper, beside in (("kwargs", "lc"), ("__data__", "__type__")):
        inner = fields.get(wrapper)
        if beside in fields and isinstance(inner, dict):
            return inner
    return fields
