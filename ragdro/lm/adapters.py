"""LoRA through PEFT: named adapters on a base, one of which a `LanguageModel` trains, saves, computes with.

In: a base `LanguageModel`, and an adapter's settings or the folder it was saved in. Out: a `LanguageModel` of
the same base with that adapter on it, or plain merged weights. Two adapters may sit on one base: the weights
are there once, and each `LanguageModel` switches its own on when its `hf` is asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ragdro.config import LoraAdapter
from ragdro.errors import ConfigError, ModelError
from ragdro.lm.model import LanguageModel

ADAPTER_FILE = "adapter_config.json"
"""What a folder with an adapter has, and one with a whole model has not."""
_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
"""What PEFT has the names of its weights begin with."""


def with_adapter(
    base: LanguageModel, name: str, settings: LoraAdapter, *, seed: int, saved: Path | None = None
) -> LanguageModel:
    """`base` with the adapter `name` on it: the one in the folder `saved`, else a new one drawn from `seed`,
    which changes nothing until it is trained.

    The base's own weights are frozen from here on; the adapter's are float32. Raises `ConfigError` naming
    targets that the model does not have or has tied, `ModelError` naming a folder that holds no adapter for
    it.
    """
    peft = _peft(name)
    hf = base.hf
    tied = _tied_targets(hf, settings)
    if tied:
        raise ConfigError(
            f"{name}.adapter.targets: {', '.join(tied)}: the model's input and output embeddings are one"
            " matrix (tied), which an update of either would part; leave these targets out"
        )
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a second adapter on one base is what is meant
            torch.manual_seed(seed)
            if saved is None:
                hf.add_adapter(_lora(peft, settings), name)
            else:
                hf.add_adapter(peft.LoraConfig.from_pretrained(saved), name)
    except (ValueError, OSError, TypeError, KeyError) as error:
        if saved is None:
            raise ConfigError(f"{name}.adapter.targets: {settings.targets}: {error}") from error
        raise ModelError(f"{saved}: no adapter can be loaded: {error}") from error
    for parameter in hf.parameters():  # small steps would vanish in 16 bits
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()
    if saved is not None:
        _read(peft, hf, name, saved)
    if base.autocast is not None:  # it makes the inputs of products alike itself: no copy in float32 first
        for module in hf.modules():
            if isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer):
                module.cast_input_dtype_enabled = False
    made = LanguageModel(hf, base.tokenizer, base.autocast, adapter=name)
    made.dropout_sites += base.dropout_sites
    return made


def merged(base: PreTrainedModel, saved: Path) -> PreTrainedModel:
    """`base` (plain, not quantised) with the adapter in `saved` added to its weights.

    Raises `ModelError` naming a folder that holds no adapter for it.
    """
    try:
        model = _peft("merge").PeftModel.from_pretrained(base, saved)
    except (ValueError, OSError, RuntimeError, KeyError) as error:
        raise ModelError(f"{saved}: no adapter of this model: {error}") from error
    plain: PreTrainedModel = model.merge_and_unload()
    return plain


def save_adapter(
    hf: PreTrainedModel, name: str, folder: Path, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write the adapter `name` of `hf` into a folder as `save_pretrained` does, whichever adapter is on.
    `weights`: the state of `hf` that it is taken from (None: as it is now)."""
    state = hf.get_adapter_state_dict(name, weights)
    tensors = {f"{_PREFIX}{key}": value.contiguous() for key, value in state.items()}
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    hf.peft_config[name].save_pretrained(folder)
    if hf.can_generate():
        hf.generation_config.save_pretrained(folder)


def _tied_targets(hf: PreTrainedModel, settings: LoraAdapter) -> list[str]:
    """Those of the targets that are the embeddings of a model that has one matrix for both."""
    table, head = hf.get_input_embeddings(), hf.get_output_embeddings()
    if settings.targets == "all-linear" or table.weight is not head.weight:
        return []
    paths = [path for path, module in hf.named_modules() if module in (table, head)]
    return [t for t in settings.targets if any(path == t or path.endswith(f".{t}") for path in paths)]


def _lora(peft: Any, settings: LoraAdapter) -> Any:
    return peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
        task_type="CAUSAL_LM",
    )


def _read(peft: Any, hf: PreTrainedModel, name: str, saved: Path) -> None:
    """Put the weights in `saved` into the adapter `name`, every one of them."""
    try:
        weights = load_file(saved / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{saved}: no adapter can be loaded: {error}") from error
    plain = {key.removeprefix(_PREFIX): value for key, value in weights.items()}
    expected = peft.get_peft_model_state_dict(hf, adapter_name=name)
    if {k: v.shape for k, v in expected.items()} != {k: v.shape for k, v in plain.items()}:
        raise ModelError(f"{saved}: the adapter is another model's")
    peft.set_peft_model_state_dict(hf, plain, adapter_name=name)


def _peft(name: str) -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            f"{name}: adapters need peft; install it with pip install 'ragdro[adapters]'"
        ) from error
    return peft
