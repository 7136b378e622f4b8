"""One gradient of the generator: a tree of m lists against m separate forward and backward passes, in JSON.

    python -m benchmarks.m_step_generator [--device cuda --model llama-1b]

The two cases are those of `e_step_score`. A list that was drawn twice is one leaf with both weights. Losses
and gradients are equal before anything is timed. About a minute on two cores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.e_step_score import CASES, textbook
from benchmarks.timing import Side, compare, report, same
from benchmarks.trial import Trial, compared, distinct, generator_of, lists_of, parse, slope, world
from ragdro.generation.generator import Generator
from ragdro.lm.scoring import sequence_log_probs
from ragdro.system import reading
from ragdro.types import Permutation, Task


def sides_of(generator: Generator, tasks: list[Task], lists: list[list[Permutation]]) -> dict[str, Side]:
    """The two ways to the loss -sum_i w_i log p(y|x,d_zi) / questions, w_i = 1/m, and a gradient."""
    model = generator.model

    def ours() -> tuple[float, Tensor]:
        model.hf.zero_grad()
        groups, weights = [], []
        for task, drawn in zip(tasks, lists, strict=True):
            unlike = list(dict.fromkeys(drawn))
            groups.append(generator.group([reading(task, z) for z in unlike]))
            shares = [drawn.count(z) / len(drawn) / len(tasks) for z in unlike]
            weights.append(torch.tensor(shares, device=model.device))
        values = sequence_log_probs(model, groups)
        loss = -torch.stack([(w * v).sum() for w, v in zip(weights, values, strict=True)]).sum()
        loss.backward()
        return float(loss.detach()), slope(model)

    def separate() -> tuple[float, Tensor]:
        model.hf.zero_grad()
        total = 0.0
        for task, drawn in zip(tasks, lists, strict=True):
            for z in drawn:
                loss = -textbook(model, generator.scored(reading(task, z))) / len(drawn) / len(tasks)
                loss.backward()
                total += float(loss.detach())
        return total, slope(model)

    return {"ours": ours, "separate": separate}


def case(trial: Trial, generator: Generator, tasks: list[Task], spread: float) -> dict[str, object]:
    """One case's metrics, after a check that its sides agree."""
    lists = lists_of(trial, tasks, spread)
    sides = sides_of(generator, tasks, lists)
    with compared(generator.model) as tolerance:
        (ours, shared), (separate, gradient) = sides["ours"](), sides["separate"]()  # type: ignore[misc]
        same("loss", ours, separate, tolerance)
        same("gradient", shared, gradient, tolerance)
    return {"distinct": distinct(lists), **compare(trial, sides)}


def main() -> None:
    trial = parse(__doc__, questions=2)
    generator, tasks = generator_of(trial), world(trial)
    report(
        trial,
        "m_step_generator",
        **{name: case(trial, generator, tasks, spread) for name, spread in CASES.items()},
    )


if __name__ == "__main__":
    main()
