"""Blocks in all layers but the last few, which read a list as ordinary text.

In: a model and how many of its last layers see everything that stands before a token. Out: the attention of a
row of blocks whose nodes are computed once for all lists up to there. Where the last layers begin, the row
becomes a tree: a passage has states of its own behind each beginning of a list, at its place in the list.
Passages can be put together there; those layers are shared as far as lists begin alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module
from transformers import PreTrainedModel

from ragdro.errors import ConfigError
from ragdro.lm.batched_attention import attention_plan
from ragdro.lm.block_attention import BlockPlan
from ragdro.lm.passage_states import Reuse
from ragdro.lm.rotation import Rotation
from ragdro.lm.tree import TokenTree
from ragdro.profiling import active_profile


class LastLayers:
    """The last `count` decoder layers of `hf`, two at least. Raises `ConfigError` for another count, and
    where none is found."""

    def __init__(self, hf: PreTrainedModel, count: int, name: str) -> None:
        self._name = name
        layers = getattr(hf.get_decoder(), "layers", None)
        if layers is None:
            raise self.refusal("its layers are not in a list")
        if count < 2:
            raise self.refusal("one layer changes nothing: what passages take in in the last nobody reads")
        if count >= len(layers):
            raise self.refusal(f"it has {len(layers)} layers, and with all of them nothing is read in blocks")
        self.first, self.fraction = len(layers) - count, count / len(layers)
        config = hf.config.get_text_config()
        self.width = int(config.hidden_size)
        self._kinds = getattr(config, "layer_types", None)
        self._masks: Any = None
        for number, layer in enumerate(layers):
            if number >= self.first:
                layer.register_forward_pre_hook(self._hook(number), with_kwargs=True)

    def refusal(self, reason: str) -> ConfigError:
        """The error for what this model cannot do."""
        return ConfigError(f"generator.full_layers: cannot be computed by {self._name}: {reason}; use 0")

    def plan(
        self,
        reuse: Reuse,
        rotation: Rotation,
        device: torch.device,
        kept: dict[int, tuple[Tensor, Tensor]] | None = None,
    ) -> LastLayersPlan:
        """The attention of a row, as `BlockPlan` has it."""
        return LastLayersPlan(self, reuse, rotation, device, kept)

    @contextmanager
    def seeing(self, masks: Any) -> Iterator[None]:
        """Passes without a plan have these masks in the last layers: what ordinary text sees."""
        self._masks = masks
        try:
            yield
        finally:
            self._masks = None

    def _hook(self, number: int) -> Any:
        def before(
            layer: Module, inputs: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            plan = named.get("plan")
            if isinstance(plan, LastLayersPlan) and plan.last is self:
                return plan.enter(number, inputs, named)
            if self._masks is None:
                return None
            masks = self._masks
            mask = masks[self._kinds[number]] if isinstance(masks, dict) and self._kinds else masks
            return inputs, {**named, "attention_mask": mask}

        return before


class LastLayersPlan(BlockPlan):
    """Blocks first, then the tree of the lists, whose nodes are named by those of the row they are of."""

    def __init__(
        self,
        last: LastLayers,
        reuse: Reuse,
        rotation: Rotation,
        device: torch.device,
        kept: dict[int, tuple[Tensor, Tensor]] | None,
    ) -> None:
        super().__init__(reuse, rotation, device, kept)
        self.last = last
        self._tree = TokenTree.build(reuse.row.paths)
        self._ordinary = attention_plan(self._tree, device, device.type == "cuda", last.width)
        self._sources = torch.from_numpy(self._tree.tokens).to(device)
        self._places = torch.from_numpy(self._tree.positions).to(device)[None]

    def enter(
        self, number: int, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What one of the last layers is given in place of what the model gives it."""
        if not inputs or "position_embeddings" not in named:
            raise self.last.refusal("its layers do not take states and the angles of positions")
        states, *others = inputs
        if number == self.last.first:
            states = states.index_select(1, self._sources)
        angles = self._rotation.model_angles(states, self._places, number)
        return (states, *others), {**named, "position_embeddings": angles, "position_ids": self._places}

    def attend(
        self,
        layer: Module,
        query: Float[Tensor, "1 heads nodes width"],
        key: Float[Tensor, "1 kv_heads nodes width"],
        value: Float[Tensor, "1 kv_heads nodes values"],
        dropout: float,
        scaling: float | None,
        window: int | None,
    ) -> Float[Tensor, "1 heads nodes values"]:
        """One layer's attention."""
        number: int = layer.layer_idx  # type: ignore[assignment]
        if number < self.last.first:
            return super().attend(layer, query, key, value, dropout, scaling, window)
        if self._kept is not None:
            self._kept[number] = self._padded(key), self._padded(value)
        return self._ordinary.attend(layer, query, key, value, dropout, scaling, window)

    def further_flops(self, flops: Callable[[Tensor], float]) -> float:
        """The last layers compute the tree's nodes in place of the row's. Nothing without a profile."""
        if active_profile() is None:
            return 0.0
        tree, row = (flops(torch.from_numpy(each.positions)) for each in (self._tree, self._row))
        return (tree - row) * self.last.fraction

    def finish(self, hidden: Float[Tensor, "computed width"]) -> Float[Tensor, "nodes width"]:
        """The states of the tails' nodes, each of them one of the tree's; the blocks' are no numbers."""
        tails = sum(map(len, self._row.blocks))
        own = torch.from_numpy(np.flatnonzero(self._tree.tokens >= tails)).to(hidden.device)
        whole = hidden.new_full((len(self._row), hidden.shape[1]), torch.nan)
        return whole.index_copy(0, self._sources[own], hidden[own])

    def _padded(self, states: Tensor) -> Tensor:
        """[texts, heads, longest, width]: those of each text's nodes, padded in front."""
        width = max(map(len, self._tree.paths))
        rows = []
        for path in self._tree.paths:
            own = states.index_select(2, torch.from_numpy(path).to(states.device))
            rows.append(F.pad(own, (0, 0, width - own.shape[2], 0)))
        return torch.cat(rows)
