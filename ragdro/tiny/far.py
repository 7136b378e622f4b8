"""The world "far": questions whose second passage no first search finds, so that one has to ask again.

In: a seed. Out: a corpus and questions as the records that `ragdro` reads from JSONL.

The worlds are those of `world.py` (a fact a passage, people with a fact a relation, entities with an animal
on something) in another shape: more people, fewer entities, and six nouns for all worlds. Some fifty passages
have the noun of a two-hop question, and behind the person's eight facts a top-20 list has room for twelve of
them. Which of the fifty belongs to the question is said by the person's fact alone: it names the entity, and
a search for that name and the noun finds the passage first. These two words are the question's `queries`, a
teacher's follow-up; a one-hop question needs none.
"""

from __future__ import annotations

from pathlib import Path

from ragdro.tiny.words import NOUNS
from ragdro.tiny.world import DemoWorld, Shape, build_world, write_records

FAR = Shape(
    people=33,
    entities_per_kind=2,
    nouns=4,
    one_hop=16,
    two_hop=36,
    splits={"train": 11, "validation": 2, "test": 5},
    queries=True,
)
FAR_NOUNS = NOUNS[:6]


def build_far(seed: int) -> DemoWorld:
    """18 worlds, 5,040 passages; train 572, validation 104, test 260 questions. Same seed, same records."""
    return build_world(seed, FAR, FAR_NOUNS)


def write_far(folder: Path, seed: int = 0) -> None:
    """Write `corpus.jsonl` and `train.jsonl`, `validation.jsonl`, `test.jsonl` of `build_far(seed)` to
    `folder`."""
    write_records(folder, build_far(seed))
