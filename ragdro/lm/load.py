"""From settings to a `LanguageModel`, and from a `LanguageModel` to a folder that others can load.

Only safetensors and JSON are read or written. Raises `ModelError` naming the model for whatever cannot
be loaded.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ragdro.config import ModelSettings
from ragdro.errors import ModelError
from ragdro.files import rename_durably, sync
from ragdro.lm.adapters import ADAPTER_FILE
from ragdro.lm.chat import ChatOptions
from ragdro.lm.model import LanguageModel
from ragdro.lm.quantised import four_bits
from ragdro.lm.tokens import TextTokenizer
from ragdro.sources import resolve

transformers_logging.disable_progress_bar()  # It would write into the run's own progress display.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_tokenizer(source: str) -> TextTokenizer:
    """The tokenizer of a model by id or folder, alone. Raises `ModelError`."""
    try:
        found = AutoTokenizer.from_pretrained(resolve(source), trust_remote_code=False)
        return TextTokenizer(found, name=source)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{source}: no tokenizer can be loaded: {_first_line(error)}") from error


def pick_device(name: str) -> torch.device:
    """The torch device of a config's `device`; 'auto' is the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device: no such device '{name}'") from error


def load_language_model(source: str, settings: ModelSettings, device: torch.device) -> LanguageModel:
    """The causal LM and tokenizer in `source` (a folder, a hub name or a `tiny:` name), on `device`.

    It is the base alone: what `settings.adapter` adds is `ragdro.lm.adapters`' affair.
    """
    path = resolve(source)
    if (os.sep in source or path != source) and not Path(path).is_dir():
        raise ModelError(f"{source}: no such checkpoint folder")
    if (Path(path) / ADAPTER_FILE).is_file():
        raise ModelError(f"{source}: an adapter, not a whole model; `ragdro export` merges it into one")
    quantised = None if settings.quantisation is None else four_bits(DTYPES[settings.dtype])
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
        hf = AutoModelForCausalLM.from_pretrained(
            path,
            revision=settings.revision,
            trust_remote_code=settings.trust_remote_code,
            dtype=DTYPES[settings.dtype],
            attn_implementation=settings.attention,
            use_safetensors=True,
            **({"quantization_config": quantised, "device_map": {"": device}} if quantised else {}),
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"{source}: cannot be loaded: {_first_line(error)}") from error
    if settings.layers is not None:
        _cut(hf, settings.layers, source)
    if settings.gradient_checkpointing:
        hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if quantised is None:
        hf = hf.to(device)
    ends = hf.generation_config.eos_token_id if hf.generation_config else None
    text = TextTokenizer(
        tokenizer,
        name=source,
        chat=chat_options(settings),
        ends=ends if isinstance(ends, list) else [] if ends is None else [ends],
    )
    return LanguageModel(hf, text, autocast_dtype(settings, device))


def chat_options(settings: ModelSettings) -> ChatOptions:
    """What the settings say about the chat template."""
    return ChatOptions(
        settings.chat_template, settings.chat_arguments, settings.answer_prefix, settings.prompt_date
    )


def _cut(hf: PreTrainedModel, layers: int, source: str) -> None:
    """Leave the model its first decoder layers; its config says so wherever it is saved."""
    decoder, config = hf.get_decoder(), hf.config.get_text_config()
    if layers > len(decoder.layers):
        raise ModelError(f"{source}: has {len(decoder.layers)} decoder layers, {layers} are asked for")
    decoder.layers = decoder.layers[:layers]
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]


def save_language_model(
    model: LanguageModel, folder: Path, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Weights (safetensors), config and tokenizer, loadable by `from_pretrained` alone.

    `weights` stand for the model's own where it could not give them itself.
    The folder is whole or absent; one that is there is replaced. Raises `OSError` where the disk refuses.
    """
    making = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        model.hf.save_pretrained(making, state_dict=weights)
        model.tokenizer.hf.save_pretrained(making)
        for file in making.iterdir():
            sync(file)
        if folder.exists():
            shutil.rmtree(folder)
        rename_durably(making, folder)
    except SafetensorError as error:
        raise OSError(f"{folder}: cannot be written: {_first_line(error)}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def matmul_dtype(settings: ModelSettings, device: torch.device) -> torch.dtype:
    """The dtype that a model with these settings multiplies matrices in."""
    return autocast_dtype(settings, device) or DTYPES[settings.dtype]


def autocast_dtype(settings: ModelSettings, device: torch.device) -> torch.dtype | None:
    """What a model with these settings is autocast to on `device`; None: its matrices stay as they are."""
    if settings.amp == "bfloat16":
        return torch.bfloat16
    if settings.amp == "auto" and device.type == "cuda" and settings.dtype == "float32":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
