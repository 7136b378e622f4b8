"""Candidates and indexes kept on disk under a key of all that they depend on.

In: questions, a corpus, settings, top_n, a cache folder. Out: each question's candidates; what an
earlier call with the same input found is read back instead of searched again. Layout:

    hashes/<key>.json        a corpus file's hash as of its size and times, so that it is read once
    indexes/<key>/           key: corpus content, the settings that change an index, what they name
    candidates/<key>.jsonl   key: the same, the settings that change what is found, top_n and the questions;
                             renamed into place when whole
    filling/<key>/           the passages that a database is being filled with
    vectors/<key>.sqlite     vectors of passages that were scored behind a first stage; key: the model
    candidates/<key>.jsonl.partial   what a killed search had found: the next one resumes from there

Settings that change neither (`ragdro.config.changes`) are in no key, nor is where a model's folder lies.
A search service is known by its address only: after its index has changed, remove the candidates.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from ragdro.config.changes import Changes, values_that_change
from ragdro.config.retriever import RetrieverSettings
from ragdro.data import read_corpus
from ragdro.data.loose import NO_NAMES, FieldNames
from ragdro.errors import DataError, RetrievalError
from ragdro.files import is_writable, rename_durably
from ragdro.retrieval import make_retriever
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.candidates import decode_line, encode_line, read_candidates
from ragdro.retrieval.database import DatabaseRetriever
from ragdro.retrieval.hashing import hash_file, hash_folder, hash_values
from ragdro.retrieval.manifest import FORMAT, is_finished
from ragdro.types import Candidates, Passage, Question

SYNC_EVERY = 256
"""Questions searched between two points that a killed search can be resumed from."""

CorpusReader = Callable[..., Iterator[Passage]]
"""Reads a corpus by its source; where there are names of the user's, they come as `fields`."""


@dataclass(frozen=True)
class CacheKey:
    """The two names that a request's results go by."""

    corpus: str | None
    index: str
    candidates: str


def cached_candidates(
    questions: Sequence[Question],
    corpus_source: str | Path | None,
    settings: RetrieverSettings,
    top_n: int,
    cache_folder: Path,
    *,
    show_progress: bool = False,
    read: CorpusReader = read_corpus,
    fields: FieldNames = NO_NAMES,
) -> list[Candidates]:
    """The top_n passages of each question, in order, searched for at most once: see `found_candidates`."""
    searched = found_candidates(
        questions,
        corpus_source,
        settings,
        top_n,
        cache_folder,
        show_progress=show_progress,
        read=read,
        fields=fields,
    )
    return list(read_candidates(searched)) if isinstance(searched, Path) else searched


def found_candidates(
    questions: Sequence[Question],
    corpus_source: str | Path | None,
    settings: RetrieverSettings,
    top_n: int,
    cache_folder: Path,
    *,
    show_progress: bool = False,
    read: CorpusReader = read_corpus,
    fields: FieldNames = NO_NAMES,
) -> Path | list[Candidates]:
    """The file with the top_n passages of each question, in order, searched for at most once; the candidates
    themselves of a retriever that says nothing that its results could be known by, and where the folder has
    the index and may not be written.

    `corpus_source` is what `ragdro.data.read_corpus` takes (or `read`, in its stead), with `fields`; None
    where the retriever needs no corpus. RetrievalError where the input does not allow a search, and the
    reader's DataError for a corpus that cannot be read.
    """
    retriever, read = make_retriever(settings, show_progress=show_progress), _with_fields(read, fields)
    source = _needed(retriever, questions, corpus_source, read, fields, cache_folder)
    key = cache_key(questions, source, retriever, top_n, read, fields, cache_folder)
    path = _candidates_file(cache_folder, key)
    if retriever.is_cacheable() and path.exists():
        return path
    brought = is_finished(_index_folder(cache_folder, key)) and not is_writable(path)  # a read-only folder
    if brought or not retriever.is_cacheable():
        if source is not None:
            _open_cached(retriever, source, key, cache_folder, read)
        return list(retriever.search(questions, top_n))
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            if source is not None:
                _open_cached(retriever, source, key, cache_folder, read)
            _search_to_file(retriever, questions, top_n, path)
    return path


def has_candidates(
    questions: Sequence[Question],
    corpus_source: str | Path | None,
    settings: RetrieverSettings,
    top_n: int,
    cache_folder: Path,
    *,
    read: CorpusReader = read_corpus,
    fields: FieldNames = NO_NAMES,
) -> bool:
    """Whether `cached_candidates` would read back what an earlier search found. Raises as it does."""
    retriever, read = make_retriever(settings), _with_fields(read, fields)
    source = _needed(retriever, questions, corpus_source, read, fields, cache_folder)
    key = cache_key(questions, source, retriever, top_n, read, fields, cache_folder)
    return retriever.is_cacheable() and _candidates_file(cache_folder, key).exists()


def _index_folder(cache_folder: Path, key: CacheKey) -> Path:
    return cache_folder / "indexes" / key.index


def _candidates_file(cache_folder: Path, key: CacheKey) -> Path:
    return cache_folder / "candidates" / f"{key.candidates}.jsonl"


def cached_retriever(
    corpus_source: str | Path | None,
    settings: RetrieverSettings,
    cache_folder: Path,
    *,
    show_progress: bool = False,
    read: CorpusReader = read_corpus,
    fields: FieldNames = NO_NAMES,
) -> Retriever[Any]:
    """A retriever ready to search, its index taken from the cache or built into it; errors as above."""
    retriever, read = make_retriever(settings, show_progress=show_progress), _with_fields(read, fields)
    source = _needed(retriever, (), corpus_source, read, fields, cache_folder)
    if source is not None:
        key = cache_key((), source, retriever, 0, read, fields, cache_folder)
        _open_cached(retriever, source, key, cache_folder, read)
    return retriever


def fill_store(
    corpus_source: str,
    retriever: DatabaseRetriever[Any],
    cache_folder: Path,
    *,
    fields: FieldNames = NO_NAMES,
) -> int:
    """Fill a database from a corpus, and return how many passages it has; a fill that was killed is resumed.

    Errors of the reader, and of `DatabaseRetriever.fill`.
    """
    key = corpus_key(corpus_source, read_corpus, fields, cache_folder)
    folder = cache_folder / "filling" / _short_hash(FORMAT, key, retriever.place, retriever.written())
    return retriever.fill(read_corpus(corpus_source, fields=fields), folder, key)


def _needed(
    retriever: Retriever[Any],
    questions: Sequence[Question],
    corpus_source: str | Path | None,
    read: CorpusReader,
    fields: FieldNames,
    cache_folder: Path,
) -> str | None:
    """The corpus's source, or None where it is not needed; RetrievalError where it is and is not given, and
    where a database was filled from another one."""
    if not retriever.needs_corpus(questions):
        if isinstance(retriever, DatabaseRetriever) and corpus_source is not None:
            retriever.check_corpus(corpus_key(str(corpus_source), read, fields, cache_folder))
        return None
    if corpus_source is None:
        raise RetrievalError(f"the {retriever.kind} retriever needs a corpus, and none is given")
    return str(corpus_source)


def _open_cached(
    retriever: Retriever[Any], source: str, key: CacheKey, cache_folder: Path, read: CorpusReader
) -> None:
    folder = _index_folder(cache_folder, key)
    retriever.share(cache_folder)
    if not is_finished(folder):
        retriever.build(read(source), folder, corpus_key=key.corpus)
    retriever.open(folder)


def cache_key(
    questions: Sequence[Question],
    source: str | None,
    retriever: Retriever[Any],
    top_n: int,
    read: CorpusReader,
    fields: FieldNames = NO_NAMES,
    cache_folder: Path | None = None,
) -> CacheKey:
    """The names of the index and of the candidates; reads the corpus's files once through, those that
    `cache_folder` remembers not even that."""
    corpus = None if source is None else corpus_key(source, read, fields, cache_folder)
    settings = retriever.settings
    index = _short_hash(FORMAT, corpus, values_that_change(settings), retriever.index_fingerprint())
    searched = (values_that_change(settings, Changes.CANDIDATES), retriever.fingerprint(), top_n)
    asked = hash_values([question.id, question.question] for question in questions)
    return CacheKey(corpus, index, _short_hash(index, *searched, asked))


def corpus_key(
    source: str, read: CorpusReader, fields: FieldNames = NO_NAMES, cache_folder: Path | None = None
) -> str:
    """A hash of the corpus: of its files' bytes and of `fields`, or of its passages where it is no file;
    `cache_folder` as above."""
    path = Path(source)
    if path.is_file() or path.is_dir():
        content = hash_file(path, cache_folder) if path.is_file() else hash_folder(path, cache_folder)
        return hash_values([content, dict(fields)]) if fields else content
    passages = _with_fields(read, fields)(source)
    return hash_values([passage.id, passage.title, passage.text] for passage in passages)


def _search_to_file(retriever: Retriever[Any], questions: Sequence[Question], top_n: int, path: Path) -> None:
    """Search what the partial file does not hold yet, add it there, and give the whole its name."""
    partial = path.with_name(path.name + ".partial")
    done = _resume(partial, questions, retriever.batch_size)
    results = retriever.search(questions[done:], top_n)
    with partial.open("ab") as file:
        for count, candidates in enumerate(results, start=1):
            file.write(encode_line(candidates))
            if count % SYNC_EVERY == 0:
                file.flush()
                os.fsync(file.fileno())
        file.flush()
        os.fsync(file.fileno())
    rename_durably(partial, path)


def _resume(partial: Path, questions: Sequence[Question], batch_size: int) -> int:
    """How many questions a killed search had finished; cuts off what it had begun after them.

    Whole batches only: a question's scores may depend, in their last bits, on its batch.
    """
    if not partial.exists():
        return 0
    ends = [0]
    with partial.open("r+b") as file:
        for question, line in zip(questions, file, strict=False):
            try:
                candidates = decode_line(line, {}, partial, len(ends))
            except DataError:
                break  # torn by a crash: this question is searched again
            if not line.endswith(b"\n") or candidates.question_id != question.id:
                break
            ends.append(ends[-1] + len(line))
        done = (len(ends) - 1) // batch_size * batch_size
        file.truncate(ends[done])
    return done


def _with_fields(read: CorpusReader, fields: FieldNames) -> CorpusReader:
    return partial(read, fields=fields) if fields else read


def _short_hash(*values: Any) -> str:
    return hash_values(values)[:32]
