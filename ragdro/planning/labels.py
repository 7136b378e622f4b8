"""What an objective reads besides, to know of its samples what it wants to know (`Algorithm.label`).

In: what a plan counts of sampling and scoring, and a question with its samples. Out: the same with the lists
and answers that labels take. Memory is as it was: their batches are no larger.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ragdro.algorithms.base import algorithm_of
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.planning.phases import Phase
from ragdro.planning.side import Side
from ragdro.selection.selector import Selector
from ragdro.types import WeightedTask


def with_labels(
    phases: dict[str, list[Phase]],
    lists: Side,
    selector: Selector,
    generator: Generator,
    longest: WeightedTask,
    readings: Sequence[Reading],
) -> dict[str, list[Phase]]:
    """The phases with what labels take in sampling and scoring; `lists` are all of the question's, `readings`
    those that are answered."""
    counted = dict(phases)
    for name, side, times in _reads(lists, selector, generator, longest, readings):
        more = side.phase(0, float(times), head=side.head)
        counted[name] = [
            replace(p, tokens=p.tokens + times * more.tokens, flops=p.flops + more.flops)
            for p in counted[name]
        ]
    return counted


def _reads(
    lists: Side,
    selector: Selector,
    generator: Generator,
    longest: WeightedTask,
    readings: Sequence[Reading],
) -> Iterator[tuple[str, Side, int]]:
    """The phase, what is read for a question, and how often."""
    config = lists.config
    cost = algorithm_of(config).label_cost(config.e_step.samples)
    if cost.rescored:
        yield "sampling", lists, 1
    if cost.lists:
        alone = selector.group(longest.task, [longest.samples[0].permutation])
        yield "sampling", Side(config, "selector", selector.model, alone), cost.lists
    if cost.answers:
        answer = generator.group(readings[:1])
        yield "scoring", Side(config, "generator", generator.model, answer), cost.answers
