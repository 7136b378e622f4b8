"""bitsandbytes, where it is installed: weights in 4 bits, optimisers in 8.

In: what a config asks for. Out: the library, or the settings that transformers quantises a base with. What
needs it is refused by its key where it is not there.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from ragdro.errors import ConfigError


def bitsandbytes(what: str) -> Any:
    """The library. Raises `ConfigError`, beginning with `what` (a key and its value), where it is missing."""
    try:
        return import_module("bitsandbytes")
    except ImportError as error:
        raise ConfigError(
            f"{what} needs bitsandbytes, which is not installed; pip install 'ragdro[bitsandbytes]'"
        ) from error


def four_bits(compute: torch.dtype) -> BitsAndBytesConfig:
    """NF4 with its scales quantised too, as in QLoRA (arXiv 2305.14314); products run in `compute`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
