"""Prompts read into a cache a few at a time and not to the end, against one pass over all of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers.cache_utils import DynamicCache

from ragdro.lm import prefill as module
from ragdro.lm.model import LanguageModel
from ragdro.lm.prefill import prefill
from ragdro.profiling import Profile, profiled
from tests.conftest import byte_level, random_model
from tests.unit.lm.test_scoring import VARIANTS

RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(5, 300, size) for size in (11, 3, 14, 0, 7, 1)]


def textbook(model: LanguageModel, prompt: np.ndarray) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each layer's keys and values of one prompt, from a whole pass of the library's own."""
    cache = DynamicCache()
    with torch.no_grad():
        model.hf(input_ids=torch.from_numpy(prompt)[None], past_key_values=cache, use_cache=True)
    return [(layer.keys[0], layer.values[0]) for layer in cache.layers]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tokens", [1, 16, 1000])  # a prompt a part, some, all
def test_each_row_of_the_cache_is_its_prompts(
    variant: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_TOKENS", tokens)
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 1)
    model = random_model(byte_level(), variant.split("-")[0], **VARIANTS[variant])
    with torch.no_grad():
        cache = prefill(model, PROMPTS)
    assert cache.get_seq_length() == 14
    for row, prompt in enumerate(PROMPTS):
        for layer, states in zip(cache.layers, textbook(model, prompt) if len(prompt) else [], strict=False):
            for ours, theirs in zip((layer.keys, layer.values), states, strict=True):
                assert torch.allclose(ours[row, :, : len(prompt)], theirs, atol=1e-5)
                assert ours[row].isfinite().all()  # a mask hides numbers, not what is none


def test_the_last_layer_ends_with_its_keys_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ran = random_model(byte_level()), list[str]()
    layers = model.hf.get_decoder().layers
    for number, layer in enumerate(layers):
        layer.mlp.register_forward_hook(lambda *_, number=number: ran.append(str(number)))
    with torch.no_grad():
        stopped = prefill(model, PROMPTS[:2])
        assert ran == ["0"] and len(layers) == 2
        monkeypatch.setattr(model, "zero_stage", 3)  # where other processes wait for every layer
        whole = prefill(model, PROMPTS[:2])
    assert ran == ["0", "0", "1"]
    for ours, theirs in zip(stopped.layers, whole.layers, strict=True):
        assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)


def test_a_profile_is_told_what_torch_counts() -> None:
    model, length = random_model(byte_level(), attn_implementation="eager"), 40
    prompt, profile = np.arange(5, 5 + length), Profile(peak=1.0)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), profiled(profile):
        prefill(model, [prompt])
    masked = 4 * 1 * 32 * (length**2 - length * (length + 1) / 2)  # one layer attends, 32 channels
    assert sum(profile.flops.values()) == pytest.approx(counter.get_total_flops() - masked, rel=0.01)
