"""2WikiMultiHopQA JSON (Alab-NII/2wikimultihop): HotpotQA's fields, and `evidences`, `evidences_id`,
`answer_id`, `entity_ids`; with an alias file of `{"Q_id", "aliases": [], "demonyms": []}` lines.

An evidence is a triple `[subject, relation, object]`. In a chain the first half can be asked for by what the
question names, the second half only by what the first half says: these become the follow-up queries (subject
and relation). A comparison names both subjects, and needs none. The hub's copy has `evidences` as columns
`fact`, `relation`, `entity`.

An answer's aliases are gold answers too (the official evaluation v1.1). They follow the answer itself,
in the alias file's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from ragdro.data import hotpotqa
from ragdro.data.record import Fields, Record, parse
from ragdro.data.stream import lines
from ragdro.errors import DataError
from ragdro.types import Question

Aliases: TypeAlias = Mapping[str, tuple[str, ...]]
"""Wikidata id → other names of that entity (aliases and demonyms)."""


def is_question(fields: Fields) -> bool:
    """HotpotQA's shape with one of the fields that only 2Wiki has."""
    return hotpotqa.is_question(fields) and any(
        field in fields for field in ("evidences", "evidences_id", "entity_ids", "answer_id")
    )


def read_aliases(path: Path) -> Aliases:
    """The alias file, whole (the official one has some 100,000 entities). Raises DataError."""
    aliases: dict[str, tuple[str, ...]] = {}
    for position, (line, data) in enumerate(lines(path)):
        record = parse(data, path, line, position)
        names = [*record.items("aliases"), *record.items("demonyms")]
        if not all(isinstance(name, str) for name in names):
            raise record.error("must be a list of strings", "aliases")
        aliases[record.identifier("Q_id")] = tuple(str(name) for name in names)
    if not aliases:
        raise DataError("holds no aliases", path=path)
    return aliases


def question(record: Record) -> Question:
    """One question, its answer without aliases."""
    return replace(hotpotqa.question(record), queries=_follow_up_queries(record))


def _follow_up_queries(record: Record) -> tuple[str, ...] | None:
    evidences = _evidences(record)
    if not evidences:
        return None
    if record.fields.get("type") == "comparison":
        return ()
    return tuple(f"{subject} {relation}" for subject, relation in evidences[len(evidences) // 2 :])


def _evidences(record: Record) -> list[tuple[str, str]]:
    """Subject and relation of each evidence."""
    if isinstance(record.fields.get("evidences"), dict):
        columns = record.record("evidences")
        subjects, relations = columns.texts("fact"), columns.texts("relation")
        if len(subjects) != len(relations):
            raise record.error("has columns of different lengths", "evidences")
        return list(zip(subjects, relations, strict=True))
    pairs = []
    for index, value in enumerate(record.items("evidences")):
        if not (isinstance(value, list) and len(value) == 3 and all(isinstance(part, str) for part in value)):
            raise record.error("must be three strings", f"evidences[{index}]")
        pairs.append((value[0], value[1]))
    return pairs


def with_aliases(question: Question, record: Record, aliases: Aliases) -> Question:
    """`question` with the aliases of its answer's entity appended to the answers."""
    if not record.has("answer_id") or not question.answers:
        return question
    others = aliases.get(record.identifier("answer_id"), ())
    names = (name for name in others if name.strip())
    return replace(question, answers=tuple(dict.fromkeys((*question.answers, *names))))
