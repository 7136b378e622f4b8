"""Checkpoints that are not what they say and devices that are not there: one line, before a run begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ragdro.config import LoraAdapter, ModelSettings
from ragdro.errors import ConfigError, ModelError
from ragdro.lm.adapters import with_adapter
from ragdro.lm.load import load_language_model, pick_device
from ragdro.lm.model import LanguageModel
from tests.conftest import byte_level, random_model

Weights = dict[str, torch.Tensor]
CPU = torch.device("cpu")


def saved(folder: Path, change: Callable[[Weights], Weights] = dict, **settings: object) -> LanguageModel:
    model = random_model(byte_level(), "qwen3", seed=3, **settings)
    model.hf.save_pretrained(folder)
    model.tokenizer.hf.save_pretrained(folder)
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return model


def loaded(folder: Path) -> LanguageModel:
    return load_language_model(str(folder), ModelSettings(model=str(folder)), CPU)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"}, r"lacks weights: lm_head\.weight"),
        (lambda w: {f"module.{k}": v for k, v in w.items()}, r"lacks weights: .* it has module\."),
        (lambda w: {k: v for k, v in w.items() if ".layers.1." not in k}, r"model\.layers\.1\..* more"),
        (
            lambda w: {k: v[:-8].clone() if k == "lm_head.weight" else v for k, v in w.items()},
            r"another shape .*: lm_head\.weight \(lm_head\.weight is \[\d+, 32\], not \[\d+, 32\]",
        ),
    ],
)
def test_weights_that_are_not_there_are_not_made_up(
    change: Callable[[Weights], Weights], said: str, tmp_path: Path
) -> None:
    saved(tmp_path, change)
    with pytest.raises(ModelError, match=said) as refused:
        loaded(tmp_path)
    assert str(refused.value).startswith(str(tmp_path)) and "\n" not in str(refused.value)


def test_tied_and_unknown_weights_are_no_gaps(tmp_path: Path) -> None:
    model = saved(tmp_path, lambda w: {**w, "vision.weight": torch.ones(2)}, tie_word_embeddings=True)
    for a, b in zip(model.hf.parameters(), loaded(tmp_path).hf.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_pad_token_without_an_embedding_is_replaced_by_the_end_token(tmp_path: Path) -> None:
    model = saved(tmp_path)
    tokenizer = model.tokenizer.hf
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == model.hf.get_input_embeddings().weight.shape[0]
    tokenizer.save_pretrained(tmp_path)
    assert loaded(tmp_path).tokenizer.pad_id == tokenizer.eos_token_id


def test_an_end_token_without_an_embedding_is_refused(tmp_path: Path) -> None:
    tokenizer = saved(tmp_path).tokenizer.hf
    tokenizer.add_special_tokens({"eos_token": "[END]"})
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="the end token's id is"):
        loaded(tmp_path)


def test_a_cap_on_attention_is_not_left_out(tmp_path: Path) -> None:
    model = random_model(byte_level(), "gemma2", attn_implementation="eager")
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.hf.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="attention: eager"):
        loaded(tmp_path)
    settings = ModelSettings(model=str(tmp_path), attention="eager")
    again = load_language_model(str(tmp_path), settings, CPU)
    ids = torch.arange(5, 40)[None]
    assert torch.equal(again.hf(ids).logits, model.hf(ids).logits)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_device_that_is_not_here_is_one_line(tmp_path: Path) -> None:
    saved(tmp_path)
    settings = ModelSettings(model=str(tmp_path))
    with pytest.raises(ConfigError, match="device: 'cuda' is not on this machine"):
        load_language_model(str(tmp_path), settings, pick_device("cuda"))
    with pytest.raises(ConfigError, match="no such device 'gpu'"):
        pick_device("gpu")


def test_auto_takes_a_gpu_of_apple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == CPU


@pytest.mark.parametrize("targets", [["lm_head"], ["q_proj", "embed_tokens"], ["embed_tokens", "lm_head"]])
def test_an_adapter_does_not_part_tied_embeddings(targets: list[str]) -> None:
    pytest.importorskip("peft")
    tied = random_model(byte_level(), "qwen3", tie_word_embeddings=True)
    said = rf"selector\.adapter\.targets: {', '.join(t for t in targets if t != 'q_proj')}: .*tied"
    with pytest.raises(ConfigError, match=said):
        with_adapter(tied, "selector", LoraAdapter(targets=targets), seed=0)
    assert not any("lora" in name for name, _ in tied.hf.named_parameters())
    apart = random_model(byte_level(), "qwen3", tie_word_embeddings=False)
    assert with_adapter(apart, "selector", LoraAdapter(targets=targets), seed=0)


def test_a_model_is_loaded_on_its_device_and_nowhere_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path)
    monkeypatch.setattr(torch.nn.Module, "to", lambda *rest: pytest.fail("moved after it was loaded"))
    model = load_language_model(str(tmp_path), ModelSettings(model=str(tmp_path)), torch.device("meta"))
    assert {p.device.type for p in model.hf.parameters()} == {"meta"}
