"""Paths drawn from the models themselves: queries and lists, a state's from random numbers of its own.

In: what asks, questions with the candidates of the first round, how many paths. Out: paths h ~ p(h|x), each
decision with its exact log-probability, and what a sum over all paths is estimated by:

    w(g) = p(g|x), w(h) = (1 - p(g|x)) n(h) / n,

g being the greedy path, where n of the draws are other paths, n(h) of them h: as of lists
(`ragdro.selection.lists`). Paths are never all taken: there is no end of queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragdro.rewriting.asking import Asking
from ragdro.rewriting.paths import State, pooled, walk
from ragdro.rewriting.rewriter import Rewriter, WrittenQuery
from ragdro.selection.lists import WeightedLists, from_draws, hash_of
from ragdro.selection.selector import Selector
from ragdro.types import Draw, QuestionPath, Task

_QUERIES, _LISTS = 2, 3
"""What random numbers of a round are for; those of the first list have no number, as without rounds."""


def weighted_paths(
    asking: Asking, selector: Selector, tasks: Sequence[Task], samples: int, seed: int, max_tokens: int
) -> list[tuple[Task, WeightedLists]]:
    """Each question with everything that its greedy path and `samples` drawn ones have found, and these paths
    with their weights, as lists of that. They are a function of seed and question, whatever stands beside it.
    """
    greedy = asking.greedy(selector, tasks, max_tokens)
    drawn = drawn_paths(asking, selector, tasks, samples, seed, max_tokens)
    weighted = []
    for task, likeliest, own in zip(tasks, greedy, drawn, strict=True):
        assert likeliest.path is not None
        paths = [likeliest.path, *own]
        whole, permutations = pooled(task, paths)
        first, *others = (
            Draw(z, path.log_proposal, path.log_prior, path)
            for z, path in zip(permutations, paths, strict=True)
        )
        weighted.append((whole, from_draws(first, others)))
    return weighted


def drawn_paths(
    asking: Asking, selector: Selector, tasks: Sequence[Task], samples: int, seed: int, max_tokens: int
) -> list[list[QuestionPath]]:
    """`samples` paths of each question at temperature 1. Of more candidates than the selector reads the first
    lists are those of a tournament's last round, the rounds before it being greedy."""

    def numbers(state: State, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng([seed, hash_of(state.task.question), purpose, number, state.members[0]])

    def write(number: int, states: Sequence[State]) -> list[list[WrittenQuery]]:
        rngs = [numbers(state, _QUERIES, number) for state in states]
        return queries(asking.rewriter, states, rngs, 1.0, max_tokens)

    def choose(number: int, states: Sequence[State]) -> list[list[Draw]]:
        rngs = [numbers(state, _LISTS, number) for state in states]
        return lists(selector.in_round(number), states, rngs, 1.0, max_tokens)

    def first(asked: Sequence[Task]) -> list[list[Draw]]:
        selects = selector.in_round(1)
        shape = (samples, selects.choices_per_list)
        uniforms = [np.random.default_rng([seed, hash_of(task.question)]).random(shape) for task in asked]
        return selects.sample(asked, uniforms, temperature=1.0, max_tokens=max_tokens)

    begun = asking.begun(tasks, samples, first, asking.play_off(selector, max_tokens))
    return walk(tasks, begun, asking.search, write, choose, rounds=asking.rounds, stop=asking.stop)


def queries(
    rewriter: Rewriter,
    states: Sequence[State],
    rngs: Sequence[np.random.Generator],
    temperature: float,
    max_tokens: int,
) -> list[list[WrittenQuery]]:
    """A query for each member of each state."""
    uniforms = [
        rng.random((len(state.members), rewriter.query_tokens))
        for state, rng in zip(states, rngs, strict=True)
    ]
    readings = [state.reading for state in states]
    return rewriter.sample(readings, uniforms, temperature=temperature, max_tokens=max_tokens)


def lists(
    selector: Selector,
    states: Sequence[State],
    rngs: Sequence[np.random.Generator],
    temperature: float,
    max_tokens: int,
) -> list[list[Draw]]:
    """A list for each member of each state. A selector draws as many lists of every question: those that a
    state has not enough members for are its first one again, which costs no forward pass."""
    most = max(len(state.members) for state in states)

    def rows(state: State, rng: np.random.Generator) -> NDArray[np.float64]:
        own = rng.random((len(state.members), selector.choices_per_list))
        return own[[*range(len(own)), *[0] * (most - len(own))]]

    drawn = selector.sample(
        [state.task for state in states],
        [rows(state, rng) for state, rng in zip(states, rngs, strict=True)],
        temperature=temperature,
        max_tokens=max_tokens,
    )
    return [own[: len(state.members)] for own, state in zip(drawn, states, strict=True)]
