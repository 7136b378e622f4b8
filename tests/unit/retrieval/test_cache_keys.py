"""What an index and its candidates are kept under: the corpus, and the settings that change them; nothing of
the machine or of the folder in which a command is started."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ragdro.config.retriever import parse_settings
from ragdro.errors import ConfigError
from ragdro.retrieval import hashing, make_retriever
from ragdro.retrieval.cache import CacheKey, cache_key
from ragdro.retrieval.hashing import hash_file, model_fingerprint
from ragdro.retrieval.postgres import PostgresRetriever
from ragdro.retrieval.qdrant import QdrantRetriever
from ragdro.types import Question
from tests.unit.retrieval.conftest import generated_corpus
from tests.unit.retrieval.test_cache import write_corpus

NEITHER = {
    *("device", "encode_batch_size", "shard_size", "batch_size", "concurrency", "api_key"),
    *("timeout_seconds", "retries", "backoff_seconds", "model", "path", "cache_gb", "train_every"),
}
"""`model` and `path`: where they lie; they are other copies of the same files here."""
FOUND = {
    *("probes", "ef_search", "overfetch", "exact", "query_prompt", "weight", "weights", "constant", "depth"),
    *("rank", "normalisation", "top"),
}
"""What changes the candidates alone; so does all else of `external`, which has no index."""

_DENSE = {"kind": "dense", "model": "MODEL", "query_prompt": "query: ", "revision": "main"}
_LANCE = {"kind": "colbert", "model": "MODEL", "index": {"type": "lance"}}
_FILE = {"type": "trec", "path": "FILE"}
_SERVICE = {"type": "elasticsearch", "url": "http://one"}
KINDS: list[dict[str, Any]] = [
    {"kind": "bm25", "stemmer": "english", "stopwords": "english"},
    {**_DENSE, "index": {"type": "flat"}},
    {**_DENSE, "index": {"type": "ivfpq"}},
    {**_DENSE, "index": {"type": "pq"}},
    {**_DENSE, "index": {"type": "hnsw"}},
    {**_LANCE, "index": {"type": "exact"}},
    _LANCE,
    {**_LANCE, "index": {"type": "exact"}, "first_stage": _DENSE},
    {**_DENSE, "first_stage": {"kind": "bm25", "stemmer": "english", "stopwords": "english"}},
    {"kind": "external", "source": _FILE},
    {"kind": "external", "source": {"type": "candidates", "path": "FILE"}},
    {"kind": "external", "source": {"type": "dpr", "path": "FILE"}},
    {"kind": "external", "source": {"type": "json", "url": "http://one", "headers": {"key": "one"}}},
    {"kind": "external", "source": _SERVICE},
    {
        "kind": "hybrid",
        "weights": [1.0, 2.0, 3.0, 4.0],
        "members": [{"kind": "bm25"}, _DENSE, _LANCE, {"kind": "external", "source": _FILE}],
    },
    {
        "kind": "postgres",
        "dsn": "$ONE",
        "vectors": {"model": "MODEL", "index": {"type": "hnsw"}},
    },
    {
        "kind": "qdrant",
        "url": "http://one",
        "api_key": "$ONE",
        "dense": {"model": "MODEL"},
        "multi": {"model": "MODEL"},
    },
    {"kind": "qdrant", "path": "FOLDER"},
]


@pytest.fixture
def corpus_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A corpus in the working folder, beside what the settings name, twice each; databases are not asked."""
    monkeypatch.chdir(tmp_path)
    for retriever in (PostgresRetriever, QdrantRetriever):
        monkeypatch.setattr(retriever, "manifest", lambda _: {"corpus": "filled"})
    for name in ("ONE", "TWO"):
        monkeypatch.setenv(name, "")
    for name in ("MODEL", "MODEL-copy"):
        Path(name).mkdir()
        Path(name, "config.json").write_text('{"layers": 2}')
        Path(name, "model.safetensors").write_bytes(b"weights")
    for name in ("FILE", "FILE-copy"):
        Path(name).write_text("q1 Q0 p1 1 2.0 tag\n")
    write_corpus(tmp_path / "corpus.jsonl", generated_corpus(3))
    yield tmp_path / "corpus.jsonl"


def key_of(values: dict[str, Any], corpus: Path) -> CacheKey:
    def read(_: str) -> Iterator[Any]:
        raise AssertionError("a file is hashed, not read")

    retriever = make_retriever(parse_settings(values))
    return cache_key([Question("q", "castle", ())], str(corpus), retriever, 5, read)


def leaves(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values but `kind` and `type`."""
    if isinstance(values, dict) and path[-1:] != ("headers",):
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    elif isinstance(values, list) and path[-1] == "members":
        for place, value in enumerate(values):
            yield from leaves(value, (*path, place))
    elif path[-1] not in ("kind", "type"):
        yield path


def changed(values: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any] | None:
    """The settings with another value there: the first that they take; None for a section left out."""
    (*way, last), out = path, copy.deepcopy(values)
    inner: Any = out
    for step in way:
        inner = inner[step]
    value = inner[last]
    if last in ("model", "path") and value is not None:
        inner[last] = f"{value}-copy"
        return out
    options: list[Any] = ["german", "http://two", "other", "$TWO", "robertson", "ts_rank_cd", "none"]
    options += ["inner_product", "gold", "margin", {"key": "two"}, [5.0, 6.0, 7.0, 8.0]]
    if isinstance(value, bool):
        options = [not value]
    elif isinstance(value, int | float):
        options = [value + 1, value / 2]
    elif str(value).startswith("$"):
        options = ["$TWO"]
    for option in options:
        inner[last] = option
        try:
            if parse_settings(out).model_dump(mode="json") != values:
                return out
        except ConfigError:
            continue
    assert value is None, f"{path}: no other value is known here"
    return None


@pytest.mark.parametrize("values", KINDS, ids=lambda v: v["kind"])
def test_each_setting_of_each_kind_is_in_the_keys_that_it_changes(
    values: dict[str, Any], corpus_file: Path
) -> None:
    whole = parse_settings(values).model_dump(mode="json")
    before = key_of(whole, corpus_file)
    seen = set()
    for path in leaves(whole):
        other = changed(whole, path)
        if other is None:
            continue
        now = key_of(other, corpus_file)
        seen.add(path[-1])
        if path[-1] in NEITHER or "training" in path[:-1]:
            expected = (False, False)
        elif path[-1] in FOUND or ("source" in path[:-1] and "external" in str(values)):
            expected = (False, True)
        else:
            expected = (True, True)
        assert (now.index != before.index, now.candidates != before.candidates) == expected, path
    assert len(seen) > 3 or whole["kind"] == "external"


def test_a_model_is_known_by_its_files_wherever_it_lies(
    corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, start = corpus_file.parent, {**_DENSE, "model": "MODEL"}
    before = key_of(start, corpus_file)
    assert key_of({**start, "model": str(folder / "MODEL")}, corpus_file) == before
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert key_of({**start, "model": "../MODEL"}, corpus_file) == before
    (folder / "MODEL" / "README.md").write_text("what people read")
    assert key_of({**start, "model": "../MODEL"}, corpus_file) == before
    for name, content in (("model.safetensors", b"WEIGHTS"), ("config.json", b"{}")):
        (folder / "MODEL" / name).write_bytes(content)
        after = key_of({**start, "model": "../MODEL"}, corpus_file)
        assert after.index != before.index and after.candidates != before.candidates
        before = after
    assert key_of({**start, "model": "of/a-hub"}, corpus_file) != key_of(
        {**start, "model": "of/another"}, corpus_file
    )


def test_a_run_file_s_content_changes_what_is_found_and_not_the_index(corpus_file: Path) -> None:
    hybrid = {"kind": "hybrid", "members": [_DENSE, {"kind": "external", "source": _FILE}]}
    before = key_of(hybrid, corpus_file)
    Path("FILE").write_text("q1 Q0 p2 1 2.0 tag\n")
    after = key_of(hybrid, corpus_file)
    assert after.index == before.index and after.candidates != before.candidates


def test_a_database_s_candidates_belong_to_the_model_that_asks(corpus_file: Path) -> None:
    asked = {"kind": "qdrant", "path": "FOLDER", "dense": {"model": "MODEL"}}
    before = key_of(asked, corpus_file)
    Path("MODEL", "model.safetensors").write_bytes(b"others ")
    assert key_of(asked, corpus_file).candidates != before.candidates


def test_a_file_that_has_not_changed_is_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / "model.safetensors", []
    opened = Path.open

    def counted(self: Path, *args: Any, **kwargs: Any) -> Any:
        read.append(self)
        return opened(self, *args, **kwargs)

    path.write_bytes(b"weights")
    os.utime(path, ns=(10**18, 10**18))
    monkeypatch.setattr(Path, "open", counted)
    first = model_fingerprint(str(tmp_path))
    assert model_fingerprint(str(tmp_path)) == first and len(read) == 1
    path.write_bytes(b"WEIGHTS")  # of the same size, just now: never taken for the same
    written = hash_file(path)
    path.write_bytes(b"weightS")
    assert hash_file(path) != written
    shutil.copy(path, tmp_path / "other")
    assert hash_file(tmp_path / "other") == hash_file(path)


def test_a_file_that_the_cache_remembers_is_not_read_by_another_process_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache, read = tmp_path / "corpus.jsonl", tmp_path / "cache", []
    digest = hashing._hash
    monkeypatch.setattr(hashing, "_hash", lambda path: (read.append(path), digest(path))[1])

    def asked() -> str:
        hashing._known_hash.cache_clear()  # as a new process has it
        return hash_file(path, cache)

    path.write_bytes(b"passages")
    os.utime(path, ns=(10**18, 10**18))
    first = asked()
    assert asked() == first == digest(path) and len(read) == 1
    path.write_bytes(b"PASSAGES")  # of the same size and, as far as a copy says, of the same time
    os.utime(path, ns=(10**18, 10**18))
    assert asked() == digest(path) != first and len(read) == 2
    (memory,) = (cache / "hashes").iterdir()
    memory.write_bytes(memory.read_bytes()[:-9])
    assert asked() == digest(path) and len(read) == 3
    os.utime(path)
    assert asked() == asked() == digest(path) and len(read) == 5  # just now: read each time
