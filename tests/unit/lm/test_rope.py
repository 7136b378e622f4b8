"""Frequencies that depend on a sequence's length: what is computed beside a sequence must not change it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ragdro.lm.decoding import branch_decoder
from ragdro.lm.model import LanguageModel
from ragdro.lm.rope import LengthClasses
from ragdro.lm.scoring import SequenceGroup, sequence_log_probs
from ragdro.lm.tokens import TextTokenizer
from ragdro.lm.tree import ScoredSequence
from tests.conftest import byte_level

SWITCH = 40
LONG_ROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4,
    "long_factor": [1.0, 2.0, 5.0, 20.0], "original_max_position_embeddings": SWITCH, "factor": 8.0,
}  # fmt: skip
KINDS = {
    "phi3": ({"max_position_embeddings": 320, "original_max_position_embeddings": SWITCH}, LONG_ROPE),
    "llama": (
        {"max_position_embeddings": SWITCH},
        {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
    ),
}


def made(kind: str) -> LanguageModel:
    settings, rope = KINDS[kind]
    tokenizer = byte_level()
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3, pad_token_id=0,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, rope_parameters=rope, **settings,
    )  # fmt: skip
    hf = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    return LanguageModel(hf, TextTokenizer(tokenizer, name=kind))


def alone(kind: str, tokens: np.ndarray) -> torch.Tensor:
    """log p over the vocabulary behind `tokens`: a fresh model's, which has computed nothing before."""
    with torch.no_grad():
        return made(kind).hf(input_ids=torch.from_numpy(tokens)[None]).logits[0, -1].log_softmax(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_is_the_models_own_whatever_is_in_the_batch(kind: str) -> None:
    """Prefixes far below, far above and on both sides of the switch; with gradients."""
    model, rng = made(kind), np.random.default_rng(0)
    trunk = rng.integers(5, 300, 60)
    sequences = [
        [ScoredSequence(np.append(trunk[:n], rng.integers(5, 300, 4)), np.arange(n, n + 4)) for _ in range(2)]
        for n in (20, 55, SWITCH - 2)
    ]
    expected = [
        [float(sum(alone(kind, s.tokens[:t])[s.tokens[t]] for t in s.targets)) for s in group]
        for group in sequences
    ]
    for order in ([0, 1, 2], [2, 0], [1, 2, 0], [0]):
        values = sequence_log_probs(model, [SequenceGroup.of(sequences[i]) for i in order])
        for i, log_probs in zip(order, values, strict=True):
            assert log_probs.tolist() == pytest.approx(expected[i], abs=1e-3)
    assert model.shares_prefixes is True and values[0].requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_decoded_is_the_models_own_at_every_step(kind: str) -> None:
    """Branches that stay below the switch, that are beyond it, and that pass it, one earlier than another."""
    model, rng = made(kind), np.random.default_rng(1)
    prompts = [rng.integers(5, 300, n) for n in (12, 50, SWITCH - 3, SWITCH, SWITCH + 1, 20)]
    decoder = branch_decoder(model, prompts, 2)
    written = [[p.tolist(), p.tolist()] for p in prompts]
    branches = [(r, b) for r in range(len(prompts)) for b in range(2)]
    vocabulary, allowed = torch.arange(300), torch.ones(len(branches), 300, dtype=torch.bool)
    with torch.no_grad():
        for _ in range(3):
            step = [[rng.integers(5, 300, b + 1).tolist() for b in range(2)] for _ in prompts]
            decoder.feed(step)
            for r, row in enumerate(step):
                for b, tokens in enumerate(row):
                    written[r][b] += tokens
            rows = decoder.choice_logits(branches, vocabulary, allowed)
            for (r, b), logits in zip(branches, rows, strict=True):
                own = alone(kind, np.array(written[r][b]))[:300]
                assert torch.allclose(logits.log_softmax(-1), own.log_softmax(-1), atol=1e-3), (r, b)
    assert model.shares_cache is True and model.fallbacks == 0


def test_which_lengths_go_together() -> None:
    classes = LengthClasses((40,), growing=False)
    assert [classes.of(n) for n in (1, 40, 41, 400)] == [0, 0, 1, 1]
    assert classes.apart([(10, 20), (39, 44), (50, 60), (5, 40), (38, 41)]) == [[0, 3], [1], [2], [4]]
    growing = LengthClasses((40,), growing=True)
    assert len({growing.of(n) for n in (40, 41, 42, 43)}) == 4
