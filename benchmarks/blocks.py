"""Passages computed once for all lists of a question: blocks against separate passes and the tree, as JSON.

    python -m benchmarks.blocks [--device cuda --model llama-1b]

m = 8 lists of K = 5 out of 20 passages of 180 tokens, which use 6, 8, 12 or 20 different passages between
them. Scoring (log p(y|x,d_z), no gradient) and one gradient of the generator, each in four ways: `ours`
(blocks), `separate` (a pass for each list under the same block mask), `separate_full` (a pass for each list
with ordinary causal attention), `tree` (the same with what lists begin with shared). Before anything is
timed, blocks are equal to `separate` and the tree to `separate_full`. Then a whole iteration, as
`benchmarks.iteration` has it (lists drawn, scored, one gradient of the selector and one of the generator),
with blocks (`ours`) and without (`tree`). A few minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.iteration import Ours
from benchmarks.timing import Side, compare, report, same
from benchmarks.trial import Trial, compared, parse, random_model, selector_of, slope, world
from ragdro.generation.generator import Generator
from ragdro.lm.parity import separate_log_probs
from ragdro.lm.scoring import sequence_log_probs
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.system import reading
from ragdro.types import Permutation, Task

DISTINCT = (6, 8, 12, 20)
FULL_PROMPT = 3780
"""At which a passage takes 180 tokens."""


def lists_over(trial: Trial, distinct: int) -> list[Permutation]:
    """m different lists that use `distinct` passages evenly."""
    rng, counts = np.random.default_rng(distinct), np.zeros(distinct)
    lists: list[Permutation] = []
    while len(lists) < trial.samples:
        chosen = rng.permutation(np.lexsort((rng.random(distinct), counts))[: trial.k])
        if tuple(chosen.tolist()) not in lists:
            lists.append(tuple(chosen.tolist()))
            counts[chosen] += 1
    return lists


def ways(generators: dict[str, Generator], task: Task, lists: Sequence[Permutation]) -> dict[str, Side]:
    """The four ways to the lists' log-likelihoods, prompts and trees included."""
    readings = [reading(task, z) for z in lists]

    def together(name: str) -> Side:
        generator = generators[name]
        return lambda: sequence_log_probs(generator.model, [generator.group(readings)])[0]

    def apart(name: str) -> Side:
        generator = generators[name]
        return lambda: separate_log_probs(generator.model, [generator.scored(r) for r in readings])

    return {
        "ours": together("blocks"),
        "separate": apart("blocks"),
        "separate_full": apart("full"),
        "tree": together("full"),
    }


def scoring(side: Side) -> Side:
    """Without gradients."""

    def scored() -> Tensor:
        with torch.no_grad():
            values: Tensor = side()  # type: ignore[assignment]
        return values

    return scored


def update(generator: Generator, side: Side) -> Side:
    """The gradient of -sum_i log p(y|x,d_zi) / m; what comes back is one matrix's."""

    def updated() -> Tensor:
        generator.model.hf.zero_grad()
        values: Tensor = side()  # type: ignore[assignment]
        (-values.mean()).backward()
        return slope(generator.model)

    return updated


def case(trial: Trial, generators: dict[str, Generator], task: Task, distinct: int) -> dict[str, object]:
    """All jobs over so many different passages, after a check that sides agree."""
    lists = lists_over(trial, distinct)
    sides = ways(generators, task, lists)
    results: dict[str, object] = {"distinct": len({i for z in lists for i in z})}
    for name in ("scoring", "update"):
        jobs = {
            way: scoring(side) if name == "scoring" else update(generators["blocks"], side)
            for way, side in sides.items()
        }
        with compared(generators["blocks"].model) as tolerance:
            for one, other in (("ours", "separate"), ("tree", "separate_full")):
                same(f"{name}: {one}", jobs[one](), jobs[other](), tolerance)
        results[name] = compare(trial, jobs)
    selector = selector_of(trial)
    iterations = {
        way: Ours(selector, generators[name], [task], trial.samples)
        for way, name in (("ours", "blocks"), ("tree", "full"))
    }
    results["iteration"] = compare(trial, {way: partial(ours, [lists]) for way, ours in iterations.items()})
    return results


def main() -> None:
    trial = parse(__doc__, questions=1, repeats=3)
    if trial.model != "smallest":
        trial = replace(trial, prompt=FULL_PROMPT)
    model = random_model(trial, seed=1)
    template, budget = load_template("tiny-generator"), Budget(40, trial.passage_tokens)
    generators = {
        "full": Generator(model, template, budget=budget, answer_tokens=24),
        "blocks": Generator(model, template, budget=budget, answer_tokens=24, passage_attention="blocks"),
    }
    task = world(trial)[0]
    counts = [d for d in DISTINCT if trial.k < d <= trial.n] or [trial.n]
    report(trial, "blocks", **{str(d): case(trial, generators, task, d) for d in counts})


if __name__ == "__main__":
    main()
