"""What a phase of an iteration takes, and what becomes of it where decoder layers are in parts (FSDP2)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True, slots=True)
class Phase:
    """Bytes at the worst moment by what they are (`activations` with logits and everything passing), and
    tokens and model FLOPs of all questions of an iteration (see `ragdro.profiling`)."""

    weights: float
    gradients: float
    optimiser: float
    kv_cache: float
    activations: float
    tokens: float
    flops: float

    @property
    def memory(self) -> float:
        """Everything a device holds."""
        return self.weights + self.gradients + self.optimiser + self.kv_cache + self.activations

    def deeper(self, other: Phase, layers: float) -> Phase:
        """What `self` comes to with `layers` times the layers that `other` has more."""
        fields, deeper_fields = asdict(self), asdict(other)
        return Phase(
            **{name: fields[name] + layers * (deeper_fields[name] - fields[name]) for name in fields}
        )


class Layers:
    """The decoder layers of a model that are in parts over several processes.

    In: phases of models of which `more` has one layer more than `less`, and how many layers the model has.
    What is gathered is a copy, of 16 bits where the model computes in them (`half`).
    """

    def __init__(self, less: Phase, more: Phase, count: int, processes: int, half: bool) -> None:
        self.weights, self.gradients = more.weights - less.weights, more.gradients - less.gradients
        self.state = more.optimiser - less.optimiser
        self.count, self.part, self.copy = count, 1 / processes, 0.5 if half else 1.0

    def unsharded(self, whole: Phase) -> Phase:
        """A phase in which all layers are gathered, the part that a process holds beside them."""
        return replace(whole, weights=whole.weights + (self.part + self.copy - 1) * self.count * self.weights)

    def sharded(self, whole: Phase) -> Phase:
        """An update: two layers are gathered at a time, the one that is computed and the next, and one has
        its whole gradient."""
        away = (1 - self.part) * self.count
        return replace(
            whole,
            weights=whole.weights - away * self.weights + 2 * self.copy * self.weights,
            gradients=whole.gradients - away * self.gradients + self.gradients,
            optimiser=whole.optimiser - away * self.state,
        )
