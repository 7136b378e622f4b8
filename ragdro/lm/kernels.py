"""Fused kernels for a model's norms and feed-forward layers (liger-kernel, Hsu et al. 2024).

In: a model on an NVIDIA GPU. Out: the same model, whose layers of these kinds are one kernel each in place of
several that each read and write all states. Attention, rotation and losses stay what they are: they are
`ragdro`'s own, or would be changed for every model of the process.
"""

from __future__ import annotations

import inspect
import sys

from transformers import PreTrainedModel

from ragdro.errors import ConfigError, ModelError

_FUSED = ("rms_norm", "swiglu", "geglu", "layer_norm")
"""What is exchanged, of what the library can."""


def use_liger(hf: PreTrainedModel, name: str) -> None:
    """Exchange the layers of `hf`, called `name`.

    Raises `ConfigError` for another device or where the library is not installed, `ModelError` for an
    architecture that it does not know.
    """
    if hf.device.type != "cuda":
        raise ConfigError(f"kernels: liger needs an NVIDIA GPU, and {name} is on '{hf.device}'; take torch")
    try:
        from liger_kernel.transformers import monkey_patch
    except ImportError as error:
        raise ConfigError(
            "kernels: liger needs liger-kernel; install it with pip install 'ragdro[liger]'"
        ) from error
    kind = hf.config.get_text_config().model_type
    exchange = monkey_patch.MODEL_TYPE_TO_APPLY_LIGER_FN.get(kind)
    if exchange is None:
        raise ModelError(
            f"{name}: liger-kernel has no kernels for a model of type {kind}; take kernels: torch"
        )
    switches = [
        key for key, given in inspect.signature(exchange).parameters.items() if type(given.default) is bool
    ]
    classes = vars(sys.modules[type(hf).__module__])
    before = dict(classes)
    exchange(model=hf, **{key: key in _FUSED for key in switches})
    classes.update(before)  # it exchanges the classes too, which other models of the process are made of
