"""Logits of models with a cap or a factor behind their head against the models' own, after training too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ragdro.algorithms.examples import TrainingExample
from ragdro.config import Optimisation
from ragdro.lm.head import LogitTransform, logit_transform
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, sequence_log_probs
from ragdro.lm.tokens import TextTokenizer
from ragdro.training.m_step import fit
from tests.conftest import byte_level
from tests.unit.lm.test_scoring import sequences, textbook

_WIDE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_HEADS = {**_WIDE, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 1.0}
KINDS: dict[str, tuple[dict[str, object], LogitTransform]] = {
    "llama": (_HEADS, LogitTransform()),
    "mistral": (_HEADS, LogitTransform()),
    "qwen3": (_HEADS, LogitTransform()),
    "phi3": ({**_HEADS, "pad_token_id": 0}, LogitTransform()),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 1.0}, LogitTransform()),
    "opt": (
        {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "init_std": 1.0},
        LogitTransform(),
    ),
    "gemma2": ({**_HEADS, "final_logit_softcapping": 30.0}, LogitTransform(cap=30.0)),
    "gemma3_text": ({**_HEADS, "final_logit_softcapping": 20.0}, LogitTransform(cap=20.0)),
    "cohere": ({**_HEADS, "logit_scale": 0.0625}, LogitTransform(scale=0.0625)),
    "granite": ({**_HEADS, "logits_scaling": 6.0, "residual_multiplier": 0.5}, LogitTransform(scale=1 / 6)),
}  # fmt: skip


def made(kind: str) -> LanguageModel:
    tokenizer = byte_level()
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, **KINDS[kind][0],
    )  # fmt: skip
    attention = "eager" if kind == "gemma2" else "sdpa"
    hf = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    return LanguageModel(hf, TextTokenizer(tokenizer, name=kind))


@pytest.mark.parametrize("kind", KINDS)
def test_shared_logits_are_the_models_own_before_and_after_training(kind: str) -> None:
    model, expected = made(kind), KINDS[kind][1]
    transform = model.logit_transform
    assert transform is not None and transform.cap == expected.cap
    assert transform.scale == pytest.approx(expected.scale, rel=1e-5)
    groups = [sequences(s, 300, constrained) for s in range(2) for constrained in (False, True)]
    for trained in (False, True):
        if trained:
            settings = Optimisation(learning_rate=1e-2, epochs=2, batch_size=1, max_grad_norm=100)
            built = TrainingExample("q", SequenceGroup.of(groups[0]), (1.0,) * len(groups[0]))
            fit(model, 1, lambda _, built=built: built, settings, np.random.default_rng(0))  # type: ignore[misc]
        with torch.no_grad():
            model.shares_prefixes = True  # believed: what is compared is the shared way itself
            shared = torch.cat(sequence_log_probs(model, [SequenceGroup.of(g) for g in groups]))
            own = torch.stack([textbook(model, s) for g in groups for s in g])
            logits = model.hf(input_ids=torch.arange(5, 60)[None]).logits
        assert float(logits.abs().max()) > 5 * expected.scale  # where a cap of 20 shows
        assert shared.double().numpy() == pytest.approx(own.numpy(), abs=1e-3)


def test_logits_that_are_bent_otherwise_are_not_understood() -> None:
    model = made("llama")
    plain = model.hf.forward

    def bent(*args: object, **kwargs: object) -> object:
        output = plain(*args, **kwargs)
        output.logits = output.logits.clamp(-30, 30)
        return output

    model.hf.forward = bent
    assert logit_transform(model.hf) is None
