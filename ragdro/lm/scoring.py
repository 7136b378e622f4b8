"""Exact log-probabilities of token sequences, each shared beginning computed once.

In: groups of `ScoredSequence` (a group is one question's: they share a beginning). Out: for each group
the sum over its sequences' targets of log p(token | tokens before it), in nats, with gradients where they
are on. It serves both models: log p(z|x) (choices among allowed identifiers) and log p(y|x,d_z) (the whole
vocabulary). The first shared batch of a model is compared with separate passes through the model's own
head; where they differ, the model is scored the separate way from then on and a warning says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ragdro.lm.batching import batches_by_tokens
from ragdro.lm.model import LanguageModel
from ragdro.lm.tree import Ints, ScoredSequence, TokenTree

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 0.1, torch.float16: 0.02}

WORTH_SHARING = 0.75
"""A tree is computed as one row if it has at most this share of its sequences' tokens: what it saves must
outweigh the attention between branches that its mask throws away."""


@dataclass(frozen=True, slots=True, eq=False)
class SequenceGroup:
    """The sequences of one question and the tree of what they must compute."""

    sequences: tuple[ScoredSequence, ...]
    tree: TokenTree

    @classmethod
    def of(cls, sequences: Sequence[ScoredSequence]) -> SequenceGroup:
        """A group of at least one sequence."""
        return cls(tuple(sequences), TokenTree.build([s.inputs for s in sequences]))

    def __len__(self) -> int:
        return len(self.tree)

    def rows(self) -> list[SequenceGroup]:
        """The rows that compute it: one, or one a sequence where they share too little to be worth a mask."""
        alone = sum(len(s.inputs) for s in self.sequences)
        if len(self.sequences) == 1 or len(self.tree) <= WORTH_SHARING * alone:
            return [self]
        return [SequenceGroup.of([sequence]) for sequence in self.sequences]


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """Flat view of everything scored in a batch: where, which token, among which, for which sequence."""

    rows: Ints
    nodes: Ints
    targets: Ints
    owners: Ints
    allowed: list[Ints | None]


def sequence_log_probs(
    model: LanguageModel, groups: Sequence[SequenceGroup]
) -> list[Float[Tensor, " samples"]]:
    """log-probabilities of every group's sequences, in one forward pass (float32, on the device)."""
    rows = [row for group in groups for row in group.rows()]
    if model.shares_prefixes is None and any(len(row.sequences) > 1 for row in rows):
        _check_sharing(model, rows)
    if model.shares_prefixes is False:
        return [_separate_log_probs(model, g.sequences) for g in groups]
    values = _row_log_probs(model, rows)
    return list(torch.split(values, [len(g.sequences) for g in groups]))


def _row_log_probs(model: LanguageModel, rows: Sequence[SequenceGroup]) -> Float[Tensor, " samples"]:
    """All sequences of the groups, one after another, each group's tree computed as one row."""
    hidden = _tree_hidden(model, [row.tree for row in rows])
    scored = _flatten(rows)
    device = model.device
    states = hidden[torch.from_numpy(scored.rows).to(device), torch.from_numpy(scored.nodes).to(device)]
    values = _scored_log_probs(model, states, scored)
    total = torch.zeros(sum(len(row.sequences) for row in rows), dtype=torch.float32, device=device)
    return total.index_add(0, torch.from_numpy(scored.owners).to(device), values)


def score_all(
    model: LanguageModel, groups: Sequence[SequenceGroup], tokens_per_batch: int
) -> list[list[float]]:
    """`sequence_log_probs` of any number of groups without gradients, batched; results in the given order."""
    results: list[list[float]] = [[] for _ in groups]
    model.hf.eval()
    with torch.no_grad():
        for batch in batches_by_tokens([len(g) for g in groups], tokens_per_batch):
            for i, value in zip(batch, sequence_log_probs(model, [groups[i] for i in batch]), strict=True):
                results[i] = value.tolist()
    return results


def _tree_hidden(model: LanguageModel, trees: Sequence[TokenTree]) -> Tensor:
    """[rows, nodes, width]: one row a tree, padded at the end."""
    rows, width = len(trees), max(len(t) for t in trees)
    tokens = np.full((rows, width), model.tokenizer.pad_id, np.int64)
    positions = np.zeros((rows, width), np.int64)
    branching = any(t.trunk < len(t) for t in trees)
    visible = np.zeros((rows, width, width), bool) if branching else None
    for r, tree in enumerate(trees):
        tokens[r, : len(tree)] = tree.tokens
        positions[r, : len(tree)] = tree.positions
        if visible is not None:
            visible[r, : len(tree), : len(tree)] = tree.visible()
            pads = np.arange(len(tree), width)
            visible[r, pads, pads] = True  # a row that sees nothing would be NaN
    device = model.device
    return model.hidden(
        torch.from_numpy(tokens).to(device),
        torch.from_numpy(positions).to(device),
        None if visible is None else torch.from_numpy(visible).to(device),
    )


def _flatten(groups: Sequence[SequenceGroup]) -> _Scored:
    rows, nodes, targets, owners = [], [], [], []
    allowed: list[Ints | None] = []
    owner = 0
    for r, group in enumerate(groups):
        for sequence, path in zip(group.sequences, group.tree.paths, strict=True):
            nodes.append(path[sequence.targets - 1])
            targets.append(sequence.tokens[sequence.targets])
            rows.append(np.full(len(sequence.targets), r))
            owners.append(np.full(len(sequence.targets), owner))
            allowed.extend(sequence.allowed or [None] * len(sequence.targets))
            owner += 1
    return _Scored(
        np.concatenate(rows), np.concatenate(nodes), np.concatenate(targets), np.concatenate(owners), allowed
    )


def _scored_log_probs(model: LanguageModel, states: Tensor, scored: _Scored) -> Tensor:
    """[scored]: constrained where `allowed` is given, over the whole vocabulary elsewhere."""
    device = states.device
    constrained = np.array([a is not None for a in scored.allowed])
    values = torch.zeros(len(states), dtype=torch.float32, device=device)
    if not constrained.all():
        free = torch.from_numpy(np.flatnonzero(~constrained)).to(device)
        targets = torch.from_numpy(scored.targets[~constrained]).to(device)
        values = values.index_put((free,), model.token_log_probs(states[free], targets))
    if constrained.any():
        at = torch.from_numpy(np.flatnonzero(constrained)).to(device)
        sets = [a for a in scored.allowed if a is not None]
        choices, mask, targets_at = choice_table(sets, scored.targets[constrained])
        logits = model.choice_logits(states[at], choices.to(device), mask.to(device))
        picked = logits.log_softmax(-1).gather(1, targets_at.to(device)[:, None])[:, 0]
        values = values.index_put((at,), picked)
    return values


def choice_table(sets: Sequence[Ints], targets: Ints | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The union of the allowed sets: (ids [choices], allowed [scored choices], column of each target)."""
    union = np.unique(np.concatenate(sets))
    mask = np.zeros((len(sets), len(union)), bool)
    for i, allowed in enumerate(sets):
        mask[i, np.searchsorted(union, allowed)] = True
    columns = np.zeros(len(sets), np.int64) if targets is None else np.searchsorted(union, targets)
    return torch.from_numpy(union), torch.from_numpy(mask), torch.from_numpy(columns)


def _separate_log_probs(model: LanguageModel, sequences: Sequence[ScoredSequence]) -> Tensor:
    """[samples]: the textbook way, one full sequence after another through the model's own head."""
    totals = []
    for sequence in sequences:
        inputs = torch.from_numpy(sequence.inputs).to(model.device)[None]
        with model.precision():
            logits = model.hf(input_ids=inputs, use_cache=False).logits[0].float()
        at = torch.from_numpy(sequence.targets).to(model.device)
        rows, targets = logits[at - 1], torch.from_numpy(sequence.tokens).to(model.device)[at]
        if sequence.allowed is not None:
            keep = torch.zeros_like(rows, dtype=torch.bool)
            for i, ids in enumerate(sequence.allowed):
                keep[i, torch.from_numpy(ids).to(model.device)] = True
            rows = rows.masked_fill(~keep, -torch.inf)
        totals.append(rows.log_softmax(-1).gather(1, targets[:, None]).sum())
    return torch.stack(totals)


def _check_sharing(model: LanguageModel, groups: Sequence[SequenceGroup]) -> None:
    """Compare shared with separate passes once, on the smallest group that shares anything."""
    smallest = min((g for g in groups if len(g.sequences) > 1), key=len)
    group = SequenceGroup.of(smallest.sequences[:2] + smallest.sequences[-1:])
    training = model.hf.training
    model.hf.eval()
    worst = float("inf")
    if model.masks_are_understood:
        model.shares_prefixes = True
        with torch.no_grad():
            difference = _row_log_probs(model, [group]) - _separate_log_probs(model, group.sequences)
        tokens = torch.tensor([len(s.targets) for s in group.sequences], device=model.device)
        worst = float((difference.abs() / tokens).max())
    model.hf.train(training)
    model.shares_prefixes = worst <= _TOLERANCE[model.autocast or model.hf.dtype]
    if not model.shares_prefixes:
        warnings.warn(
            f"{model.tokenizer.name}: shared-prefix log-probabilities differ from separate ones by "
            f"{worst:.3g} nats a token; every sequence is computed separately from here on",
            RuntimeWarning,
            stacklevel=2,
        )
