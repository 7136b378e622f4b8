"""Other weights of a model that is in memory once: what cross-fitting and reference policies keep.

In: a model. Out: named sets of its trained parameters, on the CPU, that take the place of its own for as long
as a `with` lasts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from ragdro.errors import TrainingError
from ragdro.lm.model import LanguageModel


class WeightSnapshot:
    """The trained weights that `model` has now, under a `name`."""

    def __init__(self, name: str, model: LanguageModel) -> None:
        self.name = name
        self.model = model
        self.capture()

    def capture(self) -> None:
        """Make the weights that the model has now this snapshot's."""
        self.weights = {
            name: p.detach().to("cpu", copy=True) for name, p in trained_parameters(self.model).items()
        }

    def load(self) -> None:
        """Give the model this snapshot's weights."""
        load_parameters(self.model, self.weights, self.name)

    @contextmanager
    def swap_in(self) -> Iterator[None]:
        """The model has these weights within; what becomes of them is captured, and its own come back."""
        own = WeightSnapshot(self.name, self.model)
        self.load()
        try:
            yield
        finally:
            self.capture()
            own.load()


def trained_parameters(model: LanguageModel) -> dict[str, torch.nn.Parameter]:
    """The parameters that training moves, each under one name even where two modules share it; a pointer's
    projections behind the model's own."""
    own = {name: p for name, p in model.hf.named_parameters() if p.requires_grad}
    if model.projections is not None:
        own |= {f"projections.{name}": p for name, p in model.projections.named_parameters()}
    return own


def load_parameters(model: LanguageModel, saved: Mapping[str, torch.Tensor], name: str) -> None:
    """Copy saved values into `model`. Raises `TrainingError` naming the model where they are another's."""
    parameters = trained_parameters(model)
    if {k: p.shape for k, p in parameters.items()} != {k: t.shape for k, t in saved.items()}:
        raise TrainingError(f"{name}: the saved state is of another model")
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(saved[key])
