"""Shared prefixes in the device's own precision, under each of its attention kernels, as one JSON line.

    python -m benchmarks.attention_kernels [--device cuda --model llama-1b]

Log-probabilities of m lists and of m answers, and a gradient of each, computed shared and computed one
sequence after another, under `flash` (masked blocks by the memory-efficient kernel: flash takes no mask)
and `efficient` attention (on a CPU `plain`). In 16 bits no two ways are equal; what is asserted is that the
shared way is at most twice as far from float32 (separate passes) as separate passes are.
In float32 it is equal to 2e-4 (relative) under every kernel that takes it. `error` is the largest difference
in nats, `gradient` the norm of the difference over the norm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.timing import report
from benchmarks.trial import generator_of, lists_of, parse, selector_of, slope, world
from ragdro.lm.model import LanguageModel
from ragdro.lm.parity import separate_log_probs
from ragdro.lm.scoring import SequenceGroup, sequence_log_probs
from ragdro.lm.tree import ScoredSequence
from ragdro.system import reading

KERNELS: Mapping[str, Sequence[SDPBackend]] = {
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION],
    "efficient": [SDPBackend.EFFICIENT_ATTENTION],
    "plain": [SDPBackend.MATH],
}
Way = Callable[[], tuple[Tensor, Tensor]]
"""Log-probabilities [sequences], and a gradient in units of its largest entry."""


def ways(model: LanguageModel, group: SequenceGroup) -> tuple[Way, Way]:
    """Shared and separate."""

    def step(sides: Sequence[Callable[[], Tensor]]) -> tuple[Tensor, Tensor]:
        model.hf.zero_grad()
        found = []
        for side in sides:  # a gradient each, so that one side's activations alone are held
            values = side()
            (-values.sum() / len(group.sequences)).backward()
            found.append(values.detach().double())
        return torch.cat(found), slope(model).double()

    def alone(sequence: ScoredSequence) -> Tensor:
        return separate_log_probs(model, [sequence])

    shared = partial(step, [lambda: sequence_log_probs(model, [group])[0]])
    separate = partial(step, [partial(alone, sequence) for sequence in group.sequences])
    return shared, separate


def distances(computed: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor]) -> dict[str, float]:
    """How far a way is from float32."""
    (values, gradient), (expected, slope_of) = computed, exact
    return {
        "error": float((values - expected).abs().max()),
        "gradient": float((gradient - slope_of).norm() / slope_of.norm()),
    }


def case(model: LanguageModel, group: SequenceGroup) -> dict[str, Any]:
    """Both ways under every kernel, in float32 and in the model's own precision."""
    shared, separate = ways(model, group)
    precision, errors = model.autocast, {}
    model.autocast, model.shares_prefixes = (
        None,
        True,
    )  # the check of the first batch is not what is looked at
    with sdpa_kernel([SDPBackend.MATH]):  # the only one that takes grouped queries in float32
        exact = separate()
    names = ("plain",) if model.device.type == "cpu" else ("flash", "efficient")
    for name in names:
        for bits, autocast in {"float32": None, "bfloat16": precision or torch.bfloat16}.items():
            if bits == "float32" and name == "flash":
                continue
            model.autocast = autocast
            with sdpa_kernel(list(KERNELS[name])):
                ours = distances(shared(), exact)
            with sdpa_kernel(
                [SDPBackend.MATH] if bits == "float32" else [*KERNELS["flash"], SDPBackend.MATH]
            ):
                theirs = distances(separate(), exact)
            for what, off in ours.items():
                scale = max(1.0, float(exact[0].abs().max())) if what == "error" else 1.0
                allowed = 2e-4 * scale if bits == "float32" else 2 * theirs[what] + 1e-3
                assert off <= allowed, f"{name}, {bits}: {what} differs by {off:.3g} ({allowed:.3g})"
            errors[f"{name}, {bits}"] = {"shared": rounded(ours), "separate": rounded(theirs)}
    model.autocast = precision
    return errors


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Three digits."""
    return {key: float(f"{value:.3g}") for key, value in values.items()}


def main() -> None:
    trial = parse(__doc__)
    task = world(trial)[0]
    lists = lists_of(trial, [task], 0.0)[0]
    selector = selector_of(trial)
    measured = {"lists": case(selector.model, selector.group(task, lists))}
    del selector
    generator = generator_of(trial)
    measured["answers"] = case(generator.model, generator.group([reading(task, z) for z in lists]))
    report(trial, "attention_kernels", **measured)


if __name__ == "__main__":
    main()
