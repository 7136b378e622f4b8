"""A model's dropout, off but where it is asked for.

In: a causal LM of Hugging Face, plain or with adapters. Out: its places of dropout, all set to 0. Samples,
scores and the log-probabilities that a loss compares with stored ones must come from one distribution, so
they are all without dropout, whether the model is in training mode or not (gradient checkpointing needs that
mode). A fit that wants dropout turns it on for as long as it computes. The config keeps its values, so what
is saved is the model that was loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch.nn import Module


@dataclass(frozen=True, slots=True, eq=False)
class DropoutSite:
    """Attribute `name` of `module`, a probability of dropping that was `p`."""

    module: Module
    name: str
    p: float


def switch_off(hf: Module) -> list[DropoutSite]:
    """Set every dropout of `hf` to 0; returns those that were not."""
    sites = [
        DropoutSite(module, name, value)
        for module in hf.modules()
        for name, value in vars(module).items()
        if isinstance(value, float) and value > 0 and _is_dropout(module, name)
    ]
    for site in sites:
        setattr(site.module, site.name, 0.0)
    return sites


@contextmanager
def switched_on(sites: Sequence[DropoutSite]) -> Iterator[None]:
    """The sites have their probabilities within, and 0 again behind."""
    for site in sites:
        setattr(site.module, site.name, site.p)
    try:
        yield
    finally:
        for site in sites:
            setattr(site.module, site.name, 0.0)


def _is_dropout(module: Module, name: str) -> bool:
    """`attention_dropout`, `layerdrop`, `activation_dropout` … of a layer, and `p` of a dropout layer."""
    return "drop" in name or (name == "p" and "Dropout" in type(module).__name__)
