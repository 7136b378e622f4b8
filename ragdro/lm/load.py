"""From settings to a `LanguageModel`.

Only safetensors and JSON are read. Raises `ModelError` naming the model for whatever cannot
be loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ragdro.config import ModelSettings
from ragdro.errors import ConfigError, ModelError
from ragdro.hub import Checkpoint, find_checkpoint
from ragdro.lm.adapters import ADAPTER_FILE
from ragdro.lm.chat import ChatOptions
from ragdro.lm.empty import FillInParts, cut_layers, model_in_parts
from ragdro.lm.kernels import use_liger
from ragdro.lm.model import LanguageModel
from ragdro.lm.quantised import four_bits
from ragdro.lm.tokens import TextTokenizer

transformers_logging.disable_progress_bar()  # It would write into the run's own progress display.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_tokenizer(source: str) -> TextTokenizer:
    """The tokenizer of a model by id or folder, alone. Raises `ModelError`."""
    checkpoint = find_checkpoint(source, files=("tokenizer.json", "tokenizer_config.json", "config.json"))
    with unreadable(f"{source}: no tokenizer can be loaded"):
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.path, trust_remote_code=False, local_files_only=checkpoint.local
        )
        return TextTokenizer(tokenizer, name=source)


def pick_device(name: str) -> torch.device:
    """The torch device of a config's `device`, which need not be here; 'auto' is the GPU (CUDA or Apple's)
    where there is one. Raises `ConfigError` for what is no device."""
    if name == "auto":
        here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        name = next((kind for kind, there in here.items() if there), "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: no such device '{name}'; there are auto, cpu, cuda and mps") from error


def require_device(device: torch.device) -> None:
    """Raises `ConfigError` where `device` is not on this machine."""
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(device.type)
    if there is not None and (device.index or 0) >= there and device.type != "cpu":
        raise ConfigError(
            f"device: '{device}' is not on this machine; take auto or cpu, or install torch for it"
        )


def _own_gpu(device: torch.device) -> torch.device:
    """`device` with its number, where it is one of several."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", torch.cuda.current_device())


def load_language_model(
    source: str,
    settings: ModelSettings,
    device: torch.device,
    *,
    trained: bool = True,
    in_parts: FillInParts | None = None,
) -> LanguageModel:
    """The causal LM and tokenizer in `source` (a folder, a hub name or a `tiny:` name), on `device`.

    It is the base alone: what `settings.adapter` adds is `ragdro.lm.adapters`' affair. `trained`: whether its
    own weights may be (with an adapter they never are); they are float32 then, whatever `settings.dtype`.
    `in_parts` fills an empty model with this process's part of the weights, which is all that is read.
    Raises `ModelError` for a checkpoint that lacks weights, `ConfigError` for a device that is not there.
    """
    require_device(device)
    checkpoint = find_checkpoint(source, settings.revision)
    if (Path(checkpoint.path) / ADAPTER_FILE).is_file():
        raise ModelError(f"{source}: an adapter, not a whole model; `ragdro export` merges it into one")
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # What it would warn of is refused below, in one line.
    try:
        with unreadable(f"{source}: cannot be loaded"):
            tokenizer = AutoTokenizer.from_pretrained(
                checkpoint.path,
                revision=settings.revision,
                trust_remote_code=settings.trust_remote_code,
                local_files_only=checkpoint.local,
            )
            dtype, hf = weights_dtype(settings, trained=trained), None
            if in_parts is not None:
                computed = autocast_dtype(settings, device, trained=trained)
                fill = partial(in_parts, device=_own_gpu(device), computed=computed, name=source)
                hf = model_in_parts(source, checkpoint, settings, dtype, fill)
            if hf is None:
                hf = _whole(source, checkpoint, settings, device, dtype)
    finally:
        transformers_logging.set_verbosity(verbosity)
    _refuse_lost_caps(source, hf, settings)
    if settings.kernels == "liger":
        use_liger(hf, source)
    if settings.gradient_checkpointing:
        hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ends = hf.generation_config.eos_token_id if hf.generation_config else None
    text = TextTokenizer(
        tokenizer,
        name=source,
        chat=chat_options(settings),
        ends=ends if isinstance(ends, list) else [] if ends is None else [ends],
    )
    return LanguageModel(hf, _with_rows(text, hf), autocast_dtype(settings, device, trained=trained))


def _whole(
    source: str, checkpoint: Checkpoint, settings: ModelSettings, device: torch.device, dtype: torch.dtype
) -> PreTrainedModel:
    """The model with all its weights."""
    quantised = None if settings.quantisation is None else four_bits(DTYPES[settings.dtype])
    hf, report = AutoModelForCausalLM.from_pretrained(
        checkpoint.path,
        revision=settings.revision,
        local_files_only=checkpoint.local,
        trust_remote_code=settings.trust_remote_code,
        dtype=dtype,
        attn_implementation=settings.attention,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by name
        device_map=None if device.type == "cpu" else {"": _own_gpu(device)},  # no copy on the CPU first
        **({"quantization_config": quantised} if quantised else {}),
    )
    refuse_gaps(source, report)
    if settings.layers is not None:
        cut_layers(hf, settings.layers, source)
    model: PreTrainedModel = hf
    return model


def chat_options(settings: ModelSettings) -> ChatOptions:
    """What the settings say about the chat template."""
    return ChatOptions(
        settings.chat_template, settings.chat_arguments, settings.answer_prefix, settings.prompt_date
    )


def refuse_gaps(source: str, report: Mapping[str, Any]) -> None:
    """Raises `ModelError` where weights are not the checkpoint's: the library makes up what is not there."""
    mismatched = {str(key): (tuple(saved), tuple(own)) for key, saved, own in report["mismatched_keys"]}
    missing = sorted(set(map(str, report["missing_keys"])) - set(mismatched))
    if missing:
        others = sorted(map(str, report["unexpected_keys"]))
        hint = f"; it has {others[0]} and others that the model does not know" if others else ""
        raise ModelError(
            f"{source}: the checkpoint lacks weights: {_some(missing)}{hint}; save it again, whole and under"
            " the model's own names"
        )
    if mismatched:
        key, (saved, own) = next(iter(sorted(mismatched.items())))
        raise ModelError(
            f"{source}: weights of another shape than config.json says: {_some(sorted(mismatched))}"
            f" ({key} is {list(saved)}, not {list(own)}); correct config.json or save the model again"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def caps_attention(config: PretrainedConfig) -> bool:
    """Whether a model caps its attention scores (Gemma-2), which sdpa does not."""
    return getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None


def _refuse_lost_caps(source: str, hf: PreTrainedModel, settings: ModelSettings) -> None:
    """Raises `ModelError` for capped attention scores (Gemma-2) under sdpa, which leaves the cap out."""
    if caps_attention(hf.config) and settings.attention == "sdpa":
        raise ModelError(f"{source}: caps its attention scores, which sdpa cannot; set attention: eager")


def _with_rows(tokenizer: TextTokenizer, hf: PreTrainedModel) -> TextTokenizer:
    """The tokenizer with a pad token that the model has a row for; none is attended to, so any will do.

    Raises `ModelError` for an end token without one.
    """
    rows = hf.get_input_embeddings().weight.shape[0]
    if tokenizer.end_id >= rows:
        raise ModelError(
            f"{tokenizer.name}: the end token's id is {tokenizer.end_id} and the model has {rows} embeddings;"
            " give the model's own tokenizer"
        )
    if not 0 <= tokenizer.pad_id < rows:
        tokenizer.pad_id = tokenizer.end_id
    return tokenizer


def weights_dtype(settings: ModelSettings, *, trained: bool = True) -> torch.dtype:
    """The dtype of a model's weights: `settings.dtype` where they are frozen, float32 where they are trained.

    A step of 1e-5 is less than half the distance between two numbers of 16 bits for most weights.
    """
    return torch.float32 if trained and settings.adapter is None else DTYPES[settings.dtype]


def matmul_dtype(settings: ModelSettings, device: torch.device) -> torch.dtype:
    """The dtype that a model with these settings multiplies matrices in."""
    return autocast_dtype(settings, device) or weights_dtype(settings)


def autocast_dtype(
    settings: ModelSettings, device: torch.device, *, trained: bool = True
) -> torch.dtype | None:
    """What a model with these settings is autocast to on `device`; None: its matrices stay as they are."""
    if settings.amp == "bfloat16":
        return torch.bfloat16
    frozen = weights_dtype(settings, trained=trained)
    if frozen != torch.float32:  # an adapter's own weights are float32 all the same
        adapted = settings.adapter is not None and settings.amp == "auto" and device.type == "cuda"
        return torch.bfloat16 if adapted and frozen == torch.bfloat16 else None
    if settings.dtype == "bfloat16":
        return torch.bfloat16
    if settings.amp == "auto" and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    return None


@contextmanager
def unreadable(what: str) -> Iterator[None]:
    """What the libraries raise within for a checkpoint that cannot be read becomes a `ModelError`: `what` and
    the first line of theirs."""
    try:
        yield
    except (OSError, ValueError, KeyError, NotImplementedError, SafetensorError) as error:
        raise ModelError(f"{what}: {first_line(error)}") from error
    except Exception as error:
        if type(error) is not Exception:  # `tokenizers` has no class of its own for its errors
            raise
        raise ModelError(f"{what}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What another library's error says, cut to one line."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
