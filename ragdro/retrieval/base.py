"""What every retriever is: `build` an index folder from a corpus, `open` it, `search` questions in it.

The base class owns the passage store, input checks, batches, progress and restarts; a kind of its own
supplies `_search_batch` and, where it has an index, `_build_index` and `_open_index`.

An index folder holds the store's files, the kind's own, and `index.json`, written last: a folder
without it is unfinished, and the next `build` with the same settings and corpus resumes where the
killed one stopped. Which settings make another index of it stands beside each (`ragdro.config.changes`).
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from filelock import FileLock
from jaxtyping import Float32, Int64
from pydantic import BaseModel

from ragdro.config.changes import Changes, values_that_change, with_whole_paths
from ragdro.errors import RetrievalError, brief
from ragdro.progress import track
from ragdro.retrieval.itself import first_without, is_passage
from ragdro.retrieval.manifest import (
    FORMAT,
    LOCK,
    MANIFEST,
    STARTED,
    clear,
    index_manifest,
    read_json,
    refuse_foreign,
    remove_if_bare,
    write_json,
)
from ragdro.retrieval.store import PassageStore, write_store
from ragdro.types import Candidates, Passage, Question

_log = logging.getLogger(__name__)

Settings = TypeVar("Settings", bound=BaseModel)
_FINGERPRINT = "fingerprint"


class Retriever(ABC, Generic[Settings]):
    """The top-N passages of questions. The same settings, corpus and questions give the same result."""

    batch_size: ClassVar[int] = 64
    """Questions searched at once."""

    searches_store: ClassVar[bool] = False
    """Whether the store's passages are ranked: a question that is one of them is not its own candidate."""

    lists_known: bool = False
    """Whether it has candidates of known questions alone, so that no text can be searched for."""

    def __init__(self, settings: Settings, *, show_progress: bool = False) -> None:
        self.settings = settings
        self.show_progress = show_progress
        self._store: PassageStore | None = None

    # -- what a kind supplies ------------------------------------------------------------------

    @abstractmethod
    def _search_batch(self, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        """The candidates of each question, best first; top_n each, or fewer where there are no more."""

    def _build_index(self, store: PassageStore, folder: Path) -> None:
        """Write the kind's own files; finished parts are kept."""

    def _open_index(self, store: PassageStore, folder: Path) -> None:
        """Open the kind's own files."""

    def needs_corpus(self, questions: Sequence[Question]) -> bool:
        """Whether an index has to be built and opened before these questions are searched."""
        return True

    def _searched(self, questions: int) -> None:
        """All questions of a search, so many, have their candidates."""

    def share(self, folder: Path) -> None:
        """Where what belongs to no single index is kept; without it, in the index's folder. Before `build`
        and `open`."""

    def _matched(self, candidates: Candidates) -> Candidates:
        """Those of a query's candidates that have anything to do with it."""
        return candidates

    def _found(self) -> None:
        """All texts of a `find` have their candidates: nothing is said of them."""

    def fingerprint(self) -> str:
        """What the results depend on beyond the settings' values, such as a file that they name."""
        return ""

    def index_fingerprint(self) -> str:
        """The same of the index alone."""
        return self.fingerprint()

    def is_cacheable(self) -> bool:
        """Whether equal settings, corpus, questions and fingerprint mean equal results."""
        return True

    @property
    def store(self) -> PassageStore:
        """The passages of the open index; RetrievalError before `open`."""
        if self._store is None:
            raise RetrievalError(f"the {self.kind} retriever has no index open: call open(folder) first")
        return self._store

    @property
    def kind(self) -> str:
        return str(self.settings.model_dump()["kind"])

    def build(self, corpus: Iterable[Passage], folder: Path, *, corpus_key: str | None = None) -> None:
        """Index the corpus into the folder, which is new, empty, or an unfinished index.

        `corpus_key` names the corpus's content. With it, an unfinished index of the same corpus and
        settings is continued and a finished one left alone; without it, unfinished work is redone.
        RetrievalError if the folder holds anything else, or the corpus is empty or repeats an id.
        """
        folder.mkdir(parents=True, exist_ok=True)
        refuse_foreign(folder)  # before a lock is put among what is not ours
        try:
            with FileLock(folder / LOCK):
                self._build_locked(corpus, folder, corpus_key)
        finally:
            remove_if_bare(folder)

    def _build_locked(self, corpus: Iterable[Passage], folder: Path, corpus_key: str | None) -> None:
        identity = self._identity(corpus_key)
        if self._already_built(folder, identity):
            return
        started = {**identity, "parts": values_that_change(self.settings, Changes.RESTARTS)}
        if corpus_key is None or read_json(folder / STARTED) != started:
            clear(folder)
            write_json(folder / STARTED, started)
        with ExitStack() as undo:
            undo.callback(clear, folder)  # a part of the passages is of no use to a later build
            store = self._stored(corpus, folder)
            undo.pop_all()
        self._build_index(store, folder)
        settings = with_whole_paths(self.settings)
        write_json(folder / MANIFEST, {**identity, "settings": settings, "passages": len(store)})

    def open(self, folder: Path) -> None:
        """Open a finished index; RetrievalError if there is none or it was built with other settings."""
        built_with, own = index_manifest(folder)["index"], self._made_of()
        if built_with != own:
            key = next(key for key in (*own, *built_with) if own.get(key) != built_with.get(key))
            there, here = (brief(one.get(key)) for one in (built_with, own))
            what = "weights or settings" if key == _FINGERPRINT else "settings"
            raise RetrievalError(
                f"{folder}: built with other {what} ({key}: {there}, now {here}): build the index again"
            )
        self.attach(PassageStore(folder), folder)

    def attach(self, store: PassageStore, folder: Path) -> None:
        """Open the kind's own files in `folder` over a passage store that may lie elsewhere."""
        self._store = store
        self._open_index(store, folder)

    def search(self, questions: Sequence[Question], top_n: int) -> Iterator[Candidates]:
        """The top_n passages of each question, in the order of the questions.

        Where there are fewer, all of them are taken, and a warning at the end of the search counts such
        questions. RetrievalError if top_n is below 1, a question is empty or has no passage at all, or an id
        occurs twice.
        """
        self._check(questions, top_n)
        return track(
            self._batches(questions, top_n), "searching", total=len(questions), shown=self.show_progress
        )

    def find(self, texts: Sequence[str], top_n: int) -> list[Candidates]:
        """At most top_n passages of each text that a model wrote, best first: none is no error, and nothing
        is warned of. No text is empty; a candidate's `question_id` is the text's number."""
        if top_n < 1:
            raise RetrievalError(f"top_n must be at least 1, not {top_n}")
        if self.lists_known:
            raise RetrievalError(
                f"the {self.kind} retriever has candidates of known questions alone: take one that searches a"
                " corpus, such as bm25, or set retrieval.rounds: 1"
            )
        asked = [Question(str(i), text, ()) for i, text in enumerate(texts)]
        if self.needs_corpus(asked):
            _ = self.store  # raises before anything is searched
        candidates: list[Candidates] = []
        for start in range(0, len(asked), self.batch_size):
            batch = self._search_batch(asked[start : start + self.batch_size], self._most(top_n))
            candidates += [first_without(self._matched(one), top_n, None) for one in batch]
        self._found()
        return candidates

    def _check(self, questions: Sequence[Question], top_n: int) -> None:
        if top_n < 1:
            raise RetrievalError(f"top_n must be at least 1, not {top_n}")
        if self.needs_corpus(questions):
            _ = self.store  # raises before anything is searched
        for question in questions:
            if not question.question.strip():
                raise RetrievalError(f"question {question.id!r} is empty: nothing to search for")
        repeated = [name for name, count in Counter(q.id for q in questions).items() if count > 1]
        if repeated:
            raise RetrievalError(f"the question id {repeated[0]!r} occurs more than once")

    def _batches(self, questions: Sequence[Question], top_n: int) -> Iterator[Candidates]:
        counts: Counter[int] = Counter()
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            itself = self._themselves(batch)
            for one in self._search_batch(batch, self._most(top_n + bool(itself))):
                question_id = one.question_id
                candidates = first_without(one, top_n, question_id if question_id in itself else None)
                if not candidates.passages:
                    raise RetrievalError(
                        f"question {question_id!r}: the {self.kind} retriever has no passage for it"
                    )
                counts[len(candidates.passages)] += 1
                yield candidates
        self._searched(len(questions))
        self._say_fewer(counts, top_n)

    def _most(self, top_n: int) -> int:
        """As many passages as are wanted, or all that there are in the open index."""
        return top_n if self._store is None else min(top_n, len(self._store))

    def _say_fewer(self, counts: Counter[int], top_n: int) -> None:
        """One warning a search, where questions have fewer candidates than top_n."""
        fewer = [count for count in counts.elements() if count < top_n]
        if fewer:
            _log.warning(
                "%d of %d questions have fewer than top_n = %d candidates (the fewest: %d): all are taken",
                len(fewer),
                counts.total(),
                top_n,
                min(fewer),
            )

    def _themselves(self, questions: Sequence[Question]) -> set[str]:
        """The ids of those questions that are passages of the corpus."""
        store = self._store if self.searches_store else None
        return {question.id for question in questions if store is not None and is_passage(question, store)}

    def _stored(self, corpus: Iterable[Passage], folder: Path) -> PassageStore:
        try:
            return PassageStore(folder)
        except RetrievalError:
            counted = track(corpus, "reading passages", total=None, shown=self.show_progress)
            return write_store(counted, folder)

    def _identity(self, corpus_key: str | None) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "index": self._made_of(),
            "corpus": corpus_key,
        }

    def _made_of(self) -> dict[str, Any]:
        """What makes another index of the same corpus, wherever this one lies and whatever made it."""
        return {**values_that_change(self.settings), _FINGERPRINT: self.index_fingerprint()}

    def _already_built(self, folder: Path, identity: dict[str, Any]) -> bool:
        manifest = read_json(folder / MANIFEST)
        if manifest is None:
            return False
        if identity["corpus"] is not None and {**manifest, **identity} == manifest:
            return True
        raise RetrievalError(f"{folder}: already holds an index; give another folder or remove it")


class RowRetriever(Retriever[Settings]):
    """A retriever that ranks the rows of the passage store."""

    searches_store: ClassVar[bool] = True

    @abstractmethod
    def _rank_batch(
        self, texts: Sequence[str], top_n: int
    ) -> tuple[Int64[np.ndarray, "questions choices"], Float32[np.ndarray, "questions choices"]]:
        """The best top_n rows of each question, best first and ties in corpus order, and their scores."""

    def _search_batch(self, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        rows, scores = self._rank_batch([question.question for question in questions], top_n)
        return [
            Candidates(
                question.id,
                tuple(self.store[row] for row in of_question),
                tuple(of_scores),
            )
            for question, of_question, of_scores in zip(
                questions, rows.tolist(), scores.tolist(), strict=True
            )
        ]
