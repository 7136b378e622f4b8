"""Weights that two processes read in parts: the same to the last bit, in less memory, or refused by name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from ragdro.config import ModelSettings, Parallel
from ragdro.errors import ModelError
from ragdro.lm.load import load_language_model
from ragdro.parallel.loading import loading_in_parts
from ragdro.parallel.sharding import is_sharded, reshard, unshard
from tests.unit.parallel.ranks import Act, on_two_ranks
from tests.worlds import pocket_rag

CPU = torch.device("cpu")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def loaded(folder: Path, *, parts: bool, **settings: Any) -> PreTrainedModel:
    of_model = ModelSettings.model_validate({"model": str(folder / "model"), **settings})
    in_parts = loading_in_parts(Parallel(strategy="fsdp2")) if parts else None
    return load_language_model(str(folder / "model"), of_model, CPU, in_parts=in_parts).hf


def save_model(hf: PreTrainedModel, folder: Path, **options: Any) -> None:
    hf.save_pretrained(folder / "model", **options)
    pocket_rag().selector.model.tokenizer.hf.save_pretrained(folder / "model")


def peak_mib(make: Callable[[], PreTrainedModel]) -> tuple[PreTrainedModel, float]:
    """What `make` returns, and by how much resident memory grew at its peak meanwhile."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak until now
    before = _status("VmRSS")
    made = make()
    return made, (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    (found,) = re.findall(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found)


def compared(folder: Path, **settings: Any) -> dict[str, Any]:
    """Load the model in parts, then whole, and compare everything that either has."""
    parts, peak = peak_mib(lambda: loaded(folder, parts=True, **settings))
    numbers = sum(p.to_local().numel() for p in parts.parameters() if hasattr(p, "to_local"))
    whole, whole_peak = peak_mib(lambda: loaded(folder, parts=False, **settings))
    assert is_sharded(parts) and not is_sharded(whole) and not parts.training
    unshard(parts)
    ids = torch.arange(12)[None] % whole.config.vocab_size
    with torch.no_grad():
        outputs = [hf(ids).logits for hf in (parts, whole)]
    state, expected = dict(parts.named_parameters()), dict(whole.named_parameters())
    buffers, expected_buffers = dict(parts.named_buffers()), dict(whole.named_buffers())
    own = parts.get_input_embeddings().weight is parts.get_output_embeddings().weight
    return {
        "weights": state.keys() == expected.keys()
        and all(torch.equal(state[n], p) and state[n].dtype == p.dtype for n, p in expected.items()),
        "buffers": buffers.keys() == expected_buffers.keys()
        and all(torch.equal(buffers[n], b) for n, b in expected_buffers.items()),
        "outputs": torch.equal(*outputs),
        "config": parts.config.to_dict() == whole.config.to_dict(),
        "ends": parts.generation_config.to_dict() == whole.generation_config.to_dict(),
        "tied": own,
        "buffers_there": len(buffers),
        "part": numbers,
        "layers": sum(p.numel() for n, p in expected.items() if ".layers." in n),
        "peak": peak,
        "whole_peak": whole_peak,
    }


def assert_equal(said: dict[str, Any]) -> None:
    assert all(said[key] for key in ("weights", "buffers", "outputs", "config", "ends")), said


LLAMA = {"vocab_size": 500, "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 2}


def models() -> dict[str, PreTrainedModel]:
    """An odd number of rows, so that parts are unequal; tied and own heads; buffers that are not saved."""
    torch.manual_seed(0)
    own = LlamaConfig(**LLAMA, num_hidden_layers=3, num_key_value_heads=1, rope_parameters=LLAMA3)
    tied = LlamaConfig(
        **{**LLAMA, "intermediate_size": 41},
        num_hidden_layers=2,
        tie_word_embeddings=True,
        eos_token_id=[7, 8],
    )
    gemma = Gemma3TextConfig(**LLAMA, num_hidden_layers=2, num_key_value_heads=1, head_dim=12)
    return {
        "own head": LlamaForCausalLM(own),
        "tied head": LlamaForCausalLM(tied),
        "scaled embeddings": Gemma3ForCausalLM(gemma),
    }


def cut(folder: Path) -> dict[str, Any]:
    return {
        **compared(folder, layers=2),
        "number": loaded(folder, parts=True, layers=2).config.num_hidden_layers,
    }


def refused(folder: Path) -> dict[str, Any]:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(ModelError) as error:
            loaded(folder, parts=True)
    return {"error": str(error.value), "warned": [str(one.message) for one in warned]}


def renamed(folder: Path) -> dict[str, Any]:
    with pytest.warns(RuntimeWarning, match="each process reads all of them"):
        parts = loaded(folder, parts=True)
    return {"sharded": is_sharded(parts), "sum": sum(p.double().sum().item() for p in parts.parameters())}


def ordered(folder: Path) -> dict[str, Any]:
    """In which order layers are gathered and computed, forward and backward, and the gradients; as it is, and
    with nothing asked for ahead."""
    import torch.distributed as dist

    events: list[str] = []
    name = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"
    gather = getattr(dist, name)

    def gathered(*arguments: Any, **options: Any) -> Any:
        events.append("gather")
        return gather(*arguments, **options)

    said, gradients = {}, []
    for kind in ("ahead", "late"):
        hf = loaded(folder, parts=True)
        layers = hf.get_decoder().layers
        for i, layer in enumerate(layers):
            if kind == "late":
                layer.set_modules_to_forward_prefetch([])
                layer.set_modules_to_backward_prefetch([])
            layer.register_forward_pre_hook(lambda *_, i=i: events.append(f"layer {i}"))
            layer.register_full_backward_pre_hook(lambda *_, i=i: events.append(f"back {i}"))
        reshard(hf)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dist, name, gathered)
            for _ in range(2):  # the first one sets torch's own order up
                events.clear()
                hf.zero_grad()
                hf(torch.arange(12)[None] + dist.get_rank()).logits.logsumexp(-1).sum().backward()
        said[kind] = list(events)
        own = [p.grad for p in hf.parameters()]
        gradients.append([g.full_tensor() if hasattr(g, "full_tensor") else g for g in own])
    equal = all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    return {**said, "equal": equal, "moved": all(bool(g.any()) for g in gradients[0])}


ACTS: dict[str, Act] = {
    **dict.fromkeys(models(), compared),
    "cut": cut,
    "missing": refused,
    "another shape": refused,
    "renamed": renamed,
    "ordered": ordered,
}
MOVED = "model.layers.1.mlp.up_proj.weight"


def altered(weights: dict[str, torch.Tensor], fault: str) -> dict[str, torch.Tensor]:
    if fault == "missing":
        return {name: tensor for name, tensor in weights.items() if name != MOVED}
    if fault == "ordered":
        return weights
    if fault == "another shape":
        return {**weights, MOVED: weights[MOVED][:-1].contiguous()}
    return {name.removeprefix("model."): tensor for name, tensor in weights.items()}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """The folders with the models, and what two processes say of each."""
    folder = tmp_path_factory.mktemp("parts")
    made = models()
    for name, act in ACTS.items():
        if act is compared:
            save_model(made[name].bfloat16(), folder / name, max_shard_size="30KB")
            assert len(list((folder / name / "model").glob("*.safetensors"))) >= 2
            continue
        save_model(models()["own head"], folder / name)
        if act is not cut:
            path = folder / name / "model/model.safetensors"
            save_file(altered(load_file(path), name), path, {"format": "pt"})
    return folder, on_two_ranks(ACTS, folder)


@pytest.mark.parametrize("name", models())
def test_parts_are_the_checkpoints_to_the_last_bit(name: str, pair: Any) -> None:
    for said in pair[1][name]:
        assert_equal(said)
        assert said["tied"] == (name != "own head") and said["buffers_there"] > 0
        assert abs(said["part"] - said["layers"] / 2) < 200


def test_a_cut_model_reads_what_is_left(pair: Any) -> None:
    for said in pair[1]["cut"]:
        assert_equal(said)
        assert said["number"] == 2


@pytest.mark.parametrize("fault", ["missing", "another shape"])
def test_what_is_not_whole_is_refused_as_ever(fault: str, pair: Any) -> None:
    with pytest.raises(ModelError) as error:
        loaded(pair[0] / fault, parts=False)
    for said in pair[1][fault]:
        assert said["error"] == str(error.value) and MOVED in said["error"]
        assert any("under the model's own names" in one for one in said["warned"])


def test_weights_under_other_names_are_read_whole_with_a_warning(pair: Any) -> None:
    expected = sum(p.double().sum().item() for p in models()["own head"].parameters())
    for said in pair[1]["renamed"]:
        assert not said["sharded"] and said["sum"] == pytest.approx(expected)


def test_the_next_layer_is_asked_for_before_one_is_computed(pair: Any) -> None:
    for said in pair[1]["ordered"]:
        ahead, late = said["ahead"], said["late"]
        assert said["equal"] and said["moved"]
        assert ahead[:5] == ["gather", "gather", "layer 0", "gather", "layer 1"], ahead
        assert late[:6] == ["gather", "layer 0", "gather", "layer 1", "gather", "layer 2"], late
        assert ahead.count("gather") == late.count("gather")


@pytest.mark.slow
def test_a_process_reads_its_part_alone(tmp_path: Path) -> None:
    """107 M parameters in 16 bits, trained in 32: 205 MiB of files, 410 MiB as a whole, 205 a part."""
    config = LlamaConfig(
        vocab_size=500,
        hidden_size=1024,
        intermediate_size=4096,
        num_attention_heads=8,
        num_key_value_heads=2,
        num_hidden_layers=7,
        dtype="bfloat16",
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to_empty(device="cpu").bfloat16()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(torch.int16).random_(15000, 16500)
    save_model(model, tmp_path / "large", max_shard_size="50MB")
    del model
    for said in on_two_ranks({"large": compared}, tmp_path)["large"]:
        print({key: round(value) for key, value in said.items() if "peak" in key})
        assert_equal({**said, "buffers": True, "outputs": True})
        assert said["peak"] < 0.65 * said["whole_peak"]


def test_a_process_alone_and_ddp_load_it_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from ragdro.parallel import loading

    assert loading_in_parts(Parallel(strategy="fsdp2")) is None
    monkeypatch.setattr(loading, "world_size", lambda: 2)
    assert loading_in_parts(Parallel(strategy="fsdp2")) is not None
    assert loading_in_parts(Parallel(strategy="ddp")) is None
