"""Keys turned from the position that they were computed at to another (rotary embeddings).

In: a causal LM of Hugging Face and keys as its attention gets them. Out: the keys as they would be some
positions further on. Rotations add up, R(p + d) = R(d) R(p), so a key is turned by the angles of the distance
alone. The angles are the model's own rotary module's, and so is the function that applies them; a pass over a
few tokens shows in which layers, if not in all, keys are turned at all (some models have layers without
positions), and that turning them gives what the model itself computes there.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import Module
from transformers import PreTrainedModel

from ragdro.errors import ConfigError
from ragdro.lm.attention import Plan

Angles = tuple[Tensor, Tensor]
"""cos and sin, [1, tokens, turned channels]."""
_DISTANCE = 7
_TOLERANCE = 0.03
"""Of the largest key: 16 bits round to half a hundredth, a wrong layout changes more than a tenth."""


class Rotation:
    """How the layers of `hf` turn keys. `known`: by a layer's number whether it does; None: all do.

    Raises `ConfigError` for a model whose positions are not rotary.
    """

    def __init__(self, hf: PreTrainedModel, name: str) -> None:
        self.name = name
        self.known: dict[int, bool] | None = None
        modules = [m for m in hf.get_decoder().modules() if hasattr(m, "rope_type")]
        if len(modules) != 1:
            raise self.refusal("its positions are not one rotary embedding's for all layers")
        self._rotary: Any = modules[0]
        self._device = hf.device
        of_layers = "layer_type" in inspect.signature(self._rotary.forward).parameters
        self._types = hf.config.get_text_config().layer_types if of_layers else None

    def refusal(self, reason: str) -> ConfigError:
        """The error for what this model cannot do."""
        return refusal(self.name, reason)

    def layer_type(self, layer: Module) -> str | None:
        """Which of the model's kinds of angles an attention layer takes; None where there is one kind."""
        return None if self._types is None else self._types[layer.layer_idx]  # type: ignore[index]

    def turns(self, layer: Module) -> bool:
        """Whether the layer has positions at all."""
        return self.known is None or self.known[layer.layer_idx]  # type: ignore[index]

    def angles(self, distances: Int[Tensor, " tokens"], layer_type: str | None) -> Angles:
        """Of turning by so many positions each, without the factor that some kinds scale keys with."""
        padded = torch.nn.functional.pad(distances, (1, 0))[None]
        wide = torch.zeros(1, device=padded.device)  # says in which precision
        named = {} if layer_type is None else {"layer_type": layer_type}
        with torch.no_grad():
            cos, sin = self._rotary(wide, padded, **named)
        factor = cos[:, :1]  # cos(0) times the factor
        return cos[:, 1:] / factor, sin[:, 1:] / factor

    def model_angles(self, states: Tensor, positions: Int[Tensor, "1 tokens"], layer: int) -> Angles:
        """Those that the model itself gives a layer for tokens at these positions."""
        named = {} if self._types is None else {"layer_type": self._types[layer]}
        angles: Angles = self._rotary(states, positions, **named)
        return angles

    def turned(
        self, layer: Module, keys: Float[Tensor, "1 heads tokens width"], angles: Angles
    ) -> Float[Tensor, "1 heads tokens width"]:
        """The keys, turned in float32 at least."""
        apply = getattr(sys.modules[type(layer).__module__], "apply_rotary_pos_emb", None)
        if apply is None:
            raise self.refusal("it has no apply_rotary_pos_emb")
        wide = keys.to(torch.promote_types(keys.dtype, torch.float32))
        channels = angles[0].shape[-1]
        part = wide[..., :channels]
        out: Tensor = apply(part, part[:, :0], *angles)[0]
        if channels < keys.shape[-1]:
            out = torch.cat([out, wide[..., channels:]], -1)
        return out.to(keys.dtype)

    def look(
        self, tokens: list[int], device: torch.device, run: Callable[[Tensor, Tensor, Plan], object]
    ) -> None:
        """See by a pass over a few tokens, `run(tokens, positions, plan)`, which layers turn keys. Raises
        `ConfigError` where they are turned otherwise."""
        probe = RotationProbe(self, tokens, device)
        with torch.no_grad():
            run(probe.tokens, probe.positions, probe)
        self.known = probe.found


def refusal(name: str, reason: str) -> ConfigError:
    """The error for a model that cannot read passages as blocks."""
    return ConfigError(
        f"generator.passage_attention: blocks cannot be computed by {name}: {reason}; use"
        " passage_attention: full"
    )


class RotationProbe(Plan):
    """An attention plan for a row of tokens at position 0 and the same tokens again at position 7: each sees
    itself alone, so both have equal states in all layers, and their keys differ by the rotation."""

    def __init__(self, rotation: Rotation, tokens: list[int], device: torch.device) -> None:
        self._rotation = rotation
        self._half = len(tokens)
        self.tokens = torch.tensor([tokens * 2], device=device)
        self.positions = torch.tensor([[0] * self._half + [_DISTANCE] * self._half], device=device)
        self.found: dict[int, bool] = {}

    def attend(
        self,
        layer: Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        dropout: float,
        scaling: float | None,
        window: int | None,
    ) -> Float[Tensor, "1 heads nodes width"]:
        """The values, each token's own."""
        index = getattr(layer, "layer_idx", None)
        if index is None:
            raise self._rotation.refusal("its attention layers have no numbers")
        here, there = key[:, :, : self._half], key[:, :, self._half :]
        distances = self.positions[0, self._half :]
        angles = self._rotation.angles(distances, self._rotation.layer_type(layer))
        close = _TOLERANCE * float(there.abs().max())
        turns = float((self._rotation.turned(layer, here, angles) - there).abs().max()) <= close
        if not turns and float((here - there).abs().max()) > close:
            reason = f"its keys in layer {index} are not turned as its rotary module says"
            raise self._rotation.refusal(reason)
        self.found[index] = turns
        return value.repeat_interleave(query.shape[1] // value.shape[1], 1)
