"""Rotary embeddings whose frequencies depend on a sequence's length (longrope of Phi, dynamic NTK).

In: a causal LM of Hugging Face. Out: `LengthClasses`, which says which lengths have the same frequencies.
The library picks them for a whole batch, by the longest sequence in it, so a value would depend on what
happens to be computed beside it. Here p(token | tokens before it) is what the model gives those tokens alone:
only prefixes of one class are computed together (`ragdro.lm.scoring`, `ragdro.lm.decoding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.nn import Module
from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class LengthClasses:
    """Longer than a switch is another class; `growing`: beyond the last one every length is its own."""

    switches: tuple[int, ...]
    growing: bool

    def of(self, length: int) -> int:
        """The class of a prefix of so many tokens."""
        passed = sum(length > switch for switch in self.switches)
        beyond = length - max(self.switches)
        return passed + beyond - 1 if self.growing and beyond > 0 else passed

    def apart(self, lengths: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Which sequences may be written together: indices of `lengths`, from how many tokens to how many
        each grows. One that changes its class on the way is alone."""
        together: dict[tuple[int, int], list[int]] = {}
        for i, (first, last) in enumerate(lengths):
            length_class = self.of(first)
            together.setdefault(
                (length_class, -1) if length_class == self.of(last) else (length_class, i), []
            ).append(i)
        return list(together.values())


def length_classes(hf: PreTrainedModel) -> LengthClasses | None:
    """The classes of `hf`; None where all lengths have the same frequencies, as nearly always.

    Dynamic frequencies also depend, in the library, on what was computed before; that is undone here.
    """
    switches: set[int] = set()
    growing = False
    for module in hf.modules():
        kinds: Any = getattr(module, "rope_type", None)
        for layer, kind in kinds.items() if isinstance(kinds, dict) else [(None, kinds)]:
            if kind == "longrope":
                parameters = module.config.rope_parameters  # type: ignore[union-attr]
                parameters = parameters if layer is None else parameters[layer]  # type: ignore[index]
                switches.add(int(parameters["original_max_position_embeddings"]))  # type: ignore[index, arg-type]
            elif isinstance(kind, str) and "dynamic" in kind:
                growing = True
                switches.add(int(module.original_max_seq_len))  # type: ignore[arg-type]
                module.register_forward_pre_hook(_forget)
    return LengthClasses(tuple(sorted(switches)), growing) if switches else None


def _forget(module: Module, _: Any) -> None:
    """Put the frequencies back to those of short sequences, from which each pass finds its own."""
    for name, frequencies in [*module.named_buffers(recurse=False), *vars(module).items()]:
        if name.endswith("original_inv_freq"):
            prefix = name.removesuffix("original_inv_freq")
            current = getattr(module, f"{prefix}inv_freq")
            module.register_buffer(f"{prefix}inv_freq", frequencies.to(current.device), persistent=False)
            setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
