"""BM25 with bm25s: title and text as one field, stemmed with PyStemmer, memory-mapped.

    score(q, d) = sum over t in q of idf(t) * tf / (tf + k1 * (1 - b + b * |d| / mean |d|))

with idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5)) in the default variant ("lucene").

What a word is, stands in `words`; the language, which is detected where the settings say 'auto', is kept
beside the index. Tokenizing is the long part of a build: it writes one file a shard, which a restart does
not redo and which keeps token ids out of memory while bm25s scores them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Integer

from ragdro.config.retriever import AUTO, Bm25Settings
from ragdro.errors import RetrievalError
from ragdro.files import atomic_file
from ragdro.progress import track
from ragdro.retrieval.base import RowRetriever
from ragdro.retrieval.bm25_library import Tokenized, Tokenizer, bm25s
from ragdro.retrieval.language import WordRules, detect, word_rules
from ragdro.retrieval.postings import Postings
from ragdro.retrieval.store import PassageStore
from ragdro.types import Candidates

_log = logging.getLogger(__name__)

INDEX, SHARDS, LANGUAGE = "bm25", "bm25-shards", "bm25.language.txt"

SAMPLE = 1_000
"""Passages, at equal distances, that the language is detected from."""


class Bm25Retriever(RowRetriever[Bm25Settings]):
    """Sparse retrieval. A passage without a word of the question scores 0 and ranks in corpus order."""

    _index: bm25s.BM25
    _postings: Postings
    _rules: WordRules
    _unmatched = 0

    def _build_index(self, store: PassageStore, folder: Path) -> None:
        language = _language(self.settings, store)
        with atomic_file(folder / LANGUAGE) as file:
            file.write(language.encode())
        shards = folder / SHARDS
        shards.mkdir(exist_ok=True)
        tokenizer = word_rules(self.settings, language).tokenizer()
        for start in range(0, len(store), self.settings.shard_size):
            path = shards / f"{start:012d}.npz"
            if path.exists():
                _load_vocabulary(tokenizer, path)
            else:
                self._write_shard(tokenizer, store, start, path)
        vocabulary: dict[str, int] = tokenizer.stem_to_sid
        if not vocabulary:
            raise RetrievalError("no passage of the corpus holds a word that BM25 can index")
        index = bm25s.BM25(
            k1=self.settings.k1, b=self.settings.b, method=self.settings.method, backend="numpy"
        )
        tokens = _TokenIds(sorted(shards.iterdir()), self.show_progress)
        tokenized = Tokenized(ids=tokens, vocab=vocabulary)
        index.index(tokenized, show_progress=False)
        index.save(folder / INDEX, show_progress=False)
        for path in shards.iterdir():
            path.unlink()
        shards.rmdir()

    def _write_shard(self, tokenizer: Tokenizer, store: PassageStore, start: int, path: Path) -> None:
        known = len(tokenizer.stem_to_sid)
        stop = min(start + self.settings.shard_size, len(store))
        texts = (f"{passage.title} {passage.text}" for passage in store.rows(start, stop))
        counted = track(texts, "tokenizing", total=len(store), done=start, shown=self.show_progress)
        lengths, flat = [], []
        for ids in tokenizer.streaming_tokenize(counted, update_vocab=True, allow_empty=False):
            lengths.append(len(ids))
            flat.append(np.array(ids, dtype=np.int32))
        added = list(islice(tokenizer.stem_to_sid, known, None))
        with atomic_file(path) as file:
            np.savez(
                file,
                lengths=np.array(lengths, dtype=np.int32),
                tokens=np.concatenate(flat),
                added=np.frombuffer("\n".join(added).encode(), dtype=np.uint8),
            )

    def _open_index(self, store: PassageStore, folder: Path) -> None:
        self._index = bm25s.BM25.load(folder / INDEX, mmap=True, backend="numpy", show_progress=False)
        # as plain arrays: each piece of a `memmap` costs microseconds under Python's lock
        self._postings = Postings({name: np.asarray(array) for name, array in self._index.scores.items()})
        self._rules = word_rules(self.settings, (folder / LANGUAGE).read_text())

    def _rank_batch(
        self, texts: Sequence[str], top_n: int
    ) -> tuple[Int64[np.ndarray, "questions choices"], Float32[np.ndarray, "questions choices"]]:
        asked = [self._index.get_tokens_ids(self._rules.of(text)) for text in texts]
        self._unmatched += sum(not tokens for tokens in asked)
        return self._postings.search(asked, top_n)

    def _matched(self, candidates: Candidates) -> Candidates:
        """Without the first passages of the corpus, which those have that share no word with any."""
        assert candidates.scores is not None
        count = sum(score > 0 for score in candidates.scores)  # the best stand in front
        return Candidates(candidates.question_id, candidates.passages[:count], candidates.scores[:count])

    def _found(self) -> None:
        self._unmatched = 0

    def _searched(self, questions: int) -> None:
        """One warning a search: a question without a word of the corpus gets its first passages."""
        unmatched, self._unmatched = self._unmatched, 0
        if unmatched:
            _log.warning(
                "%d of %d questions share no word with the corpus: BM25 gives them its first passages, with"
                " score 0 (are both in one language? see retriever.stopwords, retriever.language)",
                unmatched,
                questions,
            )


class _TokenIds:
    """The token ids of all passages, read from shards each time they are walked through."""

    def __init__(self, shards: Sequence[Path], show_progress: bool) -> None:
        self._shards = shards
        self._show_progress = show_progress
        self._passages = sum(len(_load(shard, "lengths")) for shard in shards)

    def __len__(self) -> int:
        return self._passages

    def __iter__(self) -> Iterator[list[int]]:
        return track(self._walk(), "scoring", total=len(self), shown=self._show_progress)

    def _walk(self) -> Iterator[list[int]]:
        for shard in self._shards:
            ends = np.cumsum(_load(shard, "lengths")).tolist()
            tokens, start = _load(shard, "tokens"), 0
            for end in ends:
                yield tokens[start:end].tolist()
                start = end


def _load(shard: Path, name: str) -> Integer[np.ndarray, " items"]:
    with np.load(shard) as arrays:
        loaded: Integer[np.ndarray, " items"] = arrays[name]
    return loaded


def _load_vocabulary(tokenizer: Tokenizer, shard: Path) -> None:
    """Give the tokenizer the stems that a finished shard added, with the numbers it gave them."""
    added = _load(shard, "added").tobytes().decode()
    for stem in added.split("\n") if added else ():
        tokenizer.stem_to_sid[stem] = len(tokenizer.stem_to_sid)


def _language(settings: Bm25Settings, store: PassageStore) -> str:
    """The language that 'auto' stands for."""
    if settings.language != AUTO:
        return settings.language
    rows = np.linspace(0, len(store) - 1, min(SAMPLE, len(store))).astype(int).tolist()
    language = detect(f"{store[row].title} {store[row].text}" for row in rows)
    _log.info("BM25: the corpus's language is %s", language)
    return language
