"""A BEIR folder (beir-cellar/beir): `corpus.jsonl`, `queries.jsonl`, `qrels/{test,dev,train}.tsv`.

`{"_id", "title", "text"}`, `{"_id", "text", "metadata"}`, and `query-id`, `corpus-id`, `score` under a
header. The folder reads as its test split (dev or train without one); a qrels file as source reads
that split. A query's relevant documents (score above 0) become its gold passages, with the text of
the corpus, most relevant first; answers come from `metadata.answer` where a data set has it (HotpotQA's).

Data sets are read as they are published. What some lack is left out and counted in a warning: judged
documents that are not in the corpus or are empty, judged queries that are not in `queries.jsonl`, and empty
documents. A query that is a document of the corpus too (ArguAna) is kept from its own candidates by
`ragdro.retrieval`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from ragdro.data.record import Fields, Record, parse
from ragdro.data.stream import lines
from ragdro.errors import DataError, brief
from ragdro.types import Passage, Question
from ragdro.units import counted

_log = logging.getLogger(__name__)

SPLITS = ("test", "dev", "train")


def is_passage(fields: Fields) -> bool:
    """A document of `corpus.jsonl`."""
    return "_id" in fields and "text" in fields and "title" in fields


def is_question(fields: Fields) -> bool:
    """A query of `queries.jsonl`."""
    return "_id" in fields and "text" in fields and "title" not in fields


def is_qrels(path: Path, first: bytes) -> bool:
    """Whether a file is qrels: by its first line, or by its place in a BEIR folder."""
    return first.rstrip(b"\r\n").split(b"\t") == [b"query-id", b"corpus-id", b"score"] or (
        path.parent.name == "qrels" and any((path.parent.parent).glob("corpus.jsonl*"))
    )


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
    raise DataError("has no qrels/test.tsv, dev.tsv or train.tsv; name a qrels file", path=folder)


def read_qrels(path: Path) -> dict[str, dict[str, float]]:
    """Query id → relevant document id → score, scores above 0 only. Raises DataError.

    Columns are BEIR's three or TREC's four (the second is not read); a first line without a score is a
    header, whatever its words.
    """
    qrels: dict[str, dict[str, float]] = {}
    for position, (line, row) in enumerate(lines(path)):
        query, document, score = _qrels_row(row, path, line)
        if position == 0 and not _is_number(score):
            continue
        if not _is_number(score):
            raise DataError(f"has no score, but {brief(score)}", path=path, line=line)
        if float(score) > 0:
            qrels.setdefault(query, {})[document] = float(score)
    if not qrels:
        raise DataError("holds no relevance judgements", path=path)
    return qrels


def _qrels_row(row: bytes, path: Path, line: int) -> tuple[str, str, str]:
    try:
        text = row.decode("utf-8").strip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 (byte {error.start} of the line)", path=path, line=line) from error
    columns = text.split("\t") if "\t" in text else text.split()
    if len(columns) not in (3, 4):
        raise DataError(
            f"must be query id, document id and score, has {counted(len(columns), 'columns')}",
            path=path,
            line=line,
        )
    return columns[0], columns[-2], columns[-1].strip()


def _is_number(score: str) -> bool:
    try:
        return math.isfinite(float(score))
    except ValueError:
        return False


def passage(record: Record) -> Passage:
    """One document of the corpus; some have a title and no text. Raises DataError for one without both."""
    title, text = record.string("title"), record.string("text")
    if is_empty(record):
        raise record.error("is empty", "text")
    return Passage(record.identifier("_id"), title, text)


def is_empty(record: Record) -> bool:
    """Whether a document has neither title nor text, as some of FiQA's: nothing can find or use it."""
    return not record.string("title").strip() and not record.string("text").strip()


def judged_documents(corpus: Path, qrels: Mapping[str, Mapping[str, float]]) -> dict[str, Passage]:
    """The documents that `qrels` names, read in one pass over the corpus. Raises DataError.

    Those that the corpus lacks (as ArguAna's does) or has empty are left out, and counted in a warning.
    """
    judged_ids = {document for judged in qrels.values() for document in judged}
    documents: dict[str, Passage] = {}
    for position, (line, data) in enumerate(lines(corpus)):
        record = parse(data, corpus, line, position)
        if record.identifier("_id") in judged_ids and not is_empty(record):
            one = passage(record)
            documents[one.id] = Passage(one.id, one.title, one.text, gold=True)
    if missing := judged_ids - documents.keys():
        _log.warning(
            "%s: lacks %d of %d judged documents, such as %r, or has them empty: no gold passages",
            corpus,
            len(missing),
            len(judged_ids),
            min(missing),
        )
    return documents


def question(record: Record, gold: Iterable[Passage] = ()) -> Question:
    """One query with its gold passages."""
    answers: tuple[str, ...] = ()
    if isinstance(record.fields.get("metadata"), dict):
        answers = record.record("metadata").answers("answer")
    return Question(record.identifier("_id"), record.text("text"), answers, tuple(gold))
