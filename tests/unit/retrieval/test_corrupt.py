"""A corrupted retriever: how many candidates are replaced, by what, and that it is the same every time."""

from __future__ import annotations

import pytest

from ragdro.errors import RetrievalError
from ragdro.retrieval.corrupt import corrupt
from ragdro.types import Candidates, Passage

CORPUS = [Passage(f"p{i}", "", f"text {i}") for i in range(40)]
CANDIDATES = Candidates("q", tuple(CORPUS[:20]), tuple(float(20 - i) for i in range(20)))


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.2, 4), (0.5, 10), (1.0, 20)])
def test_that_fraction_is_replaced_and_the_rest_keeps_its_place(fraction: float, count: int) -> None:
    worse = corrupt(CANDIDATES, fraction, CORPUS, seed=0)
    kept = [i for i in range(20) if worse.passages[i] == CANDIDATES.passages[i]]
    assert len(kept) == 20 - count and len({p.id for p in worse.passages}) == 20
    assert all(p in CORPUS[20:] for i, p in enumerate(worse.passages) if i not in kept)
    assert worse == corrupt(CANDIDATES, fraction, CORPUS, seed=0)
    assert not count or worse != corrupt(CANDIDATES, fraction, CORPUS, seed=1)
    assert (worse.scores is None) == (count > 0)


def test_every_candidate_is_as_likely_to_be_replaced() -> None:
    times = [0] * 20
    for seed in range(500):
        worse = corrupt(CANDIDATES, 0.25, CORPUS, seed)
        for i in range(20):
            times[i] += worse.passages[i] != CANDIDATES.passages[i]
    assert sum(times) == 500 * 5 and all(85 < t < 165 for t in times)  # 125 expected, s = 9.7


def test_a_corpus_that_is_too_small_is_refused() -> None:
    with pytest.raises(RetrievalError, match="corrupt_candidates: 24 passages in the corpus, too few"):
        corrupt(CANDIDATES, 0.25, CORPUS[:24], seed=0)
    assert corrupt(CANDIDATES, 0.25, CORPUS[:25], seed=0) != CANDIDATES
