"""Dropout on both sides of a ratio or on neither."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from ragdro.algorithms.examples import TrainingExample
from ragdro.algorithms.losses import weighted_loss
from ragdro.config import LoraAdapter, Optimisation
from ragdro.lm.adapters import with_adapter
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, score_all, sequence_log_probs
from ragdro.lm.tokens import TextTokenizer
from ragdro.lm.tree import ScoredSequence
from ragdro.training.m_step import fit
from tests.conftest import byte_level

KINDS: dict[str, dict[str, object]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "opt": {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "layerdrop": 0.5},
    "llama": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
              "attention_dropout": 0.3},
}  # fmt: skip


def made(kind: str, *, checkpointing: bool = False) -> LanguageModel:
    tokenizer = byte_level()
    torch.manual_seed(0)
    name = "llama" if kind == "lora" else kind
    config = AutoConfig.for_model(
        name, vocab_size=len(tokenizer), max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, **KINDS[name],
    )  # fmt: skip
    hf = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    with torch.no_grad():
        for p in hf.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    if checkpointing:
        hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model = LanguageModel(hf, TextTokenizer(tokenizer, name=kind))
    if kind == "lora":
        model = with_adapter(model, "selector", LoraAdapter(dropout=0.3, rank=4), seed=0)
        for key, p in model.hf.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(p, std=0.3)
    return model


def group(i: int) -> SequenceGroup:
    rng = np.random.default_rng(i)
    tokens = [np.concatenate([np.arange(5, 25), rng.integers(5, 300, 8)]) for _ in range(3)]
    return SequenceGroup.of([ScoredSequence(t, np.arange(20, 28)) for t in tokens])


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "lora"])
def test_ratios_are_one_at_the_first_update(kind: str, checkpointing: bool) -> None:
    """A loss that compares with stored values sees the very values; one that does not has its dropout."""
    if kind == "lora":
        pytest.importorskip("peft")
    model, seen = made(kind, checkpointing=checkpointing), []
    stored = torch.tensor(score_all(model, [group(0)], 10_000)[0])

    def ratios(weights: Tensor, log_probs: Tensor) -> Tensor:
        seen.append((log_probs.detach() - stored).exp())
        return -(weights * (log_probs - stored).exp()).sum()

    settings = Optimisation(learning_rate=1e-9, batch_size=1)
    compared = TrainingExample("q", group(0), (1.0, 0.5, 0.2), ratios)
    fit(model, 1, lambda _: compared, settings, np.random.default_rng(0))
    assert seen[0].tolist() == pytest.approx([1.0] * 3, abs=1e-3)


@pytest.mark.parametrize("kind", [*KINDS, "lora"])
def test_a_loss_of_its_own_log_probabilities_has_dropout(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "lora":
        pytest.importorskip("peft")
    model, values = made(kind), []
    stored = torch.tensor(score_all(model, [group(0)], 10_000)[0])

    def spied(model: LanguageModel, groups: list[SequenceGroup]) -> list[Tensor]:
        log_probs = sequence_log_probs(model, groups)
        values.append(log_probs[0].detach())
        return log_probs

    monkeypatch.setattr("ragdro.training.m_step.log_probs", spied)
    plain = TrainingExample("q", group(0), (1.0, 0.5, 0.2))
    assert plain.loss is weighted_loss and not plain.compares
    fit(model, 1, lambda _: plain, Optimisation(learning_rate=1e-9), np.random.default_rng(0))
    assert float((values[0] - stored).abs().max()) > 0.01
    assert score_all(model, [group(0)], 10_000)[0] == pytest.approx(stored.tolist(), abs=1e-3)


def test_what_is_saved_keeps_its_dropout() -> None:
    assert made("llama").hf.config.attention_dropout == 0.3
    assert [site.p for site in made("llama").dropout_sites] == [0.3, 0.3]
