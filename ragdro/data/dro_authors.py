"""The DRO authors' JSON (mangopy/direct-rag-learning): their data and their generator's training file.

Data: `{"question", "answer", "positive": [str], "retrieval": [str], "query_id"?}`, a passage being one
string in either spelling: `Title: X. Content: …` (from DPR's positives) or `Title: "X" Text: …` (from
the TSV dump, its quotation marks still doubled, and the title unquoted where the dump has it so).
Training: `{"prompt", "response", "query_id", "sample_id", "probs"}`; the prompt lists `[1] Title: …`.
"""

from __future__ import annotations

import re

from ragdro.data.record import Fields, Record
from ragdro.types import Candidates, Passage, Question

_PASSAGE = re.compile(r"\s*Title:\s*(?P<title>.*?)\s*(?P<kind>Text|Content):\s*(?P<text>.*)", re.DOTALL)
_LISTED = re.compile(r"^\[\d+\] (?=Title:)", re.MULTILINE)
_QUESTION = re.compile(r"\nQuestion: (?P<question>.*?)\nYour answer:\s*\Z", re.DOTALL)


def is_question(fields: Fields) -> bool:
    """Either of the two files."""
    if "prompt" in fields and "response" in fields:
        return True
    return "question" in fields and ("retrieval" in fields or "positive" in fields)


def passage(text: str, named: str, gold: bool | None) -> Passage | None:
    """The passage that one of the authors' strings holds; None if it is in neither spelling."""
    match = _PASSAGE.fullmatch(text)
    if match is None or not match["text"].strip():
        return None
    title, body = match["title"], match["text"].strip()
    if match["kind"] == "Content":
        return Passage(named, title.removesuffix("."), body, gold)
    if len(title) > 1 and title[0] == title[-1] == '"':
        title = title[1:-1]
    return Passage(named, title.replace('""', '"'), body.replace('""', '"'), gold)


def _passages(record: Record, field: str, question_id: str, gold: bool | None) -> tuple[Passage, ...]:
    passages = []
    for index, text in enumerate(record.texts(field)):
        one = passage(text, f"{question_id}:{field}:{index}", gold)
        if one is None:
            raise record.error("must read 'Title: … Text: …' or 'Title: … Content: …'", f"{field}[{index}]")
        passages.append(one)
    return tuple(passages)


def _training_question(record: Record) -> Question:
    prompt = record.text("prompt")
    question_id = f"{record.identifier('query_id')}-{record.identifier('sample_id')}"
    asked = _QUESTION.search(prompt)
    if asked is None:
        raise record.error("does not end in 'Question: …' and 'Your answer:'", "prompt")
    passages = []
    for index, text in enumerate(_LISTED.split(prompt[: asked.start()])[1:]):
        one = passage(text.removesuffix("\n"), f"{question_id}:{index}", None)
        if one is None:
            raise record.error(f"has no title and text for passage [{index + 1}]", "prompt")
        passages.append(one)
    if not passages:
        raise record.error("lists no passages", "prompt")
    candidates = Candidates(question_id, tuple(passages))
    return Question(question_id, asked["question"], record.answers("response"), candidates=candidates)


def question(record: Record) -> Question:
    """One question: `positive` are gold passages, `retrieval` the candidates in the retriever's order."""
    if record.has("prompt"):
        return _training_question(record)
    question_id = record.identifier("query_id") if record.has("query_id") else f"dro-{record.position}"
    retrieved = _passages(record, "retrieval", question_id, None)
    return Question(
        question_id,
        record.text("question"),
        record.answers("answer"),
        _passages(record, "positive", question_id, True),
        Candidates(question_id, retrieved) if retrieved else None,
    )
