"""The grammar of an ordered selection: `[3] > [1] > [17]`, as text and as tokens.

In: a tokenizer and how many candidates there are. Out: for a permutation its tokens and, at each place
where the grammar leaves a choice, the tokens that compete. An identifier exists, is used once, and may
be several tokens long; tokens that the grammar forces (brackets, separators, the rest of an identifier
that is already decided) are no choice and carry no probability. So log p(z|x) is exact: the
probabilities of all ordered lists of K identifiers sum to 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ragdro.errors import DataError, ModelError
from ragdro.lm.tokens import TextTokenizer
from ragdro.lm.tree import Ints, ScoredSequence
from ragdro.types import Permutation

SEPARATOR = " > "
STOP = -1
"""In place of an identifier's index: the list ends here."""
_LIST = re.compile(r"\[[1-9][0-9]{0,8}\](?: > \[[1-9][0-9]{0,8}\])*")


def render(permutation: Permutation) -> str:
    """The text of a permutation: 0-based indices become 1-based identifiers."""
    return SEPARATOR.join(f"[{i + 1}]" for i in permutation)


def parse(text: str, candidates: int) -> Permutation:
    """The permutation that `text` names; only what `render` writes is accepted.

    Raises `DataError` for anything else: another layout, an identifier that does not exist or is repeated.
    """
    if not _LIST.fullmatch(text):
        raise DataError(f"not a list of identifiers such as '[3] > [1]': {text[:80]!r}")
    permutation = tuple(int(i) - 1 for i in re.findall(r"[0-9]+", text))
    if max(permutation) >= candidates or len(set(permutation)) < len(permutation):
        raise DataError(f"identifiers must exist (1 to {candidates}) and be used once: {text[:80]!r}")
    return permutation


class IdentifierGrammar:
    """The identifiers of up to `candidates` passages as one tokenizer writes them.

    `start` is what stands before the list in the model's output (" " after a plain prompt's colon) and
    `border` the end of the prompt before that (see `PromptTemplate`). `stop`: behind each identifier the end
    token competes with the separator, so that lists of 1 to K identifiers together have probability 1.
    Raises `ModelError` for a tokenizer that writes two identifiers alike, so that no constraint could tell
    them apart.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        candidates: int,
        start: str = "",
        *,
        border: str = "",
        stop: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.stop = stop
        self.candidates = candidates
        self.first = [tuple(tokenizer.continuation(border, f"{start}[{i + 1}]")) for i in range(candidates)]
        self.later = [
            tuple(tokenizer.continuation(f"{border}{start}[1]", f"{SEPARATOR}[{i + 1}]"))
            for i in range(candidates)
        ]
        self._end = (tokenizer.end_id,)
        for items in (self.first, [*self.later, self._end] if stop else self.later):
            _refuse_ambiguous(items, tokenizer.name)
        self.branch = lru_cache(maxsize=100_000)(self._branch)

    def begin(self, candidates: int, k: int) -> DecodingState:
        """A fresh state through the grammar: K distinct identifiers (at most K, with `stop`) among the first
        `candidates`."""
        assert 1 <= k <= candidates <= self.candidates
        return DecodingState(self, candidates, k)

    def scored(
        self, prompt: Sequence[int], permutation: Permutation, candidates: int, k: int | None = None
    ) -> ScoredSequence:
        """The prompt followed by the permutation and the end token; its choices are what is scored.

        With `stop`, `k` is the most identifiers that there could have been (None: as many as there are).
        """
        state = self.begin(candidates, len(permutation) if k is None else k)
        tokens = [*prompt, *state.pending]
        targets: list[int] = []
        allowed: list[Ints] = []
        while state.competing is not None:
            targets.append(len(tokens))
            allowed.append(state.competing)
            place = len(state.chosen)
            done = place == len(permutation)
            item = self._end if done else self.item(permutation[place], first=not place)
            state.take(item[len(state.path)])
            tokens.extend(state.pending)
        assert state.chosen == permutation
        if not state.stopped:
            tokens.append(self.tokenizer.end_id)
        return ScoredSequence(np.array(tokens), np.array(targets, np.int64), tuple(allowed))

    def longest(self, candidates: int) -> int:
        """The most tokens that one of the first so many identifiers has, with brackets and separator."""
        return max(map(len, self.first[:candidates] + self.later[:candidates]))

    def item(self, index: int, *, first: bool) -> tuple[int, ...]:
        """The tokens of one identifier with its brackets and, unless first, its separator."""
        return (self.first if first else self.later)[index]

    def _branch(
        self, first: bool, remaining: frozenset[int], path: tuple[int, ...]
    ) -> tuple[tuple[int, ...], Ints | None, int | None]:
        """From `path` on: the forced tokens, then either the competing ones or the index that is decided."""
        items = {i: s for i in remaining if (s := self.item(i, first=first))[: len(path)] == path}
        if self.stop and not first and self._end[: len(path)] == path:
            items[STOP] = self._end
        forced: list[int] = []
        while True:
            depth = len(path) + len(forced)
            if len(items) == 1:
                index, item = next(iter(items.items()))
                return (*forced, *item[depth:]), None, index
            competing = sorted({item[depth] for item in items.values()})
            if len(competing) > 1:
                return tuple(forced), np.array(competing), None
            forced.append(competing[0])


class DecodingState:
    """One list being written: `pending` tokens to append, then `competing` ones to choose from (None: done).

    `chosen`: the permutation so far; `path`: the tokens of the identifier that is being written; `stopped`:
    whether the list was ended before its K-th identifier.
    """

    def __init__(self, grammar: IdentifierGrammar, candidates: int, k: int) -> None:
        self._grammar = grammar
        self._remaining = frozenset(range(candidates))
        self.k = k
        self.chosen: Permutation = ()
        self.stopped = False
        self.path: tuple[int, ...] = ()
        self.pending: list[int] = []
        self.competing: Ints | None = None
        self._settle()

    def take(self, token: int) -> None:
        """Choose one of the `competing` tokens."""
        assert self.competing is not None
        self.path = (*self.path, token)
        self.pending = [token]
        self._settle()

    def _settle(self) -> None:
        """Append what is forced until there is a choice or the list is complete."""
        self.competing = None
        while len(self.chosen) < self.k and not self.stopped:
            forced, competing, index = self._grammar.branch(not self.chosen, self._remaining, self.path)
            self.pending.extend(forced)
            self.path = (*self.path, *forced)
            if index is None:
                self.competing = competing
                return
            if index == STOP:
                self.stopped = True
                return
            self.chosen = (*self.chosen, index)
            self._remaining -= {index}
            self.path = ()


def _refuse_ambiguous(items: Sequence[tuple[int, ...]], name: str) -> None:
    """No identifier's tokens may begin another's."""
    ordered = sorted((item, i) for i, item in enumerate(items))
    for (a, i), (b, j) in pairwise(ordered):
        if b[: len(a)] == a:
            raise ModelError(f"{name}: the tokenizer cannot tell identifier [{i + 1}] from [{j + 1}]")
