"""Passages kept across questions: equal to computing them, within the budget, never of other weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ragdro.config.models import LoraAdapter
from ragdro.lm.adapters import with_adapter
from ragdro.lm.block_cache import block_cache
from ragdro.lm.blocks import BlockText
from ragdro.lm.model import LanguageModel
from ragdro.lm.passage_states import LayerStates, PassageStates, Weights
from ragdro.lm.scoring import SequenceGroup, score_all, sequence_log_probs
from ragdro.lm.snapshot import WeightSnapshot
from tests.conftest import byte_level, random_model
from tests.unit.lm.test_blocks import LISTS, VARIANTS, drawn

ROOM = 2**30
LATER = [(3, 0), (0, 1, 2), (2,)]
"""Lists of blocks that LISTS has too."""


def scores(model: LanguageModel, seed: int = 0, lists: list[tuple[int, ...]] = LATER) -> list[float]:
    return score_all(model, [SequenceGroup.of(drawn(seed, lists))], 10_000)[0]


def storing(architecture: str = "llama", **settings: object) -> tuple[LanguageModel, PassageStates]:
    """A model that has read all blocks of the lists."""
    model = random_model(byte_level(), architecture, **settings)
    scores(model, lists=LISTS)  # whether blocks are shared is looked at
    model.passage_states = PassageStates(ROOM)
    scores(model, lists=LISTS)
    return model, model.passage_states


def computed(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each pass computes, from now on."""
    tokens, planned = list[int](), LanguageModel._planned
    monkeypatch.setattr(
        LanguageModel, "_planned", lambda self, t, *rest: tokens.append(t.shape[1]) or planned(self, t, *rest)
    )
    return tokens


@pytest.mark.parametrize(
    "variant", ["llama", "mistral-window", "gemma3_text", "phi", "cohere2", "smollm3", "bfloat16"]
)
def test_what_is_kept_gives_what_is_computed(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"num_key_value_heads": 2, "pad_token_id": 0, **VARIANTS.get(variant, {})}
    architecture = "llama" if variant == "bfloat16" else variant.split("-")[0]
    model, store = storing(architecture, **settings)
    model.autocast = torch.bfloat16 if variant == "bfloat16" else None
    if model.autocast is not None:
        assert scores(model) and store.misses == 10  # five of each dtype: those of float32 are not taken
    hits, tokens = store.hits, computed(model, monkeypatch)
    kept = scores(model)
    assert store.hits == hits + 5
    tails = sum(len(each.tail) for each in SequenceGroup.of(drawn(0, LATER)).tree.lists)  # type: ignore[union-attr]
    assert tokens == [tails]
    model.passage_states = None
    assert kept == pytest.approx(scores(model), abs=1e-5 if variant != "bfloat16" else 0.1)
    assert len(set(np.round(kept, 3))) == len(LATER)


def test_a_cache_of_what_is_kept_is_that_of_a_pass() -> None:
    """Of texts that end one token behind their blocks, too: then nothing is left but to turn keys."""
    model, store = storing()
    texts = [BlockText(s.inputs, s.blocks) for s in drawn(0, LATER) if s.blocks is not None]
    short = [BlockText(text.tokens[: int(text.ends[-1]) + 1], text.ends) for text in texts]
    for read in (texts, short):
        misses = store.misses
        kept = block_cache(model, read)
        assert store.misses == misses
        model.passage_states = None
        expected = block_cache(model, read)
        model.passage_states = store
        for ours, other in zip(kept.layers, expected.layers, strict=True):
            for a, b in ((ours.keys, other.keys), (ours.values, other.values)):
                assert a.shape == b.shape and (a - b).abs().max() <= 1e-5
            assert float(ours.keys.abs().max()) > 0.1


def states(size: int) -> LayerStates:
    """Of `size` bytes."""
    return {0: (torch.zeros(1, 1, size // 8, 1), torch.zeros(1, 1, size // 8, 1))}


def test_the_longest_unused_is_given_up_within_the_budget() -> None:
    store, weights = PassageStates(100), Weights("model", 1)
    names = {name: np.array([ord(name)]) for name in "abcd"}
    for name in "ab":
        store.add(weights, names[name], states(40))
    assert store.bytes == 80 and store.find(weights, names["a"]) is not None
    store.add(weights, names["c"], states(40))  # 120: 'b' has been unused for longest
    assert [store.find(weights, names[n]) is not None for n in "abc"] == [True, False, True]
    store.add(weights, names["d"], states(104))
    assert (store.bytes, len(store), store.hits, store.misses) == (80, 2, 3, 1)
    store.add(weights, names["b"], states(64))
    assert (store.bytes, len(store)) == (64, 1)
    store.add(weights, names["b"], states(64))  # a row without tails computes one of its blocks in any case
    assert (store.bytes, len(store)) == (64, 1)


def test_other_models_and_versions_have_their_own() -> None:
    store, tokens = PassageStates(1000), np.array([1, 2])
    for model in "mn":
        store.add(Weights(model, 1), tokens, states(40))
        assert store.find(Weights(model, 1), tokens) is not None
    assert store.find(Weights("m", 2), tokens) is None
    assert (store.bytes, len(store)) == (40, 1)
    assert store.find(Weights("n", 1), tokens) is not None


def step(model: LanguageModel) -> None:
    optimiser = torch.optim.AdamW(model.hf.parameters(), lr=0.01)
    values = sequence_log_probs(model, [SequenceGroup.of(drawn(0, LATER))])[0]
    values.sum().backward()
    optimiser.step()


def reload(model: LanguageModel) -> None:
    other = WeightSnapshot("other", random_model(byte_level(), seed=7))
    other.model = model
    other.load()


@pytest.mark.parametrize("change", [step, reload])
def test_changed_weights_have_nothing_kept(change: object) -> None:
    model, store = storing()
    before = scores(model)
    change(model)  # type: ignore[operator]
    after = scores(model)
    model.passage_states = None
    assert after == scores(model) and after != pytest.approx(before, abs=1e-2)
    assert len(store) == 5  # the first block and four passages, of the new weights alone


def test_a_pass_with_gradients_keeps_and_takes_nothing() -> None:
    model, store = storing()
    asked, held = store.hits + store.misses, len(store)
    sequence_log_probs(model, [SequenceGroup.of(drawn(1, LISTS))])[0].sum().backward()
    assert (store.hits + store.misses, len(store)) == (asked, held)
    assert model.hf.get_input_embeddings().weight.grad.abs().max() > 0


def test_adapters_on_one_base_do_not_share() -> None:
    base = random_model(byte_level())
    one, two = (
        with_adapter(base, name, LoraAdapter(rank=2, alpha=8.0), seed=i) for i, name in enumerate("ab")
    )
    for name, p in one.hf.named_parameters():
        if "lora_B" in name:
            p.data.normal_(0, 0.3)
    alone = [scores(model) for model in (one, two)]
    assert alone[0] != pytest.approx(alone[1], abs=1e-2)
    one.passage_states = two.passage_states = PassageStates(ROOM)
    for _ in range(2):
        for model, expected in zip((one, two), alone, strict=True):
            assert scores(model) == pytest.approx(expected, abs=1e-5)
    assert one.passage_states.hits == 10 == one.passage_states.misses
