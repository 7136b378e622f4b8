"""A causal LM for use as it is: from a folder or a hub name, without a config file."""

from __future__ import annotations

from pathlib import Path

import torch

from ragdro.config import ModelSettings
from ragdro.errors import ConfigError
from ragdro.lm.load import DTYPES, load_language_model, pick_device
from ragdro.lm.model import LanguageModel


def pretrained(
    path_or_name: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """The model and tokenizer of a checkpoint folder, a hub name or a `tiny:` name, ready to be asked.

    `device`: of torch; 'auto' is the GPU where there is one. `dtype`: of the weights, and of what is computed
    with them; 'auto' is bfloat16 on a GPU that has it and float32 elsewhere. `revision`: of the hub.
    Raises `ModelError` for what cannot be loaded, `ConfigError` for another dtype.
    """
    place = pick_device(device)
    if dtype == "auto":
        dtype = "bfloat16" if place.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: must be 'auto', {', '.join(map(repr, DTYPES))}, not {dtype!r}")
    settings = ModelSettings.model_validate(
        {
            "model": str(path_or_name),
            "dtype": dtype,
            "amp": "off",
            "revision": revision,
            "trust_remote_code": trust_remote_code,
        }
    )
    model = load_language_model(str(path_or_name), settings, place)
    model.hf.eval()
    return model
