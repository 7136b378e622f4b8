"""The list that takes the likeliest identifier at each place, whatever number of tokens an identifier has.

In: the grammar and, node by node, the probabilities of the tokens that compete there. Out: the list, with the
probability of each identifier given those before it. Where identifiers are several tokens long (`[1]`,
`[10]`, `[17]`) they are the leaves of a tree of tokens, and an identifier's probability is the product along
its way down. The tree is searched best first: a node that is less probable than an identifier already
found can hold nothing better and is never computed. The likeliest token is not enough: it may lead to many
identifiers, each improbable.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from ragdro.lm.tree import Ints
from ragdro.selection.identifiers import STOP, IdentifierGrammar
from ragdro.types import Permutation


class GreedyList:
    """The greedy list of `k` of `candidates` (at most k with the grammar's `stop`) while it is being found.

    To be done while `competing` is not None: take back `rewind` tokens, append `pending` ones, and `take` the
    log-probabilities of the `competing` ones. Then `chosen` is the list, `log_choices` the log-probability of
    each identifier given those before it (nats). With `all_first`, no node of the first place is left out and
    `first` has the log-probability of every candidate there.
    """

    def __init__(self, grammar: IdentifierGrammar, candidates: int, k: int, *, all_first: bool) -> None:
        self._grammar = grammar
        self._remaining = frozenset(range(candidates))
        self._k = k
        self._all_first = all_first
        self._written: tuple[int, ...] = ()
        """The tokens of the identifiers chosen."""
        self._fed: tuple[int, ...] = ()
        self.chosen: Permutation = ()
        self.log_choices: tuple[float, ...] = ()
        self.first: dict[int, float] = {}
        self.stopped = False
        self.rewind = 0
        self.pending: list[int] = []
        self.competing: Ints | None = None
        self._begin_place()
        self._settle()

    def take(self, log_p: NDArray[np.float64]) -> None:
        """The log-probabilities (nats) of the `competing` tokens, in their order."""
        assert self.competing is not None
        for token, value in zip(self.competing.tolist(), log_p.tolist(), strict=True):
            self._reach(self._so_far + value, (*self._path, token))
        self._decide_to_stop(log_p)
        self._settle()

    def _begin_place(self) -> None:
        self._nodes: list[tuple[float, tuple[int, ...], list[int]]] = []
        """Nodes not computed yet: minus log-probability, path, what competes there."""
        self._leaves: dict[int, float] = {}
        self._reach(0.0, ())

    def _reach(self, log_p: float, path: tuple[int, ...]) -> None:
        """A way down the tree: to an identifier, or to a node where others part."""
        forced, competing, index = self._grammar.branch(not self.chosen, self._remaining, path)
        if index is not None:
            self._leaves[index] = log_p
        else:
            assert competing is not None
            heapq.heappush(self._nodes, (-log_p, (*path, *forced), competing.tolist()))

    def _decide_to_stop(self, log_p: NDArray[np.float64]) -> None:
        """Whether to end the list is a choice between two, made before the one among identifiers."""
        ends = self._leaves.pop(STOP, None)
        if ends is None:
            return
        assert self.competing is not None
        goes_on = np.logaddexp.reduce(log_p[self.competing != self._grammar.tokenizer.end_id])
        self.stopped = ends >= goes_on

    def _settle(self) -> None:
        """Go to the next node that has to be computed, or on to the next place where there is none."""
        self.competing = None
        while not self.stopped and len(self.chosen) < self._k:
            best = min(self._leaves, key=lambda i: (-self._leaves[i], i), default=None)
            whole = self._all_first and not self.chosen
            if self._nodes and (best is None or whole or -self._nodes[0][0] >= self._leaves[best]):
                minus_log_p, self._path, competing = heapq.heappop(self._nodes)
                self._so_far = -minus_log_p
                self._go_to((*self._written, *self._path))
                self.competing = np.array(competing)
                return
            assert best is not None
            self._choose(best)

    def _choose(self, index: int) -> None:
        first = not self.chosen
        if first and self._all_first:
            self.first = dict(self._leaves)
        self._written = (*self._written, *self._grammar.item(index, first=first))
        self.log_choices = (*self.log_choices, self._leaves[index])
        self.chosen = (*self.chosen, index)
        self._remaining -= {index}
        if len(self.chosen) < self._k:
            self._begin_place()

    def _go_to(self, tokens: tuple[int, ...]) -> None:
        """What has to be taken back of what was fed, and what fed, so that `tokens` stand there."""
        pairs = zip(self._fed, tokens, strict=False)
        shared = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(self._fed), len(tokens)))
        self.rewind = len(self._fed) - shared
        self.pending = list(tokens[shared:])
        self._fed = tokens
