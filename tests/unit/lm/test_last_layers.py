"""Blocks whose last layers read ordinary text, against the model's own passes under a mask for each layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from ragdro.errors import ConfigError
from ragdro.lm.block_cache import block_cache
from ragdro.lm.blocks import BlockText
from ragdro.lm.last_layers import LastLayers
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, score_all, sequence_log_probs
from ragdro.lm.tree import ScoredSequence
from ragdro.profiling import Profile, profiled
from tests.conftest import byte_level, random_model
from tests.unit.lm.test_blocks import LISTS, MIXED, VARIANTS, drawn, slopes

DEPTH, LAST = 4, 2
KINDS = ["sliding_attention", "full_attention"] * 2
DEEP: dict[str, dict[str, object]] = {
    "llama": {},
    "mistral-window": VARIANTS["mistral-window"],
    "gemma3_text": {**VARIANTS["gemma3_text"], "layer_types": KINDS},
    "phi": VARIANTS["phi"],
    "cohere2": {**MIXED, "layer_types": KINDS},
    "smollm3": {"no_rope_layers": [1, 0, 1, 0]},
    "qwen3": VARIANTS["qwen3"],
}


def deep(variant: str = "llama", last: int = LAST) -> LanguageModel:
    settings = {"num_key_value_heads": 2, "pad_token_id": 0, **DEEP[variant], "num_hidden_layers": DEPTH}
    model = random_model(byte_level(), variant.split("-")[0], **{"initializer_range": 0.2, **settings})
    model.last_layers = LastLayers(model.hf, last, variant)
    return model


@contextmanager
def masked(model: LanguageModel, sequence: ScoredSequence, last: int) -> Iterator[torch.Tensor]:
    """Every layer has a mask of its own within, made cell by cell: blocks in the first, all in the last."""
    ends, n, config = sequence.blocks, len(sequence.tokens), model.hf.config
    assert ends is not None
    own = [sum(int(end) <= i for end in ends) for i in range(n)]

    def mask(number: int) -> torch.Tensor:
        kinds = getattr(config, "layer_types", None)
        sliding = kinds is None or kinds[number] == "sliding_attention"
        window = (config.to_dict().get("sliding_window") or n) if sliding else n
        seen = [
            [
                q - window < k <= q and (number >= DEPTH - last or own[q] in (own[k], len(ends)))
                for k in range(n)
            ]
            for q in range(n)
        ]
        return torch.zeros(n, n).masked_fill(~torch.tensor(seen), torch.finfo(torch.float32).min)[None, None]

    def hook(number: int) -> Any:
        made = mask(number)
        return lambda module, inputs, named: (inputs, {**named, "attention_mask": made})

    hooks = [
        layer.register_forward_pre_hook(hook(i), with_kwargs=True)
        for i, layer in enumerate(model.hf.get_decoder().layers)
    ]
    yield torch.from_numpy(sequence.tokens)[None]
    for each in hooks:
        each.remove()


def textbook(model: LanguageModel, sequence: ScoredSequence, last: int = LAST) -> torch.Tensor:
    with masked(model, sequence, last) as ids:
        logits = model.hf(
            input_ids=ids, position_ids=torch.arange(ids.shape[1])[None], use_cache=False
        ).logits[0]
    rows = logits[sequence.targets - 1].log_softmax(-1)
    return rows.gather(1, torch.from_numpy(sequence.tokens[sequence.targets])[:, None]).sum()


@pytest.mark.parametrize("variant", [*DEEP, "checkpointing", "three"])
def test_the_last_layers_see_all_with_gradients(variant: str) -> None:
    last = 3 if variant == "three" else LAST
    model = deep(variant if variant in DEEP else "llama", last)
    if variant == "checkpointing":
        model.hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.hf.train()
    groups = [drawn(0, LISTS), drawn(1, [(1, 2)]), drawn(0, [(2, 0)])]
    shared = torch.cat(sequence_log_probs(model, [SequenceGroup.of(g) for g in groups]))
    assert model.shares_blocks is True
    weights = torch.linspace(-1, 1, len(shared))
    (shared * weights).sum().backward()
    ours = slopes(model)
    model.hf.gradient_checkpointing_disable()  # the masks' hooks are gone when it would compute again
    separate = torch.stack([textbook(model, s, last) for g in groups for s in g])
    (separate * weights).sum().backward()
    expected = slopes(model)
    assert (shared - separate).abs().max() <= 1e-5 * max(1.0, float(separate.detach().abs().max()))
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1.0, float(b.abs().max()))
    other = textbook(model, groups[0][0], 0)
    assert (other - separate[0]).abs() > 2e-3


def test_a_cache_is_that_of_a_pass() -> None:
    model = deep()
    sequences = drawn(0, [(0, 1, 2), (2, 0), (3,)])
    cache = block_cache(model, [BlockText(s.tokens, s.blocks) for s in sequences if s.blocks is not None])
    for row, sequence in enumerate(sequences):
        alone = ScoredSequence(sequence.tokens[:-1], sequence.targets[:-1], blocks=sequence.blocks)
        with torch.no_grad(), masked(model, alone, LAST) as ids:
            expected = model.hf(input_ids=ids, position_ids=torch.arange(ids.shape[1])[None]).past_key_values
        for ours, other in zip(cache.layers, expected.layers, strict=True):
            for a, b in ((ours.keys, other.keys), (ours.values, other.values)):
                assert (a[row, :, -b.shape[2] :] - b[0]).abs().max() <= 1e-5


def test_upper_layers_are_shared_as_far_as_lists_begin_alike() -> None:
    """Of [0 1 2] and [0 1 3] the last layers compute what stands before the third passage once."""
    model = deep()
    sequences = drawn(0, [(0, 1, 2), (0, 1, 3)])
    sequence_log_probs(model, [SequenceGroup.of(sequences)])
    seen: list[int] = []
    for layer in model.hf.get_decoder().layers:
        layer.mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    sequence_log_probs(model, [SequenceGroup.of(sequences)])
    tails = sum(len(s.inputs) - int(s.blocks[-1]) for s in sequences if s.blocks is not None)
    blocks = 4 + 7 + 12 + 3 + 10
    assert seen == [blocks + tails] * 4  # here both ways have each block once


def test_the_profile_counts_what_each_layer_computes() -> None:
    """Two lists of the same passages in another order: the last layers have every token but the first block's
    twice, the others the tails alone."""
    model, sequences = deep(), drawn(0, [(0, 1, 2), (2, 1, 0)])
    group = SequenceGroup.of(sequences)
    score_all(model, [group], 10_000)
    with profiled(Profile(1.0)) as profile:
        score_all(model, [group], 10_000)
    twice = np.concatenate([np.arange(4), *(np.arange(4, len(s.inputs)) for s in sequences)])
    layers = [model.flops(torch.from_numpy(p)) for p in (group.positions, twice)]
    head = 2.0 * model.width * len(model.tokenizer.hf) * sum(len(s.targets) for s in sequences)
    assert sum(profile.flops.values()) == pytest.approx(sum(layers) / 2 + head)


def test_one_layer_alone_changes_nothing() -> None:
    """What passages take in in the last layer nobody reads: so it is refused."""
    model, sequence = deep(), drawn(0, LISTS)[0]
    assert float(textbook(model, sequence, 1).detach()) == float(textbook(model, sequence, 0).detach())
    with pytest.raises(ConfigError, match=r"generator\.full_layers.*nothing"):
        LastLayers(model.hf, 1, "llama")


def test_what_cannot_be_is_refused_by_the_key() -> None:
    with pytest.raises(ConfigError, match=r"generator\.full_layers.*has 2 layers"):
        LastLayers(random_model(byte_level()).hf, 2, "llama")


def test_two_of_one_model_do_not_meet() -> None:
    """Another number of last layers takes the place of the first: neither has its tokens twice."""
    model, sequences = deep(), drawn(0, LISTS)
    model.last_layers = LastLayers(model.hf, 3, "llama")
    values = sequence_log_probs(model, [SequenceGroup.of(sequences)])[0]
    expected = torch.stack([textbook(model, s, 3) for s in sequences])
    assert (values - expected).abs().max() <= 1e-5 * float(expected.detach().abs().max())
