"""All paths of a world whose first query is written, enumerated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations

import torch
from torch import Tensor

from ragdro.config.retrieval import Retrieval
from ragdro.generation.reading import Reading
from ragdro.selection.list_selector import ListSelector
from ragdro.system import Rag
from ragdro.types import (
    Candidates,
    Passage,
    Permutation,
    QuestionPath,
    Task,
)
from tests.invariant.by_hand import textbook_all
from tests.invariant.path_world import FOUND, NOTHING, PASSAGES, TASK, kind_of, path_rag
from tests.invariant.test_paths import path_rag_decode

Step = tuple[int, Permutation]
"""What a query finds, and the list that is read of what of it was left."""
Read = tuple[Passage, ...]


def first_rag(rounds: int, seed: int = 0) -> Rag:
    return path_rag(seed, retrieval=Retrieval(rounds=rounds, stop=True, rewrite_first=True))


def left(kind: int, read: Read) -> Read:
    return () if kind == NOTHING else tuple(p for p in (PASSAGES[i] for i in FOUND[kind]) if p not in read)


def all_steps(rounds: int, read: Read = ()) -> list[tuple[Step, ...]]:
    """Every way to ask and read from here on."""
    if not rounds:
        return [()]
    steps: list[tuple[Step, ...]] = [((NOTHING, ()),)]
    for kind in range(NOTHING):
        found = left(kind, read)
        for z in permutations(range(len(found)), 2):
            further = all_steps(rounds - 1, (*read, *(found[i] for i in z)))
            steps += [((kind, z), *rest) for rest in further]
    return steps


@dataclass(frozen=True)
class Truth:
    """All paths with log p(h|x) and log p(y|x,h); log p of every word as a query by what was read."""

    paths: list[tuple[Step, ...]]
    prior: Tensor
    likelihood: Tensor
    words: dict[Read, Tensor]

    @property
    def evidence(self) -> Tensor:
        return (self.prior + self.likelihood).logsumexp(0)

    @property
    def posterior(self) -> Tensor:
        return (self.prior + self.likelihood).softmax(0)


def states_of(steps: tuple[Step, ...]) -> list[tuple[Read, int, Permutation]]:
    """What was read before each step, and the step."""
    read: Read = ()
    states = []
    for kind, z in steps:
        states.append((read, kind, z))
        found = left(kind, read)
        read += tuple(found[i] for i in z)
    return states


def read_of(steps: tuple[Step, ...]) -> Read:
    return tuple(p for read, kind, z in states_of(steps) for p in (left(kind, read)[i] for i in z))


def enumerate_first(rag: Rag, rounds: int) -> Truth:
    """Every path, with gradients; the models are float64 from here on."""
    assert rag.asking is not None and isinstance(rag.selector, ListSelector)
    selector, rewriter = rag.selector, rag.asking.rewriter
    chooser, reader, writer = (m.hf.double() for m in (selector.model, rag.generator.model, rewriter.model))
    paths = all_steps(rounds)
    asked = list(dict.fromkeys(read for path in paths for read, _, _ in states_of(path)))
    by_length: dict[int, list[Read]] = {}
    for read in asked:
        by_length.setdefault(len(read), []).append(read)
    words: dict[Read, Tensor] = {}
    for alike in by_length.values():
        prompts = [rewriter.prompt(Reading(TASK.question, read)) for read in alike]
        logits = writer(input_ids=torch.stack([torch.from_numpy(p) for p in prompts])).logits[:, -1]
        words.update(zip(alike, logits.log_softmax(-1), strict=True))
    size = len(words[()])
    kinds = torch.tensor([kind_of(path_rag_decode(i)) for i in range(size)])
    lists = list(dict.fromkeys(state for path in paths for state in states_of(path) if state[2]))
    scored = [
        selector.scored(Task(TASK.question, Candidates("q", left(kind, read)), read), z)
        for read, kind, z in lists
    ]
    log_lists = dict(zip(lists, textbook_all(chooser, scored), strict=True))
    prior = torch.stack(
        [
            sum(
                (
                    words[state[0]][kinds == state[1]].logsumexp(0) + log_lists.get(state, torch.zeros(()))
                    for state in states_of(path)
                ),
                start=torch.zeros((), dtype=torch.float64),
            )
            for path in paths
        ]
    )
    readings = list(dict.fromkeys(map(read_of, paths)))
    values = textbook_all(reader, [rag.generator.scored(Reading(TASK.question, read)) for read in readings])
    by_reading = dict(zip(readings, values, strict=True))
    return Truth(paths, prior, torch.stack([by_reading[read_of(path)] for path in paths]), words)


@cache
def truth_of(rounds: int) -> Truth:
    with torch.no_grad():
        return enumerate_first(first_rag(rounds), rounds)


def steps_of(path: QuestionPath) -> tuple[Step, ...]:
    return tuple((kind_of(one.query) if one.permutation else NOTHING, one.permutation) for one in path.rounds)
