"""Which field of an unknown file is which of ours: a guess, for the command that its refusal names.

Names are compared with words of several languages, values by their look: questions end in a question mark,
passages are long. Where neither tells, the order of the fields does. Nothing is read by a guess; the user
sees it and says it.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

from ragdro.data.record import Fields

_WORDS: dict[str, tuple[str, ...]] = {
    "id": ("id", "ids", "uid", "uuid", "guid", "key", "nr", "no", "number", "nummer", "index"),
    "question": (
        *("question", "questions", "query", "queries", "q", "ask", "prompt", "input", "problem", "utterance"),
        *("frage", "fragen", "pregunta", "domanda", "vraag", "pergunta", "вопрос", "pytanie", "soru"),
        *("問題", "问题", "質問", "질문"),
    ),
    "answers": (
        *("answer", "answers", "a", "ans", "gold", "reply", "response", "output", "target", "label"),
        *("solution", "completion", "antwort", "antworten", "reponse", "réponse", "reponses", "réponses"),
        *("respuesta", "risposta", "antwoord", "resposta", "ответ", "odpowiedź", "cevap", "答え", "回答"),
        *("答案", "답변"),
    ),
    "text": (
        *("text", "texts", "body", "content", "contents", "passage", "paragraph", "document", "article"),
        *("abstract", "description", "context", "chunk", "inhalt", "texte", "texto", "testo", "contenu"),
        *("contenido", "contenuto", "tekst", "текст", "本文", "正文", "内容", "본문"),
    ),
    "title": (
        "title",
        "titles",
        "heading",
        "headline",
        "subject",
        "name",
        "titel",
        "titre",
        "titulo",
        "título",
    ),
}
_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_QUESTION_MARKS = ("?", "？", "؟", "\u037e")
_MOSTLY = 0.5
_LONG = 80
"""Characters of a passage's text, on average; questions and answers are shorter."""
_DEEPEST = 2
_LONGEST_NAME = 60


def guess(records: Sequence[Fields], *, as_corpus: bool = False) -> dict[str, str]:
    """Our fields → the file's, for questions (`question`, `answers`, `id`) or a corpus (`text`, `title`,
    `passage_id`; where it has to be one: `as_corpus`); empty where it cannot be guessed. `records` are a
    file's first ones."""
    columns: dict[str, list[str]] = {}
    for record in records:
        for name, value in _texts(record):
            columns.setdefault(name, []).append(value)
    named = {ours: _by_name(columns, ours) for ours in _WORDS}
    asked = None if as_corpus else named["question"] or _asked(columns)
    if asked is not None:
        others = [name for name in columns if name not in {asked, named["id"], named["title"]}]
        answers = named["answers"] or (others[0] if len(others) == 1 else None)
        return _known({"question": asked, "answers": answers, "id": named["id"]}, columns)
    text = named["text"] or _longest(columns)
    if text is None:
        return {}
    return _known({"text": text, "title": named["title"], "passage_id": named["id"]}, columns)


def by_order(records: Sequence[Fields], *, as_corpus: bool = False) -> dict[str, str]:
    """Our fields → the file's where neither names nor values say which is which: the first of several fields
    with text as the question, the next as the answers; a single one as a passage's text, as the longest is
    where it has to be a corpus (`as_corpus`). Empty where no field has text."""
    texts: dict[str, list[str]] = {}
    others = set()
    for record in records:
        for name, value in _leaves(record):
            if isinstance(value, str) and _is_sayable(name):
                texts.setdefault(name, []).append(value)
            elif value is not None:
                others.add(name)
    columns = {name: values for name, values in texts.items() if name not in others}
    if as_corpus or len(columns) == 1:
        longest = max(columns, key=lambda name: mean(map(len, columns[name])), default=None)
        return {} if longest is None else {"text": longest}
    return dict(zip(("question", "answers"), columns, strict=False))


def command(source: object, names: Mapping[str, str]) -> str:
    """The command that reads `source` by these names and writes it as our own JSONL beside it."""
    path = Path(str(source).removeprefix("hf:"))
    stem = path.name.split(".")[0] or "data"
    holds = "questions" if "question" in names else "corpus"
    out = (
        f"{stem}-{holds}.jsonl" if str(source).startswith("hf:") else path.with_name(f"{stem}-{holds}.jsonl")
    )
    fields = io.StringIO()
    csv.writer(fields, lineterminator="").writerow(f"{ours}={theirs}" for ours, theirs in names.items())
    words = ["ragdro", "data", "convert", str(source), "--out", str(out), "--fields", fields.getvalue()]
    return shlex.join(words)


def _texts(fields: Fields) -> Iterator[tuple[str, str]]:
    """Each field with its value as text, those of objects under a name with dots."""
    for name, value in _leaves(fields):
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            yield name, str(value)
        elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            yield name, str(value[0])


def _leaves(fields: Fields, inside: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """Each field with its value, those of objects under a name with dots."""
    for name, value in fields.items():
        whole = f"{inside}{name}"
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from _leaves(value, f"{whole}.", depth + 1)
        else:
            yield whole, value


def _by_name(columns: Mapping[str, Sequence[str]], ours: str) -> str | None:
    """The column whose name is one of a field's words, or else has one among its own."""
    whole = [name for name in columns if name.rpartition(".")[2].strip().lower() in _WORDS[ours]]
    within = [name for name in columns if _role(name) == ours]
    return next(iter([*whole, *within]), None)


def _role(name: str) -> str | None:
    """The one field whose words a name has: `question_id` is an id, `question_text` a question."""
    words = {*_words(name)}
    roles = [ours for ours, known in _WORDS.items() if not words.isdisjoint(known)]
    if "id" in roles or len(roles) == 1:
        return roles[0]
    others = [ours for ours in roles if ours != "text"]
    return others[0] if len(others) == 1 else None


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(_CAMEL.sub(" ", name.rpartition(".")[2]))]


def _asked(columns: Mapping[str, Sequence[str]]) -> str | None:
    """The first column most of whose values end in a question mark."""
    for name, values in columns.items():
        if mean(value.rstrip().endswith(_QUESTION_MARKS) for value in values) > _MOSTLY:
            return name
    return None


def _longest(columns: Mapping[str, Sequence[str]]) -> str | None:
    """The column of the longest values, where they are as long as passages."""
    lengths = {name: mean(map(len, values)) for name, values in columns.items()}
    longest = max(lengths, key=lengths.__getitem__, default=None)
    return longest if longest is not None and lengths[longest] >= _LONG else None


def _known(names: Mapping[str, str | None], columns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The names that were found, each column once; empty where `--fields` cannot say one of them."""
    known = {ours: name for ours, name in names.items() if name is not None and name in columns}
    sayable = all(_is_sayable(name) for name in known.values())
    return known if sayable and len(set(known.values())) == len(known) else {}


def _is_sayable(name: str) -> bool:
    """Whether a name can stand in a command: short and visible."""
    return len(name) <= _LONGEST_NAME and name.isprintable() and name.strip() == name
