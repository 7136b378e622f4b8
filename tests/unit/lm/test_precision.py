"""What 16 bits may and may not touch: trained weights, and the comparison of shared with separate passes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from ragdro.algorithms.examples import TrainingExample
from ragdro.config import LoraAdapter, ModelSettings, Optimisation
from ragdro.errors import ModelError
from ragdro.lm.adapters import with_adapter
from ragdro.lm.decoding import BranchDecoder, branch_decoder
from ragdro.lm.exact import exactly
from ragdro.lm.load import autocast_dtype, weights_dtype
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, sequence_log_probs
from ragdro.lm.tree import ScoredSequence
from ragdro.training.m_step import fit
from tests.conftest import byte_level, random_model

CPU = torch.device("cpu")


def question(i: int) -> TrainingExample:
    rng = np.random.default_rng(i)
    tokens = [np.concatenate([np.arange(5, 25), rng.integers(5, 300, 8)]) for _ in range(3)]
    return TrainingExample(
        f"q{i}", SequenceGroup.of([ScoredSequence(t, np.arange(20, 28)) for t in tokens]), (0.5, 0.3, 0.2)
    )


def moved(model: LanguageModel, rate: float) -> torch.Tensor:
    """What a fit of sixteen updates adds to the weights."""
    before = [p.detach().double().clone() for p in model.hf.parameters()]
    settings = Optimisation(learning_rate=rate, epochs=4, batch_size=2, weight_decay=0.0)
    fit(model, 8, question, settings, np.random.default_rng(0))
    pairs = zip(model.hf.parameters(), before, strict=True)
    return torch.cat([(p.detach().double() - b).flatten() for p, b in pairs])


@pytest.mark.parametrize("rate", [1e-5, 1e-6])
def test_a_fit_in_bfloat16_moves_the_weights_as_one_in_float32(rate: float) -> None:
    made = [random_model(byte_level(), initializer_range=0.02) for _ in range(2)]
    made[1].autocast = torch.bfloat16
    plain, mixed = (moved(model, rate) for model in made)
    assert float(torch.nn.functional.cosine_similarity(plain, mixed, dim=0)) >= 0.99
    assert 0.98 < float(mixed.norm() / plain.norm()) < 1.02


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_16_bits_are_refused_by_a_fit(dtype: torch.dtype) -> None:
    model = random_model(byte_level())
    model.hf.to(dtype)
    with pytest.raises(ModelError, match=r"llama: model\.embed_tokens\.weight .* amp: bfloat16"):
        moved(model, 1e-5)


def test_dtype_is_of_frozen_weights_and_of_products() -> None:
    half = ModelSettings(model="m", dtype="bfloat16")
    assert weights_dtype(half) == torch.float32 and autocast_dtype(half, CPU) == torch.bfloat16
    assert weights_dtype(half, trained=False) == torch.bfloat16
    assert autocast_dtype(half, CPU, trained=False) is None
    adapted = ModelSettings(model="m", dtype="bfloat16", adapter=LoraAdapter())
    assert weights_dtype(adapted) == torch.bfloat16 and autocast_dtype(adapted, CPU) is None
    assert autocast_dtype(ModelSettings(model="m"), CPU) is None


def noisy(kind: str) -> LanguageModel:
    """A model of which rounding to 16 bits moves a token by more than 0.1 nats."""
    model = random_model(byte_level(), hidden_size=64, num_hidden_layers=6, initializer_range=0.3)
    with torch.no_grad():
        model.hf.get_output_embeddings().weight.mul_(25)
    if kind == "autocast":
        model.autocast = torch.bfloat16
        return model
    model.hf.to(torch.bfloat16)
    return with_adapter(model, "selector", LoraAdapter(), seed=0) if kind == "adapter" else model


@pytest.mark.parametrize("kind", ["autocast", "weights", "adapter"])
def test_rounding_is_not_taken_for_a_wrong_computation(kind: str) -> None:
    model, prompts = noisy(kind), [np.arange(5, 60), np.arange(30, 50)]
    groups = [question(i).group for i in range(2)]
    before = [p.detach().clone() for p in model.hf.parameters()]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        shared = torch.cat(sequence_log_probs(model, groups))
        assert isinstance(branch_decoder(model, prompts, 2), BranchDecoder)
        model.shares_prefixes = False
        separate = torch.cat(sequence_log_probs(model, groups))
    assert float((shared - separate).abs().max()) / 8 > 0.1  # by its own numbers it would be given up
    assert model.fallbacks == 6
    for a, b in zip(model.hf.parameters(), before, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


def test_a_model_of_16_bits_computes_in_float32_for_a_moment() -> None:
    model, exact = noisy("weights"), noisy("weights")
    exact.hf.float()
    ids = torch.arange(5, 40)[None]
    with torch.no_grad(), exactly(model):
        assert torch.allclose(model.hf(ids).logits, exact.hf(ids).logits, atol=1e-4)
    assert model.hf(ids).logits.dtype == torch.bfloat16


@contextmanager
def blind_beyond(model: LanguageModel, length: int) -> Iterator[None]:
    """The model's shared pass is wrong in sequences longer than `length`."""
    plain = model.tree_hidden

    def wrong(tree: object) -> torch.Tensor:
        hidden = plain(tree)  # type: ignore[arg-type]
        far = torch.from_numpy(tree.positions >= length)  # type: ignore[attr-defined]
        return torch.where(far[:, None], hidden.flip(1), hidden)

    model.tree_hidden = wrong  # type: ignore[method-assign]
    yield
    model.tree_hidden = plain  # type: ignore[method-assign]


def test_long_sequences_are_looked_at_too_and_again_after_a_fit() -> None:
    short = question(0).group
    long = SequenceGroup.of([ScoredSequence(np.arange(5, 105), np.arange(90, 100))])
    model = random_model(byte_level())
    with blind_beyond(model, 60):
        with pytest.warns(RuntimeWarning, match="scored separately"):
            sequence_log_probs(model, [short, long])
        assert model.shares_prefixes is False and model.fallbacks == 4
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # said once
            model.recheck()
            sequence_log_probs(model, [short, long])
    moved(model, 1e-5)
    assert model.shares_prefixes is None
    sequence_log_probs(model, [short, long])
    assert model.shares_prefixes is True
