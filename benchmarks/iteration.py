"""One whole iteration, E-step and M-step of both models, against the textbook way, as one JSON line.

    python -m benchmarks.iteration [--device cuda --model llama-1b]

Both sides draw lists (ours as a list is drawn, the other by `generate`), and then use the same ones,
drawn as the cases of `e_step_score` say, so that questions, samples and weights are equal: score every
sample, weigh them, one gradient of the selector and one of the generator. The textbook way computes a whole
sequence for every sample each time, with all logits. Weights, losses and gradients are equal before anything
is timed. About two minutes on two cores.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.e_step_sample import generate
from benchmarks.e_step_score import CASES, textbook
from benchmarks.m_step_selector import textbook as textbook_selections
from benchmarks.timing import Side, compare, report, same
from benchmarks.trial import (
    Trial,
    compared,
    distinct,
    generator_of,
    lists_of,
    parse,
    selector_of,
    slope,
    world,
)
from ragdro.generation.generator import Generator
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, score_all, sequence_log_probs
from ragdro.selection.selector import Selector
from ragdro.system import reading
from ragdro.types import Permutation, Task

Result = tuple[Tensor, float, float, Tensor, Tensor]
"""Weights [questions, samples], both losses, and a gradient of each model."""


class Ours:
    """The iteration as `ragdro` computes it."""

    def __init__(self, selector: Selector, generator: Generator, tasks: list[Task], samples: int) -> None:
        self.selector, self.generator, self.tasks = selector, generator, tasks
        shape = (samples, selector.choices_per_list)
        self.uniforms = [np.random.default_rng(i).random(shape) for i in range(len(tasks))]

    def __call__(self, lists: list[list[Permutation]]) -> Result:
        self.selector.sample(self.tasks, self.uniforms, temperature=1.0, max_tokens=8192)
        unlike = [list(dict.fromkeys(drawn)) for drawn in lists]
        log_likelihoods = score_all(self.generator.model, self._readings(unlike), 8192)
        by_list = [
            dict(zip(distinct, values, strict=True))
            for distinct, values in zip(unlike, log_likelihoods, strict=True)
        ]
        weights = torch.tensor(
            [[s[z] for z in drawn] for s, drawn in zip(by_list, lists, strict=True)]
        ).softmax(1)
        shares = [
            [sum(w for w, one in zip(row, drawn, strict=True) if one == z) for z in distinct]
            for row, drawn, distinct in zip(weights.tolist(), lists, unlike, strict=True)
        ]
        groups = [
            self.selector.group(task, distinct) for task, distinct in zip(self.tasks, unlike, strict=True)
        ]
        selection = self._gradient(self.selector.model, groups, shares)
        answers = self._gradient(self.generator.model, self._readings(unlike), shares)
        return weights, selection, answers, slope(self.selector.model), slope(self.generator.model)

    def _readings(self, lists: list[list[Permutation]]) -> list[SequenceGroup]:
        return [
            self.generator.group([reading(task, z) for z in drawn])
            for task, drawn in zip(self.tasks, lists, strict=True)
        ]

    def _gradient(
        self, model: LanguageModel, groups: list[SequenceGroup], shares: list[list[float]]
    ) -> float:
        """A question at a time, as the other side has it."""
        model.hf.zero_grad()
        total = 0.0
        for group, weights in zip(groups, shares, strict=True):
            values = sequence_log_probs(model, [group])[0]
            loss = -(torch.tensor(weights, device=values.device) * values).sum() / len(groups)
            loss.backward()
            total += float(loss.detach())
        return total


def textbook_way(
    selector: Selector, generator: Generator, tasks: list[Task], lists: list[list[Permutation]], tokens: int
) -> Result:
    """The iteration with a whole sequence for every sample."""
    for task, drawn in zip(tasks, lists, strict=True):
        generate(selector, task, len(drawn), tokens)
    sequences = [
        [generator.scored(reading(task, z)) for z in drawn] for task, drawn in zip(tasks, lists, strict=True)
    ]
    with torch.no_grad():
        scores = torch.stack(
            [torch.stack([textbook(generator.model, s) for s in drawn]) for drawn in sequences]
        )
    weights = scores.softmax(1)
    selector.model.hf.zero_grad()
    generator.model.hf.zero_grad()
    selection = answers = 0.0
    for task, drawn, whole, row in zip(tasks, lists, sequences, weights, strict=True):
        chosen = tuple(selector.scored(task, z) for z in drawn)
        loss = -(row * textbook_selections(selector.model, chosen, keep=False)).sum() / len(tasks)
        loss.backward()
        selection += float(loss.detach())
        for sequence, weight in zip(whole, row, strict=True):
            loss = -weight * textbook(generator.model, sequence) / len(tasks)
            loss.backward()
            answers += float(loss.detach())
    return weights, selection, answers, slope(selector.model), slope(generator.model)


def case(trial: Trial, ours: Ours, spread: float) -> dict[str, object]:
    """One case's metrics, after a check that its sides agree."""
    lists = lists_of(trial, ours.tasks, spread)
    grammar = ours.selector.grammar
    tokens = max(map(len, grammar.first)) + (trial.k - 1) * max(map(len, grammar.later))
    sides: dict[str, Side] = {
        "ours": lambda: ours(lists),
        "textbook": lambda: textbook_way(ours.selector, ours.generator, ours.tasks, lists, tokens),
    }
    names = ("weights", "selector loss", "generator loss", "selector gradient", "generator gradient")
    with compared(ours.selector.model, ours.generator.model) as tolerance:
        for name, a, b in zip(names, sides["ours"](), sides["textbook"](), strict=True):  # type: ignore[call-overload]
            same(name, a, b, tolerance)
    return {"distinct": distinct(lists), **compare(trial, sides)}


def main() -> None:
    trial = parse(__doc__, questions=1, repeats=2)
    ours = Ours(selector_of(trial), generator_of(trial), world(trial), trial.samples)
    report(trial, "iteration", **{name: case(trial, ours, spread) for name, spread in CASES.items()})


if __name__ == "__main__":
    main()
