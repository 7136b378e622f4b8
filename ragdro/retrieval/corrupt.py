"""A worse retriever than there is, for studies: some of its candidates replaced by random passages.

In: candidates and the corpus. Out: candidates of which a fraction are other passages of the corpus, in the
places of those that they replace. Which, is a function of (seed, question id).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from ragdro.errors import RetrievalError
from ragdro.types import Candidates, Passage
from ragdro.units import counted


def corrupt(candidates: Candidates, fraction: float, corpus: Sequence[Passage], seed: int) -> Candidates:
    """`candidates` with round(fraction · N) of them replaced; scores, which would be made up, are dropped.

    Raises `RetrievalError` for a corpus without enough other passages.
    """
    passages = list(candidates.passages)
    count = round(fraction * len(passages))
    if not count:
        return candidates
    rng = np.random.default_rng([seed, zlib.crc32(candidates.question_id.encode())])
    kept = {passage.id for passage in passages}
    if len(corpus) < len(kept) + count:
        raise RetrievalError(
            f"corrupt_candidates: {counted(len(corpus), 'passages')} in the corpus, too few to replace"
            f" {count} of {len(kept)}"
        )
    for place in sorted(rng.choice(len(passages), size=count, replace=False).tolist()):
        while (other := corpus[int(rng.integers(len(corpus)))]).id in kept:
            continue
        passages[place] = other
        kept.add(other.id)
    return Candidates(candidates.question_id, tuple(passages))
