"""Exact log-probabilities of token sequences, each shared beginning computed once.

In: groups of `ScoredSequence` (a group is one question's: they share a beginning). Out: for each group
the sum over its sequences' targets of log p(token | tokens before it), in nats, with gradients where they
are on. It serves both models: log p(z|x) (choices among allowed identifiers) and log p(y|x,d_z) (the whole
vocabulary). The first batch of a model, and the first after each fit, is compared with separate passes
through the model's own head (`ragdro.lm.parity`); where they differ, the model is scored the separate way
from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ragdro.lm.batching import packs_by_tokens
from ragdro.lm.blocks import BlockRow, BlockText
from ragdro.lm.groups import ScoredGroup, batches_of, log_probs
from ragdro.lm.model import LanguageModel
from ragdro.lm.parity import agree, separate_log_probs
from ragdro.lm.rope import LengthClasses
from ragdro.lm.tree import Ints, ScoredSequence, TokenTree


@dataclass(frozen=True, slots=True, eq=False)
class SequenceGroup(ScoredGroup):
    """The sequences of one question and the tree of what they must compute."""

    sequences: tuple[ScoredSequence, ...]
    tree: TokenTree | BlockRow

    @classmethod
    def of(cls, sequences: Sequence[ScoredSequence]) -> SequenceGroup:
        """A group of at least one sequence; all of them begin with blocks, or none does."""
        texts = [BlockText(s.inputs, s.blocks, s.links) for s in sequences if s.blocks is not None]
        assert len(texts) in (0, len(sequences))
        tree = BlockRow.build(texts) if texts else TokenTree.build([s.inputs for s in sequences])
        return cls(tuple(sequences), tree)

    def __len__(self) -> int:
        return len(self.tree)

    @classmethod
    def log_probs(cls, model: LanguageModel, groups: Sequence[ScoredGroup]) -> list[Tensor]:
        """See `sequence_log_probs`."""
        return sequence_log_probs(model, cast("Sequence[SequenceGroup]", groups))

    @classmethod
    def batches(cls, lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
        """Trees are packed without padding."""
        return packs_by_tokens(lengths, max_tokens)

    @classmethod
    def one_pass(cls, model: LanguageModel, group: ScoredGroup) -> bool:
        """Where prompts can be shared, which is looked at now if it was not yet."""
        groups = [cast("SequenceGroup", group)]
        if _shared(model, groups) is None:
            with torch.no_grad():
                group.log_probs(model, groups)
        return bool(_shared(model, groups))

    @property
    def scored(self) -> int:
        """See `ScoredGroup`."""
        return len(self.sequences)

    @property
    def tokens(self) -> list[list[int]]:
        """See `ScoredGroup`."""
        return [sequence.tokens.tolist() for sequence in self.sequences]

    @property
    def positions(self) -> Ints:
        """See `ScoredGroup`."""
        return self.tree.positions

    def head_flops(self, model: LanguageModel) -> float:
        """Of the logits: over the whole vocabulary, or over the identifiers alone."""
        config = model.hf.config.get_text_config()
        scored = sum(len(s.targets) for s in self.sequences)
        allowed = self.sequences[0].allowed
        width = config.vocab_size if allowed is None else max(map(len, allowed))
        return 2.0 * scored * int(config.hidden_size) * int(width)


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """Flat view of everything scored in a batch: where, which token, among which, for which sequence."""

    nodes: Ints
    targets: Ints
    owners: Ints
    allowed: list[Ints | None]


def sequence_log_probs(
    model: LanguageModel, groups: Sequence[SequenceGroup]
) -> list[Float[Tensor, " samples"]]:
    """log-probabilities of every group's sequences, in one forward pass (float32, on the device).

    Where frequencies depend on a sequence's length, in one pass for each class of lengths.
    """
    if model.length_classes is None:
        return _log_probs(model, groups)
    rows: dict[int, list[tuple[int, int, ScoredSequence]]] = {}
    for g, group in enumerate(groups):
        for s, sequence in enumerate(group.sequences):
            for length_class, part in _by_length(sequence, model.length_classes):
                rows.setdefault(length_class, []).append((g, s, part))
    totals = [torch.zeros(len(group.sequences), device=model.device) for group in groups]
    for _, entries in sorted(rows.items()):
        owners = [g for g in range(len(groups)) if any(g == row[0] for row in entries)]
        parts = [SequenceGroup.of([part for g, _, part in entries if g == owner]) for owner in owners]
        for owner, values in zip(owners, _log_probs(model, parts), strict=True):
            places = torch.tensor([s for g, s, _ in entries if g == owner], device=values.device)
            totals[owner] = totals[owner].index_add(0, places, values)
    return totals


def _by_length(sequence: ScoredSequence, classes: LengthClasses) -> list[tuple[int, ScoredSequence]]:
    """The sequence cut behind the last target of each class: (class, what is scored in it)."""
    target_classes = np.array([classes.of(int(t)) for t in sequence.targets])
    parts = []
    for each in np.unique(target_classes):
        indices = np.flatnonzero(target_classes == each)
        targets = sequence.targets[indices]
        allowed = None if sequence.allowed is None else tuple(sequence.allowed[i] for i in indices)
        parts.append((int(each), ScoredSequence(sequence.tokens[: targets.max() + 1], targets, allowed)))
    return parts


def _log_probs(model: LanguageModel, groups: Sequence[SequenceGroup]) -> list[Tensor]:
    if _shared(model, groups) is None:
        agreed = _agrees(model, groups)
        if _in_blocks(groups):
            if model.last_layers is not None and not agreed:
                raise model.last_layers.refusal("its layers compute something else with it")
            model.shares_blocks = agreed
        else:
            model.shares_prefixes = agreed
    if not _shared(model, groups):
        model.note_fallbacks(sum(len(g.sequences) for g in groups))
        return [separate_log_probs(model, g.sequences) for g in groups]
    values = _shared_log_probs(model, groups)
    return list(torch.split(values, [len(g.sequences) for g in groups]))


def _in_blocks(groups: Sequence[SequenceGroup]) -> bool:
    return isinstance(groups[0].tree, BlockRow)


def _shared(model: LanguageModel, groups: Sequence[SequenceGroup]) -> bool | None:
    """Whether the one pass was found equal to separate passes (None: not looked yet)."""
    return model.shares_blocks if _in_blocks(groups) else model.shares_prefixes


def _pack(groups: Sequence[SequenceGroup]) -> TokenTree | BlockRow:
    trees = [group.tree for group in groups]
    rows = [tree for tree in trees if isinstance(tree, BlockRow)]
    assert len(rows) in (0, len(trees))
    return BlockRow.pack(rows) if rows else TokenTree.pack(cast("list[TokenTree]", trees))


def _shared_log_probs(model: LanguageModel, groups: Sequence[SequenceGroup]) -> Float[Tensor, " samples"]:
    """All sequences of the groups, one after another; their trees are computed packed, without padding."""
    packed = _pack(groups)
    scored = _flatten([s for group in groups for s in group.sequences], packed)
    device = model.device
    states = model.tree_hidden(packed)[torch.from_numpy(scored.nodes).to(device)]
    values = _scored_log_probs(model, states, scored)
    total = torch.zeros(len(packed.paths), dtype=torch.float32, device=device)
    return total.index_add(0, torch.from_numpy(scored.owners).to(device), values)


def score_all(model: LanguageModel, groups: Sequence[ScoredGroup], max_tokens: int) -> list[list[float]]:
    """`log_probs` of any number of groups (of one kind) without gradients, in batches; results in the given
    order."""
    results: list[list[float]] = [[] for _ in groups]
    model.hf.eval()
    with torch.no_grad():
        for batch in batches_of(groups, max_tokens):
            for i, value in zip(batch, log_probs(model, [groups[i] for i in batch]), strict=True):
                results[i] = value.tolist()
    return results


def _agrees(model: LanguageModel, groups: Sequence[SequenceGroup]) -> bool:
    """Compare shared with separate passes: a short tree that branches, and the longest sequence packed
    behind it."""
    most = max(len(g.sequences) for g in groups)
    shortest = min((g for g in groups if len(g.sequences) == most), key=len).sequences
    branches = (
        _comparable(shortest[0]),
        _comparable(shortest[-1]) if most > 1 else _twisted(_comparable(shortest[0])),
    )
    longest = max((s for g in groups for s in g.sequences), key=lambda s: len(s.inputs))
    compared = [SequenceGroup.of(branches), SequenceGroup.of([_comparable(longest)])]
    sequences = [s for group in compared for s in group.sequences]
    targets = torch.tensor([len(s.targets) for s in sequences], device=model.device)
    return agree(
        model,
        lambda: _shared_log_probs(model, compared) / targets,
        lambda: separate_log_probs(model, sequences) / targets,
        "every sequence is scored separately from here on",
    )


def _comparable(sequence: ScoredSequence) -> ScoredSequence:
    """A sequence with something to compare: a certain one has nothing but its tokens."""
    return sequence if sequence.targets.size else sequence.whole()


def _twisted(sequence: ScoredSequence) -> ScoredSequence:
    """The sequence with its second half (of blocks: all but the first of them) backwards, scored over the
    whole vocabulary: another branch."""
    if sequence.blocks is not None:
        first, *others, tail = BlockText(sequence.tokens, sequence.blocks).pieces
        pieces = [first, *others[::-1], tail]
        ends = np.cumsum([len(piece) for piece in pieces[:-1]])
        targets = np.setdiff1d(sequence.targets, ends)
        return ScoredSequence(np.concatenate(pieces), targets, blocks=ends, links=sequence.links)
    half = len(sequence.tokens) // 2
    return ScoredSequence(
        np.concatenate([sequence.tokens[:half], sequence.tokens[half:][::-1]]), sequence.targets
    )


def _flatten(sequences: Sequence[ScoredSequence], packed: TokenTree | BlockRow) -> _Scored:
    nodes, targets, owners = [], [], []
    allowed: list[Ints | None] = []
    for owner, (sequence, path) in enumerate(zip(sequences, packed.paths, strict=True)):
        nodes.append(path[sequence.targets - 1])
        targets.append(sequence.tokens[sequence.targets])
        owners.append(np.full(len(sequence.targets), owner))
        allowed.extend(sequence.allowed or [None] * len(sequence.targets))
    return _Scored(np.concatenate(nodes), np.concatenate(targets), np.concatenate(owners), allowed)


def _scored_log_probs(model: LanguageModel, states: Tensor, scored: _Scored) -> Tensor:
    """[scored]: constrained where `allowed` is given, over the whole vocabulary elsewhere."""
    device = states.device
    if not scored.allowed:  # certain sequences alone: nothing to learn, but a loss still has its gradient, 0
        return states.float().sum(-1)
    constrained = np.array([a is not None for a in scored.allowed])
    values = torch.zeros(len(states), dtype=torch.float32, device=device)
    if not constrained.all():
        free = torch.from_numpy(np.flatnonzero(~constrained)).to(device)
        targets = torch.from_numpy(scored.targets[~constrained]).to(device)
        values = values.index_put((free,), model.token_log_probs(states[free], targets))
    if constrained.any():
        indices = torch.from_numpy(np.flatnonzero(constrained)).to(device)
        sets = [a for a in scored.allowed if a is not None]
        choices, mask, targets_at = choice_table(sets, scored.targets[constrained])
        logits = model.choice_logits(states[indices], choices.to(device), mask.to(device))
        picked = logits.log_softmax(-1).gather(1, targets_at.to(device)[:, None])[:, 0]
        values = values.index_put((indices,), picked)
    return values


def choice_table(sets: Sequence[Ints], targets: Ints | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The union of the allowed sets: (ids [choices], allowed [scored choices], column of each target)."""
    union = np.unique(np.concatenate(sets))
    mask = np.zeros((len(sets), len(union)), bool)
    for i, allowed in enumerate(sets):
        mask[i, np.searchsorted(union, allowed)] = True
    columns = np.zeros(len(sets), np.int64) if targets is None else np.searchsorted(union, targets)
    return torch.from_numpy(union), torch.from_numpy(mask), torch.from_numpy(columns)
