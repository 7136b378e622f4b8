"""Keys and values of passages kept across questions, under a budget of bytes.

In: a row of blocks that is about to be computed without gradients. Out: which blocks' keys and values are
known already, so that the pass computes the others and the tails alone, and what the pass makes of them, kept
for the next. A block's states are those at positions 0, 1, … under itself alone, so its tokens and the
model's weights say all that they depend on. The longest unused are given up first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from ragdro.lm.blocks import BlockRow
from ragdro.lm.tree import Ints

LayerStates = dict[int, tuple[Tensor, Tensor]]
"""By a layer's number its keys and values of one block, [1, heads, tokens, width]."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Whose states they are: `model` (and its adapter) is one object for as long as it lives, `version` is
    another whenever its weights, or what it computes in, have changed."""

    model: Hashable
    version: Hashable

    @classmethod
    def of(cls, name: Hashable, hf: Module, version: Hashable) -> Weights:
        """Those that `hf` has now: torch counts the changes of a tensor in place. `version` is another where
        a parameter may have got another tensor."""
        return cls(name, (version, sum(p._version for p in hf.parameters())))


class PassageStates:
    """At most `budget` bytes of states, of any number of models. `hits`, `misses`: blocks that were known
    when a pass needed them, and that were not."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self.hits = self.misses = 0
        self._held: OrderedDict[tuple[Weights, bytes], LayerStates] = OrderedDict()
        self._versions: dict[Hashable, Hashable] = {}

    def __len__(self) -> int:
        return len(self._held)

    def find(self, weights: Weights, tokens: Ints) -> LayerStates | None:
        """The states of a block under these weights. What other weights of the same model had is dropped."""
        if self._versions.setdefault(weights.model, weights.version) != weights.version:
            self._versions[weights.model] = weights.version
            for key in [key for key in self._held if key[0].model == weights.model]:
                self.bytes -= _size(self._held.pop(key))
        key = weights, tokens.tobytes()
        states = self._held.get(key)
        if states is None:
            self.misses += 1
        else:
            self.hits += 1
            self._held.move_to_end(key)
        return states

    def add(self, weights: Weights, tokens: Ints, states: LayerStates) -> None:
        """Keep a block's states, and give up others where they do not fit; not where they never would."""
        size = _size(states)
        if size > self.budget:
            return
        key = weights, tokens.tobytes()
        self.bytes += size - _size(self._held.pop(key, {}))  # one that was known may be computed again
        self._held[key] = states
        while self.bytes > self.budget:
            self.bytes -= _size(self._held.popitem(last=False)[1])


def _size(states: LayerStates) -> int:
    return sum(x.numel() * x.element_size() for pair in states.values() for x in pair)


@dataclass(frozen=True, slots=True, eq=False)
class Reuse:
    """What a pass over `row` takes from `store`, by the blocks' numbers (`known`), and brings it (`fresh`).
    Without a store: nothing."""

    row: BlockRow
    store: PassageStates | None = None
    weights: Weights | None = None
    known: Mapping[int, LayerStates] = field(default_factory=dict)
    fresh: dict[int, LayerStates] = field(default_factory=dict)

    @classmethod
    def of(cls, row: BlockRow, store: PassageStates, weights: Weights) -> Reuse:
        """What is known of the row; something is left to compute in any case."""
        looked_up = {number: store.find(weights, block) for number, block in enumerate(row.blocks)}
        known = {number: states for number, states in looked_up.items() if states is not None}
        if len(known) == len(row.blocks) and not any(len(each.tail) for each in row.lists):
            del known[0]
        return cls(row, store, weights, known, {b: {} for b in looked_up if b not in known})

    @property
    def sizes(self) -> list[int]:
        """How many nodes of each block and each tail are computed."""
        return [0 if number in self.known else size for number, size in enumerate(self.row.sizes)]

    @property
    def nodes(self) -> Ints:
        """The row's nodes that are computed."""
        computed = np.repeat([size > 0 for size in self.sizes], self.row.sizes)
        return np.flatnonzero(computed)

    def states(
        self, layer: Module, keys: Sequence[Tensor], values: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """One layer's keys and values of all blocks and tails, those that are known in their places. Of what
        is new a copy is kept, for it is a part of the row's."""
        keys, values = list(keys), list(values)
        for number, states in self.known.items():
            keys[number], values[number] = states[layer.layer_idx]  # type: ignore[index]
        for number, states in self.fresh.items():
            states[layer.layer_idx] = keys[number].clone(), values[number].clone()  # type: ignore[index]
        return keys, values

    def finish(self, hidden: Float[Tensor, "computed width"]) -> Float[Tensor, "nodes width"]:
        """Keep what is new. The states of all nodes; those that were not computed are no numbers."""
        if self.store is None or self.weights is None:
            return hidden
        for number, states in self.fresh.items():
            self.store.add(self.weights, self.row.blocks[number], states)
        if not self.known:
            return hidden
        whole = hidden.new_full((len(self.row), hidden.shape[1]), torch.nan)
        return whole.index_copy(0, torch.from_numpy(self.nodes).to(hidden.device), hidden)
