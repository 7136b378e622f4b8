"""What retrievers share whose passages a database keeps: it is the corpus and the index in one.

A store is filled by `ragdro index`, or by somebody else. What `ragdro index` fills has a *manifest* beside
the passages: the corpus's hash, the settings that decide what is written, how many passages there are, and
each encoder's probe. Manifest and passages come under the store's name together, never before: a fill that is
cut off leaves what was there before, and the next one resumes it.

Candidates of a store with a manifest are cached under it. Of a store without one nothing is known to stay
the same: every run searches again.
"""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from filelock import FileLock

from ragdro.config.stores import PostgresSettings, QdrantSettings
from ragdro.data.own import passage_source
from ragdro.errors import RetrievalError, brief
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.hashing import hash_values, model_fingerprint
from ragdro.retrieval.hybrid import fuse
from ragdro.retrieval.itself import asks_itself
from ragdro.retrieval.manifest import FORMAT, LOCK
from ragdro.retrieval.store import FILES, PassageStore
from ragdro.types import Candidates, Passage, PassageSource, Question
from ragdro.units import counted

if TYPE_CHECKING:
    from ragdro.retrieval.embedding import Embedding, TokenEmbedding

_log = logging.getLogger(__name__)

StoreSettings = TypeVar("StoreSettings", bound=PostgresSettings | QdrantSettings)


class Ranking(NamedTuple):
    """One way that a store is searched: its weight, and its hits of each question."""

    weight: float
    hits: list[Candidates]


class DatabaseRetriever(Retriever[StoreSettings]):
    """The passages of a table or a collection, searched in one way or in several that are fused."""

    embeddings: Mapping[str, Embedding | TokenEmbedding]
    """The encoders of the settings, by their keys."""

    _is_ready = False
    _unmatched = 0

    # -- what a kind supplies ------------------------------------------------------------------

    place: str
    """The server (or folder) and what is asked there, as messages name them; no secret in it."""

    @abstractmethod
    def written(self) -> dict[str, Any]:
        """The settings that decide what a fill writes: by the key of a ranking, null for one that is not
        there, and whatever else under other keys."""

    @abstractmethod
    def manifest(self) -> dict[str, Any] | None:
        """The store's manifest; None where somebody else filled it, or nobody."""

    @abstractmethod
    def check(self) -> int:
        """How many passages there are. RetrievalError where the store is not there, is empty, or lacks what
        the settings name; loads no encoder."""

    @abstractmethod
    def passages(self) -> Iterator[Passage]:
        """All passages, in the order of their ids (Qdrant: of the points')."""

    @abstractmethod
    def _check_widths(self) -> None:
        """RetrievalError where the vectors that are kept are not as wide as the encoders'."""

    @abstractmethod
    def _with_ids(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with these ids, in any order."""

    @abstractmethod
    def _first(self, count: int) -> list[Passage]:
        """The first passages, in the order of `passages`."""

    @abstractmethod
    def _rankings(self, questions: Sequence[Question], depth: int) -> list[Ranking]:
        """The hits of the questions in each way that the settings name, at most `depth` a question."""

    @abstractmethod
    def _fill(self, store: PassageStore, manifest: dict[str, Any]) -> None:
        """Put the passages and the manifest under the store's name, in place of an earlier fill."""

    # -- what they share -----------------------------------------------------------------------

    def needs_corpus(self, questions: Sequence[Question]) -> bool:
        return False

    def is_cacheable(self) -> bool:
        return self.manifest() is not None

    def fingerprint(self) -> str:
        manifest = self.manifest()
        if manifest is None:
            return ""
        models = {
            key: model_fingerprint(embedding.settings.model) for key, embedding in self.embeddings.items()
        }
        return hash_values([manifest, models])

    def fill(self, corpus: Iterable[Passage], folder: Path, corpus_key: str) -> int:
        """Fill the store from the corpus and return how many passages it has; nothing is done where it holds
        them.

        `folder` keeps the passages meanwhile. RetrievalError for a store that somebody else filled, an empty
        corpus, an id that occurs twice, and whatever the database refuses.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):
            identity = {"format": FORMAT, "corpus": corpus_key, "settings": self.written()}
            there = self.manifest()
            if there is None or {**there, **identity} != there:
                store = self._stored(corpus, folder)
                probes = {key: embedding.probe for key, embedding in self.embeddings.items()}
                self._fill(store, {**identity, "passages": len(store), "probes": probes})
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
        return self.check()

    def build(self, corpus: Iterable[Passage], folder: Path, *, corpus_key: str | None = None) -> None:
        """Fill the store, as `fill` does; without a key, the passages are the corpus's name."""
        if corpus_key is None:
            corpus = list(corpus)
            corpus_key = hash_values([passage.id, passage.title, passage.text] for passage in corpus)
        self.fill(corpus, folder, corpus_key)

    def open(self, folder: Path) -> None:
        """See whether the store can be searched; there is nothing in the folder."""
        self._make_ready()

    def check_corpus(self, corpus_key: str) -> None:
        """RetrievalError where the store was not filled from this corpus."""
        manifest = self.manifest()
        if manifest is None:
            raise RetrievalError(
                f"{self.place}: `ragdro index` did not fill it, so it is a corpus of its own: leave"
                " data.corpus (--corpus) out, or fill another one from that corpus"
            )
        if manifest.get("corpus") != corpus_key:
            raise RetrievalError(
                f"{self.place}: filled from another corpus than data.corpus (--corpus), or from an earlier"
                f" state of it: ragdro index --kind {self.kind} --corpus ... fills it again"
            )

    def check_manifest(self, passages: int) -> None:
        """RetrievalError where a fill wrote something else than what the settings search, or `passages` are
        not as many as it wrote."""
        manifest = self.manifest()
        if manifest is None:
            return
        again = f"ragdro index --kind {self.kind} --corpus ... fills it again"
        if manifest.get("format") != FORMAT:
            raise RetrievalError(f"{self.place}: filled by another version of ragdro: {again}")
        for key, expected in self.written().items():
            there = manifest["settings"].get(key)
            if expected is not None and there != expected:
                raise RetrievalError(
                    f"{self.place}: filled with other settings (retriever.{key}: {brief(there)}, now"
                    f" {brief(expected)}): {again}"
                )
        if passages != manifest["passages"]:
            raise RetrievalError(
                f"{self.place}: {counted(passages, 'passages')}, and `ragdro index` wrote"
                f" {manifest['passages']}: {again}"
            )

    def _make_ready(self) -> None:
        """Whatever can be known before the first search; once."""
        if self._is_ready:
            return
        self.check()
        self._check_widths()
        probes = (self.manifest() or {}).get("probes", {})
        if probes:
            from ragdro.retrieval.embedding import is_probe_of

            for key, embedding in self.embeddings.items():
                if not is_probe_of(embedding, probes[key]):
                    raise RetrievalError(
                        f"{self.place}: filled with other weights than retriever.{key}.model has now: ragdro"
                        f" index --kind {self.kind} --corpus ... fills it again"
                    )
        self._is_ready = True

    def _themselves(self, questions: Sequence[Question]) -> set[str]:
        self._make_ready()
        asked = {question.id: question for question in questions}
        there = self._with_ids(list(asked))
        return {passage.id for passage in there if asks_itself(asked[passage.id], passage)}

    def _search_batch(self, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        self._make_ready()
        rankings = self._rankings(questions, top_n)
        for ranking in rankings:
            for candidates in ranking.hits:
                _refuse_repeated(candidates, self.place)
        if len(rankings) == 1:
            found_of_each = rankings[0].hits
        else:
            weights, constant = [ranking.weight for ranking in rankings], self.settings.constant
            hits = zip(*(ranking.hits for ranking in rankings), strict=True)
            found_of_each = [fuse(of_question, weights, constant, top_n) for of_question in hits]
        return [
            candidates if candidates.passages else self._matching_nothing(candidates, top_n)
            for candidates in found_of_each
        ]

    def _depth(self, top_n: int, rankings: int) -> int:
        """How many hits are taken from each ranking."""
        return top_n if rankings == 1 else max(top_n, self.settings.depth)

    def _matching_nothing(self, candidates: Candidates, top_n: int) -> Candidates:
        self._unmatched += 1
        first = tuple(self._first(top_n))
        return Candidates(candidates.question_id, first, (0.0,) * len(first))

    def _searched(self, questions: int) -> None:
        """One warning a search: a question that matches nothing gets the first passages."""
        unmatched, self._unmatched = self._unmatched, 0
        if unmatched:
            _log.warning(
                "%d of %d questions share no word with %s: they get its first passages, with score 0 (are"
                " both in one language?)",
                unmatched,
                questions,
                self.place,
            )


def _refuse_repeated(candidates: Candidates, place: str) -> None:
    ids = [passage.id for passage in candidates.passages]
    if len(set(ids)) < len(ids):
        repeated = next(name for name in ids if ids.count(name) > 1)
        raise RetrievalError(f"{place}: the passage id {brief(repeated)} occurs more than once")


def source_of(value: object, text: str) -> PassageSource | None:
    """What a column or a payload says about where a passage is from: what `ragdro ingest` writes, as JSON or
    its text, or the name or address of what the whole text is."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, str) and value:
        return PassageSource(value, 0, len(text))
    return passage_source(value)
