"""The cache of passage vectors: what was put in comes out, the file keeps its budget, processes share it."""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from ragdro.errors import RetrievalError
from ragdro.retrieval.vector_cache import VectorCache, text_key

WIDTH = 16
_Vectors = dict[bytes, np.ndarray]


def made(first: int, count: int, tokens: int = 40) -> _Vectors:
    rng = np.random.default_rng(first)
    return {
        text_key(f"passage {i}"): rng.standard_normal((rng.integers(1, tokens), WIDTH)).astype(np.float16)
        for i in range(first, first + count)
    }


def same(found: _Vectors, expected: _Vectors) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[k], expected[k]) for k in expected)


def test_what_was_put_in_comes_out_of_another_cache_of_the_file(tmp_path: Path) -> None:
    file, vectors = tmp_path / "below" / "v.sqlite", made(0, 30)
    assert VectorCache(file, WIDTH, 10**8).get(list(vectors)) == {} and not file.parent.exists()
    VectorCache(file, WIDTH, 10**8).add(vectors)
    other = made(30, 5)
    assert same(VectorCache(file, WIDTH, 10**8).get([*other, *vectors]), vectors)


@pytest.mark.parametrize(("tokens", "budget"), [(40, 600_000), (1500, 3_000_000)])
def test_the_file_keeps_to_its_budget_and_the_oldest_make_room(
    tokens: int, budget: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = VectorCache(tmp_path / "v.sqlite", WIDTH, budget)
    batches = [made(100 * i, 20, tokens) for i in range(40)]
    with caplog.at_level(logging.WARNING):
        for vectors in batches:
            cache.add(vectors)
            assert cache.file.stat().st_size <= budget
            assert same(cache.get(list(vectors)), vectors)
    kept = [len(cache.get(list(vectors))) for vectors in batches]
    first = next(i for i, count in enumerate(kept) if count)
    assert first > 0 and all(count == 20 for count in kept[first + 1 :])
    assert cache.file.stat().st_size > budget / 2  # the budget is used
    assert len(caplog.records) == 1 and "retriever.first_stage.cache_gb" in caplog.text


def test_what_is_larger_than_the_budget_is_kept_in_part_and_without_one_nothing_is(tmp_path: Path) -> None:
    small = VectorCache(tmp_path / "v.sqlite", WIDTH, 200_000)
    vectors = made(0, 100)
    small.add(vectors)
    assert 0 < len(small.get(list(vectors))) < 100 and small.file.stat().st_size <= 200_000
    VectorCache(tmp_path / "none.sqlite", WIDTH, 0).add(vectors)
    assert not (tmp_path / "none.sqlite").exists()


def _add(file: Path, first: int) -> None:
    for start in range(first, first + 50, 10):
        VectorCache(file, WIDTH, 10**8).add(made(start, 10))


def test_processes_write_into_one_cache_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    working = [context.Process(target=_add, args=(tmp_path / "v.sqlite", first)) for first in (0, 20, 100)]
    for process in working:
        process.start()
    for process in working:
        process.join(60)
        assert process.exitcode == 0
    expected = {
        k: v for start in (*range(0, 70, 10), *range(100, 150, 10)) for k, v in made(start, 10).items()
    }
    assert same(VectorCache(tmp_path / "v.sqlite", WIDTH, 10**8).get(list(expected)), expected)


def test_a_file_that_is_none_is_named_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "v.sqlite"
    file.write_bytes(b"no such thing" * 1000)
    with pytest.raises(RetrievalError, match=r"v\.sqlite: the cache .* remove it, or set .*cache_gb=0"):
        VectorCache(file, WIDTH, 10**8).get([text_key("a")])
    file.write_bytes(b"")  # what a process leaves that is killed before it writes the first page
    cache = VectorCache(file, WIDTH, 10**8)
    assert cache.get([text_key("a")]) == {}
    cache.add(made(0, 3))
    assert same(cache.get(list(made(0, 3))), made(0, 3))
