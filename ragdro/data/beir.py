"""A BEIR folder (beir-cellar/beir): `corpus.jsonl`, `queries.jsonl`, `qrels/{test,dev,train}.tsv`.

`{"_id", "title", "text"}`, `{"_id", "text", "metadata"}`, and `query-id`, `corpus-id`, `score` under a
header. The folder reads as its test split (dev or train without one); a qrels file as source reads
that split. A query's relevant documents (score above 0) become its gold passages, with the text of
the corpus, most relevant first; answers come from `metadata.answer` where a data set has it (HotpotQA's).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ragdro.data.record import Fields, Record, parse
from ragdro.data.stream import lines
from ragdro.errors import DataError
from ragdro.types import Passage, Question

SPLITS = ("test", "dev", "train")


def is_passage(fields: Fields) -> bool:
    """A document of `corpus.jsonl`."""
    return "_id" in fields and "text" in fields and "title" in fields


def is_question(fields: Fields) -> bool:
    """A query of `queries.jsonl`."""
    return "_id" in fields and "text" in fields and "title" not in fields


def is_qrels_header(line: bytes) -> bool:
    """Whether a file's first line is the header of a qrels file."""
    return line.rstrip(b"\r\n").split(b"\t") == [b"query-id", b"corpus-id", b"score"]


def member(folder: Path, name: str) -> Path:
    """The folder's file `name`, compressed or not. Raises DataError if there is none."""
    for suffix in ("", ".gz", ".zst"):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise DataError(f"has no {name} (a BEIR folder has corpus.jsonl, queries.jsonl and qrels/)", path=folder)


def default_qrels(folder: Path) -> Path:
    """The qrels of the first split of test, dev, train that the folder has. Raises DataError."""
    for split in SPLITS:
        for suffix in ("", ".gz", ".zst"):
            path = folder / "qrels" / f"{split}.tsv{suffix}"
            if path.is_file():
                return path
    raise DataError("has no qrels/test.tsv, dev.tsv or train.tsv", path=folder)


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Query id → relevant document id → score, scores above 0 only. Raises DataError."""
    found: dict[str, dict[str, int]] = {}
    for line, row in lines(path):
        if is_qrels_header(row):
            continue
        try:
            query, document, score = row.decode("utf-8").rstrip("\r").split("\t")
            relevance = int(score)
        except ValueError as error:
            raise DataError("must be query id, document id and score", path=path, line=line) from error
        if relevance > 0:
            found.setdefault(query, {})[document] = relevance
    if not found:
        raise DataError("holds no relevance judgements", path=path)
    return found


def passage(record: Record) -> Passage:
    """One document of the corpus; some of BEIR's have a title and no text."""
    title, text = record.string("title"), record.string("text")
    if not title.strip() and not text.strip():
        raise record.error("is empty", "text")
    return Passage(record.identifier("_id"), title, text)


def judged_documents(corpus: Path, qrels: Mapping[str, Mapping[str, int]]) -> dict[str, Passage]:
    """The documents that `qrels` names, read in one pass over the corpus. Raises DataError."""
    wanted = {document for judged in qrels.values() for document in judged}
    found: dict[str, Passage] = {}
    for position, (line, data) in enumerate(lines(corpus)):
        record = parse(data, corpus, line, position)
        if record.identifier("_id") in wanted:
            one = passage(record)
            found[one.id] = Passage(one.id, one.title, one.text, gold=True)
    if missing := wanted - found.keys():
        raise DataError(f"lacks {len(missing)} judged documents, such as '{min(missing)}'", path=corpus)
    return found


def question(record: Record, gold: Iterable[Passage] = ()) -> Question:
    """One query with its gold passages."""
    answers: tuple[str, ...] = ()
    if isinstance(record.fields.get("metadata"), dict):
        answers = record.record("metadata").answers("answer")
    return Question(record.identifier("_id"), record.text("text"), answers, tuple(gold))
