"""A causal LM without weights, for processes that read their own part of them alone.

In: a checkpoint. Out: its model, whose parameters are on torch's meta device and take no memory, and whose
buffers, which are computed from the config (rotary frequencies), are there; and with what `fill` reads of its
weights, where these are in the safetensors files as the model has them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from accelerate import init_empty_weights
from huggingface_hub import snapshot_download
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, rename_source_key

from ragdro.config import ModelSettings
from ragdro.errors import ModelError, warn
from ragdro.hub import Checkpoint
from ragdro.units import counted


@runtime_checkable
class FillInParts(Protocol):
    """Gives a model without weights this process's part of those in a folder, on a device."""

    def __call__(
        self,
        hf: PreTrainedModel,
        folder: Path,
        *,
        device: torch.device,
        computed: torch.dtype | None,
        name: str,
    ) -> None:
        """`computed`: what its matrix products run in, where not in the weights' dtype."""


def model_in_parts(
    source: str,
    checkpoint: Checkpoint,
    settings: ModelSettings,
    dtype: torch.dtype,
    fill: Callable[[PreTrainedModel, Path], None],
) -> PreTrainedModel | None:
    """The model with this process's part of the weights; None, with a warning, where these are not to be had
    from the files as they are. Raises what transformers does."""
    hf = _empty_model(checkpoint, settings, dtype)
    folder = _weights_folder(checkpoint, settings.revision)
    fits = _are_stored(hf, folder)
    if settings.layers is not None:
        cut_layers(hf, settings.layers, source)
    if not fits:
        warn(
            f"{source}: its weights are not in its files under the model's own names and in its shapes, so"
            " each process reads all of them before it keeps its part"
        )
        return None
    fill(hf, folder)
    return hf


def _empty_model(checkpoint: Checkpoint, settings: ModelSettings, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a checkpoint, without weights. Raises what transformers does."""
    where = {
        "revision": settings.revision,
        "trust_remote_code": settings.trust_remote_code,
        "local_files_only": checkpoint.local,
    }
    config = AutoConfig.from_pretrained(checkpoint.path, **where)
    with init_empty_weights(include_buffers=False):
        hf: PreTrainedModel = AutoModelForCausalLM.from_config(
            config,
            dtype=dtype,
            attn_implementation=settings.attention,
            trust_remote_code=settings.trust_remote_code,
        )
    hf.tie_weights()
    with suppress(OSError):  # where none is saved, the one that transformers makes of the config stays
        hf.generation_config = GenerationConfig.from_pretrained(checkpoint.path, **where)
    return hf.eval()


def _weights_folder(checkpoint: Checkpoint, revision: str | None) -> Path:
    """The folder with a checkpoint's safetensors files, downloaded where they have to be."""
    if Path(checkpoint.path).is_dir():
        return Path(checkpoint.path)
    files = ["*.safetensors", "*.safetensors.index.json"]
    folder = snapshot_download(
        checkpoint.path, revision=revision, allow_patterns=files, local_files_only=checkpoint.local
    )
    return Path(folder)


def _are_stored(hf: PreTrainedModel, folder: Path) -> bool:
    """Whether the files of `folder` have, once and by the model's names, all its parameters (tied ones once)
    and all buffers that are saved, in their shapes, and none would have to be converted."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dict)
                if name in shapes:
                    return False
                shapes[name] = tuple(file.get_slice(name).get_shape())
    own = dict(hf.named_parameters())
    buffers = dict(hf.named_buffers())
    own |= {name: buffers[name] for name in hf.state_dict().keys() & buffers.keys()}
    converters = [c for c in get_model_conversion_mapping(hf) if isinstance(c, WeightConverter)]
    if any(shapes.get(name) != tuple(tensor.shape) for name, tensor in own.items()):
        return False
    return all(rename_source_key(name, [], converters)[1] is None for name in shapes)


def cut_layers(hf: PreTrainedModel, layers: int, source: str) -> None:
    """Leave the model its first decoder layers; its config says so wherever it is saved."""
    decoder, config = hf.get_decoder(), hf.config.get_text_config()
    if layers > len(decoder.layers):
        raise ModelError(
            f"{source}: has {counted(len(decoder.layers), 'decoder layers')}, {layers} are asked for"
        )
    decoder.layers = decoder.layers[:layers]
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
