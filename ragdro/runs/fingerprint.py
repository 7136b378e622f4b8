"""What a run's questions are known by: one hash of all that its training and its figures are made from.

In: splits of questions with candidates. Out: a hash, and whether it is that of given questions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from ragdro.types import Passage, Task


def fingerprint_of(*splits: Sequence[Task] | None) -> str:
    """A hash of the questions of all splits in order: texts, answers, labels, what teachers say of them, and
    the texts of their candidates and of their gold passages."""
    digest, known = hashlib.sha256(), dict[int, bytes]()
    for split in splits:
        for task in split or ():
            one, gold, candidates = task.question, task.question.gold_passages, task.candidates.passages
            taught = (one.ranking, one.queries, one.standalone, len(gold), len(candidates))
            digest.update(json.dumps([one.id, one.question, one.answers, one.hops, *taught]).encode())
            for passage in (*gold, *candidates):
                digest.update(known.get(id(passage)) or known.setdefault(id(passage), _digest(passage)))
        digest.update(b"\n")
    return digest.hexdigest()


def began_on(fingerprint: str, *splits: Sequence[Task] | None) -> bool:
    """Whether a run that noted this fingerprint began on these questions; one that noted it before it was of
    texts is known by questions and by ids of candidates."""
    return fingerprint == fingerprint_of(*splits) or fingerprint == _without_texts(*splits)


def _without_texts(*splits: Sequence[Task] | None) -> str:
    digest = hashlib.sha256()
    for split in splits:
        for task in split or ():
            ids = [p.id for p in task.candidates.passages]
            digest.update(json.dumps([task.question.id, task.question.question, ids]).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _digest(passage: Passage) -> bytes:
    texts = f"{len(passage.id)} {len(passage.title)} {passage.id}{passage.title}{passage.text}"
    return hashlib.sha256(texts.encode("utf-8", "surrogatepass")).digest()
