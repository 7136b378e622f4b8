"""The passage store gives back what was written, and refuses what is not whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragdro.errors import RetrievalError
from ragdro.retrieval.store import LINES, OFFSETS, PassageStore, decode_passage, encode_passage, write_store
from ragdro.types import Passage, PassageSource
from tests.conftest import is_mapped
from tests.unit.retrieval.conftest import killed_after

ODD = [
    Passage("1", "Ünïcode — 漢字", "two\nlines\r\n\ttab \u2028 separator"),
    Passage("01", "", '"quoted" \\ back', gold=True),
    Passage("a b", "lone surrogate \ud800", "", gold=False),
    Passage("", "the empty id", "x"),
    Passage("s", "", "y", source=PassageSource("sub/ä.pdf", 3, 4, page=2)),
]


def test_every_passage_comes_back_by_row_and_by_id(tmp_path: Path) -> None:
    write_store(ODD, tmp_path)
    store = PassageStore(tmp_path)
    assert [store[row] for row in range(len(store))] == ODD == list(store.rows())
    assert [store.row_of(passage.id) for passage in ODD] == [0, 1, 2, 3, 4]
    assert store.row_of("1 ") is None
    assert list(store.rows(1, 3)) == ODD[1:3]
    with pytest.raises(IndexError):
        store[5]
    with pytest.raises(IndexError):
        store[-1]


def test_a_store_is_read_from_its_files_as_it_is_asked(tmp_path: Path) -> None:
    arrays = [value for value in vars(write_store(ODD, tmp_path)).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 2 and all(map(is_mapped, arrays))


def test_lines_hold_what_is_known_alone() -> None:
    """Indexes and candidates of before sources were kept are read, and written, as they were."""
    plain = {"id": "1", "title": "t", "text": "x"}
    assert encode_passage(Passage("1", "t", "x")) == plain
    assert decode_passage(plain) == Passage("1", "t", "x")
    source = {"path": "a.csv", "start": 0, "end": 1, "row": 7}
    assert (
        encode_passage(Passage("1", "t", "x", source=PassageSource("a.csv", 0, 1, row=7)))["source"] == source
    )
    assert decode_passage({**plain, "source": "of another kind"}) == Passage("1", "t", "x")


def test_an_id_that_occurs_twice_is_named(tmp_path: Path, corpus: list[Passage]) -> None:
    with pytest.raises(RetrievalError, match=r"'p7' twice: passages 8 and 61"):
        write_store([*corpus, Passage("p7", "other", "other")], tmp_path)
    assert not (tmp_path / OFFSETS).exists()


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match="holds no passage"):
        write_store([], tmp_path)


def test_a_killed_write_leaves_no_store(tmp_path: Path, corpus: list[Passage]) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_store(killed_after(corpus, 10), tmp_path)
    with pytest.raises(RetrievalError, match="no whole passage store"):
        PassageStore(tmp_path)
    assert len(write_store(corpus, tmp_path)) == len(corpus)


def test_a_store_cut_short_is_refused(tmp_path: Path, corpus: list[Passage]) -> None:
    write_store(corpus, tmp_path)
    lines = (tmp_path / LINES).read_bytes()
    (tmp_path / LINES).write_bytes(lines[:-5])
    with pytest.raises(RetrievalError, match=f"{len(lines) - 5:,} bytes, not the {len(lines):,}"):
        PassageStore(tmp_path)
