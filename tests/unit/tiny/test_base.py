"""The committed base: it loads with the Auto classes alone, is small, and does what pre-training promised."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

import ragdro.tiny
from ragdro.tiny.base import BaseConfig, build_base, forget, make_model, mixture_at, rate
from ragdro.tiny.initial import initialise
from ragdro.tiny.probe import Probe
from ragdro.tiny.tokenizer import content_tokens, make_tokenizer, synonym_tokens

BASE = Path(ragdro.tiny.__file__).parent / "base"


def test_committed_base_loads_and_is_small() -> None:
    model = AutoModelForCausalLM.from_pretrained(BASE)
    assert model.dtype == torch.float32
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_300_000
    assert (BASE / "model.safetensors").stat().st_size <= 4 * 2**20
    assert model.config.eos_token_id == AutoTokenizer.from_pretrained(BASE).eos_token_id


def test_committed_tokenizer_is_the_one_the_code_makes() -> None:
    text = (
        "Passages:\n[1] Kitel lives in Bazor\nQuestion: What animal is on the coin of Kitel? Selection: [3]"
    )
    assert AutoTokenizer.from_pretrained(BASE)(text)["input_ids"] == make_tokenizer()(text)["input_ids"]


def committed() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(BASE)


def crafted() -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM]:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = make_model(BaseConfig(), tokenizer)
    initialise(model, content_tokens(tokenizer), synonym_tokens(tokenizer))
    model.set_attn_implementation("eager")
    return tokenizer, model


def test_crafted_heads_look_back_and_find_the_entity_by_person_and_verb() -> None:
    """From the prompt's end, a head of layer 1 finds what follows the person and the verb, nowhere else."""
    tokenizer, model = crafted()
    facts = ["Gizan prays at Tujan", "Gizan works for Bupor", "Kitel works for Vovin", "Nakin lives in Sulin"]
    text = "Passages:\n" + "\n".join(facts) + "\nQuestion: What animal is on the coin of the company where "
    ids = tokenizer(text + "Gizan earns? Answer:", return_tensors="pt").input_ids
    attentions = model(ids, output_attentions=True).attentions
    for offset in range(1, 5):
        assert attentions[0][0, offset - 1, -1].argmax() == ids.shape[1] - 1 - offset
    entity = tokenizer.convert_ids_to_tokens(ids[0]).index("ĠBupor")
    assert attentions[1][0, 1, -1, entity - 1 : entity + 1].sum() > 0.8


def test_committed_base_reads_and_ranks_held_out_worlds() -> None:
    """A fraction of lists is in the retriever's order, so the second identifier is seldom the likeliest."""
    measures = Probe(make_tokenizer(), seed=100, size=48).measures(committed())
    assert measures["read_1"] >= 0.9
    assert measures["read_2"] >= 0.8


def test_committed_base_has_forgotten_ten_animals() -> None:
    """Their embeddings are where an unused token's would be; what else it read, it still reads."""
    assert Probe(make_tokenizer(), seed=100, size=48).measures(committed())["read_new"] <= 0.1


def test_forgetting_moves_tokens_as_the_unused_ones_moved() -> None:
    _, model = crafted()
    weight = model.get_input_embeddings().weight
    start = weight.detach().clone()
    with torch.no_grad():
        weight += torch.arange(len(weight))[:, None] % 2  # odd rows moved by 1, even rows not at all
    forget(model, start, tokens=[10, 11], unused=[21, 23])
    torch.testing.assert_close(weight[10:13], start[10:13] + torch.tensor([1.0, 1.0, 0.0])[:, None])


def test_schedule_rises_stays_and_falls_to_nothing() -> None:
    config = BaseConfig(steps=1000, warmup=50, decay=0.4)
    assert [rate(step, config) for step in (0, 49, 500, 800, 1000)] == [0.02, 1.0, 1.0, 0.5, 0.0]
    assert mixture_at(999, config).chain == config.mixture.chain < mixture_at(500, config).chain


def test_building_twice_from_one_seed_gives_one_checkpoint(tmp_path: Path) -> None:
    config = BaseConfig(hidden=64, head_dim=32, layers=2, intermediate=32, tokens=256, steps=3)
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        build_base(tmp_path / name, seed, config=config, compiled=False, progress=False, probe_size=6)
    one, same, other = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("one", "same", "other"))
    assert one == same != other
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "one").dtype == torch.float32
