"""Blocks whose last tokens, or first ones computed again, see all before them, against the model's own passes
under a mask made by cell."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch

from ragdro.lm.block_cache import block_cache
from ragdro.lm.blocks import BlockRow, BlockText
from ragdro.lm.model import LanguageModel
from ragdro.lm.passage_states import PassageStates
from ragdro.lm.scoring import SequenceGroup, score_all, sequence_log_probs
from ragdro.lm.tree import Ints, Links, ScoredSequence
from tests.conftest import byte_level, random_model
from tests.unit.lm.test_blocks import LISTS, MIXED, VARIANTS, drawn, slopes

LINKED = {
    "llama": VARIANTS["llama"],
    "mistral-window": VARIANTS["mistral-window"],
    "gemma3_text": {**MIXED, "query_pre_attn_scalar": 8},
    "qwen3": VARIANTS["qwen3"],
}


def made(variant: str = "llama") -> LanguageModel:
    settings = {"num_key_value_heads": 2, "pad_token_id": 0, "initializer_range": 0.2, **LINKED[variant]}
    return random_model(byte_level(), variant.split("-")[0], **settings)


def linked(seed: int, lists: list[tuple[int, ...]], links: int, again: bool = False) -> list[ScoredSequence]:
    kind = Links(links, again)
    return [ScoredSequence(s.tokens, s.targets, blocks=s.blocks, links=kind) for s in drawn(seed, lists)]


@dataclass(frozen=True)
class Node:
    """A token at its place in the list. `alone`: it sees its own block; `read`: what is behind sees it."""

    place: int
    block: int
    alone: bool
    read: bool = True


def nodes(sequence: ScoredSequence) -> list[Node]:
    """What one pass computes: the first block has no links, and a short block is all links. First tokens that
    are computed again stand twice: as the rest of their block sees them, and as all others do."""
    assert sequence.blocks is not None
    made, bounds = [], [0, *sequence.blocks.tolist(), len(sequence.tokens)]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        links = sequence.links.count if 0 < number < len(bounds) - 2 else 0
        for place in range(start, stop):
            if sequence.links.again and place < start + links:
                made += [Node(place, number, True, False), Node(place, -1, False)]
            else:
                is_last = not sequence.links.again and place >= stop - links
                made.append(Node(place, number, number < len(bounds) - 2 and not is_last))
    return made


def cells(sequence: ScoredSequence, window: int) -> torch.Tensor:
    """What sees what, cell by cell."""
    seen = [
        [
            q.place - window < k.place <= q.place and (k.block == q.block if q.alone else k.read)
            for k in nodes(sequence)
        ]
        for q in nodes(sequence)
    ]
    mask = torch.zeros(len(seen), len(seen)).masked_fill(~torch.tensor(seen), torch.finfo(torch.float32).min)
    return mask[None, None]


def textbook(model: LanguageModel, sequence: ScoredSequence) -> tuple[torch.Tensor, object]:
    """log p of the targets, and the pass's cache, of which the text's own nodes are `read_nodes`."""
    n, config = len(sequence.tokens), model.hf.config
    window = config.to_dict().get("sliding_window") or n
    kinds = getattr(config, "layer_types", None) or []
    by_kind = {"sliding_attention": cells(sequence, window), "full_attention": cells(sequence, n)}
    chosen = {kind: by_kind[kind] for kind in set(kinds)} or by_kind["sliding_attention"]
    if isinstance(chosen, dict) and len(chosen) == 1:
        (chosen,) = chosen.values()
    tokens, places = torch.from_numpy(sequence.tokens), torch.tensor([node.place for node in nodes(sequence)])
    out = model.hf(input_ids=tokens[places][None], attention_mask=chosen, position_ids=places[None])
    rows = out.logits[0, read_nodes(sequence)[sequence.targets - 1]].log_softmax(-1)
    return rows.gather(1, tokens[torch.from_numpy(sequence.targets), None]).sum(), out.past_key_values


def read_nodes(sequence: ScoredSequence) -> Ints:
    """For each token of the text the node that is read behind it."""
    return np.array([i for i, node in enumerate(nodes(sequence)) if node.read])


@pytest.mark.parametrize("again", [False, True], ids=["last", "first"])
@pytest.mark.parametrize("links", [1, 3, 8])
@pytest.mark.parametrize("variant", LINKED)
def test_links_see_all_before_them_with_gradients(variant: str, links: int, again: bool) -> None:
    model = made(variant)
    weighted = ((0, LISTS), (1, [(1, 2)]), (0, [(2, 0)]))
    groups = [linked(seed, lists, links, again) for seed, lists in weighted]
    shared = torch.cat(sequence_log_probs(model, [SequenceGroup.of(g) for g in groups]))
    assert model.shares_blocks is True
    weights = torch.linspace(-1, 1, len(shared))
    (shared * weights).sum().backward()
    ours = slopes(model)
    separate = torch.stack([textbook(model, s)[0] for g in groups for s in g])
    (separate * weights).sum().backward()
    expected = slopes(model)
    assert (shared - separate).abs().max() <= 1e-5 * max(1.0, float(separate.detach().abs().max()))
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1.0, float(b.abs().max()))
    without = textbook(model, drawn(0, LISTS)[0])[0]
    assert (without - separate[0]).abs() > 1e-3


@pytest.mark.parametrize("again", [False, True], ids=["last", "first"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_cache_is_that_of_a_pass(shared: bool, again: bool) -> None:
    model = made()
    model.shares_blocks = shared
    sequences = linked(0, [(0, 1, 2), (2, 0), (3,)], 2, again)
    texts = [BlockText(s.tokens, s.blocks, s.links) for s in sequences if s.blocks is not None]
    cache = block_cache(model, texts)
    for row, s in enumerate(sequences):
        alone = ScoredSequence(s.tokens[:-1], s.targets[:-1], blocks=s.blocks, links=s.links)
        with torch.no_grad():
            expected = textbook(model, alone)[1]
        for ours, other in zip(cache.layers, expected.layers, strict=True):  # type: ignore[attr-defined]
            for a, every in ((ours.keys, other.keys), (ours.values, other.values)):
                b = every[:, :, read_nodes(alone)]
                assert (a[row, :, -b.shape[2] :] - b[0]).abs().max() <= 1e-5


@pytest.mark.parametrize("again", [False, True], ids=["last", "first"])
def test_what_is_kept_of_a_passage_is_all_but_its_links(again: bool) -> None:
    """A second list finds every block's own tokens known, and its links are computed for it."""
    model, sequences = made(), linked(0, [(0, 1, 2), (2, 1, 0)], 2, again)
    expected = [score_all(model, [SequenceGroup.of([s])], 10_000)[0][0] for s in sequences]
    model.passage_states = PassageStates(2**20)
    for s, value in zip(sequences, expected, strict=True):
        assert score_all(model, [SequenceGroup.of([s])], 10_000)[0][0] == pytest.approx(value, abs=1e-5)
    assert model.passage_states.misses == 4 and model.passage_states.hits == 4


def test_a_row_has_each_block_once_and_links_for_each_list() -> None:
    first, second = linked(0, [(0, 1), (1, 0)], 2)
    row = BlockRow.build(
        [BlockText(s.inputs, s.blocks, s.links) for s in (first, second) if s.blocks is not None]
    )
    assert [len(block) for block in row.blocks] == [4, 5, 10]
    for s, path in zip((first, second), row.paths, strict=True):
        assert row.tokens[path].tolist() == s.inputs.tolist()
    each = row.lists[0]
    assert each.starts.tolist() == [0, 4, 11] and each.places[:4].tolist() == [9, 10, 21, 22]
    assert np.array_equal(each.places[4:], 23 + np.arange(len(each.places) - 4))


def test_a_row_has_first_tokens_twice() -> None:
    """In their block, and for each list at their places, which are read in their stead."""
    first, second = linked(0, [(0, 1), (1, 0)], 2, again=True)
    row = BlockRow.build(
        [BlockText(s.inputs, s.blocks, s.links) for s in (first, second) if s.blocks is not None]
    )
    assert [len(block) for block in row.blocks] == [4, 7, 12]
    for s, path in zip((first, second), row.paths, strict=True):
        assert row.tokens[path].tolist() == s.inputs.tolist()
    each = row.lists[0]
    assert each.starts.tolist() == [0, 4, 11] and each.places[:4].tolist() == [4, 5, 11, 12]
    assert np.flatnonzero(~each.read).tolist() == [4, 5, 11, 12]


@pytest.mark.parametrize("again", [False, True], ids=["last", "first"])
def test_all_tokens_are_scored_as_in_a_pass(again: bool) -> None:
    """All but the first of each block, links among them."""
    model = made()
    sequences = [s.whole() for s in linked(0, [(0, 1, 2), (2, 1, 0), (0, 1, 2)], 2, again)]
    values = sequence_log_probs(model, [SequenceGroup.of(sequences)])[0]
    expected = torch.stack([textbook(model, s)[0] for s in sequences])
    assert (values - expected).abs().max() <= 1e-5 * float(expected.detach().abs().max())
