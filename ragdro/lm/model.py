"""A causal LM with its tokenizer: the one object that selector and generator hold.

In: a `PreTrainedModel` (plain or wrapped by PEFT) and a `TextTokenizer`. Out: hidden states under any
visibility pattern, and log-probabilities from just the positions and the vocabulary that are needed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ragdro.lm.attention import Plan, attend_in_blocks
from ragdro.lm.batched_attention import attention_plan
from ragdro.lm.block_attention import BlockPlan
from ragdro.lm.blocks import BlockRow
from ragdro.lm.dropout import switch_off, switched_on
from ragdro.lm.flops import layer_flops, matrix_weights
from ragdro.lm.head import LogitTransform, logit_transform
from ragdro.lm.heads import AttentionProbe, FeatureCache, HeadWeights
from ragdro.lm.last_layers import LastLayers
from ragdro.lm.masks import additive_masks, are_understood
from ragdro.lm.passage_states import PassageStates, Reuse, Weights
from ragdro.lm.projections import Projections
from ragdro.lm.rope import length_classes
from ragdro.lm.rotation import Rotation
from ragdro.lm.tokens import TextTokenizer
from ragdro.lm.tree import TokenTree
from ragdro.profiling import active_profile

_POSITIONS_PER_CHUNK = 2048


class LanguageModel:
    """`hf` and `tokenizer`, plus `autocast`: the dtype matrix products run in (None: the weights').

    `adapter` names this model's adapter of `hf`; others may share its base. Dropout is on in `dropout()`.
    """

    def __init__(
        self,
        hf: PreTrainedModel,
        tokenizer: TextTokenizer,
        autocast: torch.dtype | None = None,
        *,
        adapter: str | None = None,
    ) -> None:
        self._hf = hf
        self.tokenizer = tokenizer
        self.autocast = autocast
        self.adapter = adapter
        self._adapted: Any = next((m for m in hf.modules() if hasattr(m, "lora_A")), None)
        self._weights: int | None = None
        self._rotation: Rotation | None = None
        self._name, self._fits = object(), 0
        self.last_layers: LastLayers | None = None
        """Those that read blocks as ordinary text (None: none does)."""
        self.passage_states: PassageStates | None = None
        """What it has read in blocks, kept for where no gradients are asked for (None: nothing is)."""
        self.shows_attention = attend_in_blocks(hf)
        """Whether plans and probes see its layers: where they run sdpa."""
        self.batches_attention = hf.device.type == "cuda"
        """Whether a tree's blocks are computed in batches, where a call takes longer than a block."""
        self.dropout_sites = switch_off(hf)
        """Where the model has dropout, and how much."""
        self.length_classes = length_classes(hf)
        """Which lengths may be computed together (None: all)."""
        self.exact = False
        """Whether it computes in float32 for the moment (`ragdro.lm.exact`)."""
        self.shares_prefixes: bool | None = None
        """Whether the shared-prefix pass was found equal to separate passes (None: not looked yet)."""
        self.shares_blocks: bool | None = None
        """The same of blocks computed once for all lists that they stand in."""
        self.shares_cache: bool | None = None
        """The same of decoding many branches from one cache."""
        self.fallbacks = 0
        """How many sequences and branches' steps were computed separately because sharing changes them."""
        self.warned: set[str] = set()
        """Which of these fallbacks a warning was given for."""
        self.projections: Projections | HeadWeights | None = None
        """What a pointer selector scores passages with, trained and saved with the model."""
        self.zero_stage: int | None = None
        """DeepSpeed's ZeRO stage that it is trained under, if any."""

    @property
    def hf(self) -> PreTrainedModel:
        """The model of Hugging Face, this model's adapter switched on: what it computes, trains and saves."""
        if self.adapter is not None and self._adapted.active_adapters != [self.adapter]:
            self._hf.set_adapter(self.adapter)
        return self._hf

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return torch.device(self.hf.device)

    @property
    def width(self) -> int:
        """The dimensions of a hidden state."""
        return int(self._hf.config.get_text_config().hidden_size)

    def freeze(self) -> None:
        """Train nothing but a pointer's projections or weights of heads, whose features are kept from now."""
        self._hf.requires_grad_(False)
        if isinstance(self.projections, HeadWeights):
            self.projections.cache = FeatureCache()

    @property
    def heads(self) -> int:
        """How many attention heads all layers have together."""
        config = self._hf.config.get_text_config()
        return int(config.num_hidden_layers * config.num_attention_heads)

    @property
    def max_positions(self) -> int | None:
        """The longest sequence the model has positions for, None where its config names no limit."""
        limit = getattr(self.hf.config.get_text_config(), "max_position_embeddings", None)
        return None if limit is None else int(limit)

    @cached_property
    def logit_transform(self) -> LogitTransform | None:
        """What the model does to its output embeddings' values; None where that is not understood."""
        with self.precision():
            return logit_transform(self.hf)

    def note_fallbacks(self, count: int) -> None:
        """So many sequences or branches were computed separately because the shared way was found unequal."""
        self.fallbacks += count
        profile = active_profile()
        if profile is not None:
            profile.fallbacks += count

    def recheck(self) -> None:
        """Look again, at the next chance, whether what is computed shared is what the model computes."""
        self.shares_prefixes = self.shares_blocks = self.shares_cache = None
        self._fits += 1

    def dropout(self) -> AbstractContextManager[None]:
        """The model has its dropout within."""
        return switched_on(self.dropout_sites)

    def precision(self) -> AbstractContextManager[Any]:
        """The autocast context of every forward pass."""
        if self.autocast is None:
            return nullcontext()
        # A pass uses each weight once, so a cache of converted weights would only hold memory.
        return torch.autocast(self.device.type, dtype=self.autocast, cache_enabled=False)

    def hidden(
        self,
        tokens: Int[Tensor, "rows queries"],
        positions: Int[Tensor, "rows queries"],
        visible: Bool[Tensor, "rows queries keys"] | None = None,
        key_positions: Int[Tensor, "rows keys"] | None = None,
        cache: Any = None,
        probe: AttentionProbe | None = None,
    ) -> Float[Tensor, "rows queries width"]:
        """Last hidden states; `visible` None means plain causal attention (pads at the end only).

        With a `cache`, `keys` covers what it holds followed by the queries, and the cache grows. A `probe`
        sees all layers.
        """
        mask: Any = None
        if visible is not None:
            mask = self.masks(visible, positions, positions if key_positions is None else key_positions)
        rest = {"past_key_values": cache, "use_cache": cache is not None}
        return self._decode(tokens, mask, positions, **rest | ({"probe": probe} if probe else {}))

    def masks(self, visible: Tensor, positions: Tensor, key_positions: Tensor) -> Any:
        """The masks that the layers take (see `additive_masks`)."""
        dtype = self.autocast or (torch.float32 if self.exact else self.hf.dtype)
        return additive_masks(self.hf.config.get_text_config(), dtype, visible, positions, key_positions)

    def tree_hidden(self, tree: TokenTree | BlockRow) -> Float[Tensor, "nodes width"]:
        """Last hidden states of the nodes of a packed tree: each sees its ancestors and itself. Of a row of
        blocks: see there. Raises `ConfigError` for a model that blocks cannot be computed with."""
        if isinstance(tree, BlockRow):
            return self.block_hidden(tree)
        tokens, positions = (torch.from_numpy(x).to(self.device)[None] for x in (tree.tokens, tree.positions))
        if not self.shows_attention:
            visible = torch.from_numpy(tree.visible()).to(self.device)[None]
            return self.hidden(tokens, positions, visible)[0]
        made = attention_plan(tree, self.device, self.batches_attention, self.width)
        return self._planned(tokens, positions, made)

    def block_hidden(
        self, row: BlockRow, kept: dict[int, tuple[Tensor, Tensor]] | None = None
    ) -> Float[Tensor, "nodes width"]:
        """Last hidden states of a row of blocks; `kept` gets what each layer keeps (see `BlockPlan`)."""
        reuse, make = Reuse(row), BlockPlan if self.last_layers is None else self.last_layers.plan
        if self.passage_states is not None and not (torch.is_grad_enabled() or self.exact):
            weights = Weights.of(self._name, self._hf, (self._fits, self.autocast))
            reuse = Reuse.of(row, self.passage_states, weights)
        plan, nodes = make(reuse, self.rotation(), self.device, kept), reuse.nodes
        tokens, positions = (torch.from_numpy(x[nodes]).to(self.device) for x in (row.tokens, row.positions))
        self.note(0, plan.further_flops(self.flops))
        return plan.finish(self._planned(tokens[None], positions[None], plan))

    def require_rotation(self) -> Rotation:
        """How keys are turned, as far as the config says. Raises `ConfigError`."""
        self._rotation = self._rotation or Rotation(self.hf, self.tokenizer.name)
        return self._rotation

    def rotation(self) -> Rotation:
        """The same, looked at in a pass of its own before blocks are believed. Raises `ConfigError`."""
        required = self.require_rotation()
        if required.known is None and not self.shares_blocks:
            required.look(self.tokenizer.template("Question: Answer"), self.device, self._planned)
        return required

    def _planned(self, tokens: Tensor, positions: Tensor, plan: Plan) -> Tensor:
        # A mask of four dimensions stops the library from making one of its own; the plan replaces it.
        mask = torch.zeros(1, 1, 1, 1, device=self.device)
        return self._decode(tokens, mask, positions, use_cache=False, plan=plan)[0]

    def flops(self, positions: Int[Tensor, "..."]) -> float:
        """What the layers take for tokens at these positions, forward (see `ragdro.profiling`)."""
        if self._weights is None:
            self._weights = matrix_weights(self.hf, self.adapter)
        return layer_flops(self.hf.config.get_text_config(), self._weights, positions)

    def note(self, tokens: int, flops: float) -> None:
        """Tell the profile, if there is one, what is about to be computed."""
        profile = active_profile()
        if profile is not None:
            # A base under an adapter has gradients of its inputs alone, a frozen one none.
            backward = (
                1 if self.adapter is not None else 2 * any(p.requires_grad for p in self._hf.parameters())
            )
            profile.count(tokens, flops * (1 + backward * torch.is_grad_enabled()))

    def _decode(self, tokens: Tensor, mask: Any, positions: Tensor, **rest: Any) -> Tensor:
        if active_profile() is not None:
            self.note(positions.numel(), self.flops(positions))
        with self.precision():
            output = self.hf.get_decoder()(
                input_ids=tokens, attention_mask=mask, position_ids=positions, **rest
            )
        state: Tensor = output.last_hidden_state
        return state

    def token_log_probs(
        self, hidden: Float[Tensor, "scored width"], targets: Int[Tensor, " scored"]
    ) -> Float[Tensor, " scored"]:
        """log p(target) over the whole vocabulary, in float32, a chunk of positions at a time."""
        self.note(0, 2.0 * hidden.numel() * self.hf.config.get_text_config().vocab_size)
        one_chunk = len(hidden) <= _POSITIONS_PER_CHUNK
        values = []
        for start in range(0, len(hidden), _POSITIONS_PER_CHUNK):
            chunk = slice(start, start + _POSITIONS_PER_CHUNK)
            if one_chunk or not torch.is_grad_enabled():
                values.append(self._full_log_probs(hidden[chunk], targets[chunk]))
            else:  # the logits of a chunk are made again in the backward pass rather than kept
                values.append(
                    checkpoint(self._full_log_probs, hidden[chunk], targets[chunk], use_reentrant=False)
                )
        return torch.cat(values)

    def choice_logits(
        self,
        hidden: Float[Tensor, "scored width"],
        choices: Int[Tensor, " choices"],
        allowed: Bool[Tensor, "scored choices"],
    ) -> Float[Tensor, "scored choices"]:
        """Logits over the `choices` alone (float32), minus infinity where one is not allowed."""
        head = self.hf.get_output_embeddings()
        self.note(0, 2.0 * hidden.numel() * len(choices))
        with self.precision():
            if type(head) is torch.nn.Linear:
                weight = head.weight if len(choices) == len(head.weight) else head.weight[choices]
                bias = None if head.bias is None else head.bias[choices]
                if self.exact:
                    weight, bias = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
                logits = F.linear(hidden, weight, bias)
            else:  # a wrapped head (an adapter on it, for instance) is more than its weight
                logits = head(hidden)[:, choices]
        return self._finished(logits).masked_fill(~allowed, -torch.inf)

    def _full_log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        with self.precision():
            logits = self.hf.get_output_embeddings()(hidden)
        return -F.cross_entropy(self._finished(logits), targets, reduction="none")

    def _finished(self, logits: Tensor) -> Tensor:
        """The model's logits (float32) from its output embeddings' values."""
        transform = self.logit_transform
        assert transform is not None, "what is not understood is computed separately"
        return transform(logits.float())

    @property
    def masks_are_understood(self) -> bool:
        """False where the architecture has layers whose attention our masks cannot describe."""
        return are_understood(self.hf.config.get_text_config())
