"""Where the E-step's paths come from: m of them a question, with log q and log p of every decision exact.

In: a system that asks, and how the lists of a question's own candidates are proposed. Out: `Draw`s whose
`path` has the rounds. They begin with such a list, or with a query where the first one is written. Lists of
what queries find are proposed likewise, from the selector or a mixture; queries come from the rewriter, at
the E-step's temperature. Every random number is a function of (seed, stream, question id, round, which of its
paths), so a question's paths depend on nothing that is computed beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragdro.config import EStep
from ragdro.rewriting.asking import Asking
from ragdro.rewriting.drawing import lists, queries
from ragdro.rewriting.paths import State, pooled, walk
from ragdro.rewriting.rewriter import WrittenQuery
from ragdro.selection.selector import Selector
from ragdro.training.proposals import Propose, mixed, numbered
from ragdro.types import Draw, Task

_QUERIES, _LISTS, _MIXTURE = 2, 3, 4
"""What random numbers of a further round are for."""


def path_proposals(propose: Propose, asking: Asking, settings: EStep, seed: int, stream: int) -> Propose:
    """Paths that begin with the lists of `propose`."""
    tokens = settings.max_tokens_per_micro_batch

    def numbers(state: State, purpose: int, number: int) -> np.random.Generator:
        return numbered(state.task, seed, stream, purpose, number, state.members[0])

    def write(number: int, states: Sequence[State]) -> list[list[WrittenQuery]]:
        rngs = [numbers(state, _QUERIES, number) for state in states]
        return queries(asking.rewriter, states, rngs, settings.temperature, tokens)

    def proposed(selector: Selector, tasks: Sequence[Task]) -> list[list[Draw]]:
        def choose(number: int, states: Sequence[State]) -> list[list[Draw]]:
            selects = selector.in_round(number)
            own = [numbers(state, _LISTS, number) for state in states]
            draws = lists(selects, states, own, settings.temperature, tokens)
            if settings.mixture is None:
                return draws
            rngs = [numbers(state, _MIXTURE, number) for state in states]
            return mixed(selects, [s.task for s in states], draws, settings.mixture, {}, tokens, rngs)

        first = asking.begun(tasks, settings.samples, lambda asked: propose(selector.in_round(1), asked))
        paths = walk(tasks, first, asking.search, write, choose, rounds=asking.rounds, stop=asking.stop)
        return [
            [
                Draw(z, path.log_proposal, path.log_prior, path)
                for z, path in zip(pooled(task, own)[1], own, strict=True)
            ]
            for task, own in zip(tasks, paths, strict=True)
        ]

    return proposed
