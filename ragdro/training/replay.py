"""Replay: permutations of earlier iterations, used again with their right weights.

In: what earlier iterations drew for a question, and the selectors that drew it (kept as variants). Out: the
draws of a `Propose` joined with those, each with the probability of the whole pool,

    q(z) = sum_j m_j / M q_j(z),

q_j being the proposal of iteration j and m_j of the M draws its own (the balance heuristic of multiple
importance sampling, Veach & Guibas 1995): one that another iteration would have drawn more often weighs less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch

from ragdro.config import EStep
from ragdro.lm.scoring import score_all
from ragdro.parallel.world import from_main
from ragdro.selection.selector import Draw, Selector
from ragdro.training.e_step import WeightedTask
from ragdro.training.objectives import balance
from ragdro.training.proposals import Propose, log_proposals
from ragdro.training.variants import EARLIER, LISTS, Variant
from ragdro.types import Permutation, Task

if TYPE_CHECKING:
    from ragdro.training.run_folder import RunFolder


@dataclass(slots=True)
class Earlier:
    """What one earlier iteration drew, by question id, and its selector; nothing before it was filled."""

    selector: Variant
    lists: Mapping[str, Sequence[Permutation]] = field(default_factory=dict)


def pooled(propose: Propose, earlier: Sequence[Earlier], settings: EStep) -> Propose:
    """`propose`, its draws first, with what `earlier` iterations drew for the same question behind them."""

    def joined(selector: Selector, tasks: Sequence[Task]) -> list[list[Draw]]:
        draws = propose(selector, tasks)
        again = [i for i, t in enumerate(tasks) if any(t.question.id in e.lists for e in earlier)]
        if not again:
            return draws
        chosen = [tasks[i] for i in again]
        sources: list[list[Sequence[Permutation]]] = [[[d.permutation for d in draws[i]] for i in again]]
        sources += [[e.lists.get(task.question.id, ()) for task in chosen] for e in earlier]
        pools = [[z for lists in of for z in lists] for of in zip(*sources, strict=True)]
        groups = [selector.group(task, pool) for task, pool in zip(chosen, pools, strict=True)]
        tokens = settings.tokens_per_batch
        priors = [score_all(selector.model, groups, tokens)]
        for e in earlier:
            with e.selector.in_place():
                priors.append(score_all(selector.model, groups, tokens))
        joined = list(draws)
        for at, (i, task, pool) in enumerate(zip(again, chosen, pools, strict=True)):
            of_each = [log_proposals(selector, task, pool, log_p[at], settings.mixture) for log_p in priors]
            counts = torch.tensor([len(source[at]) for source in sources], dtype=torch.float64)
            log_q = balance(torch.tensor(of_each, dtype=torch.float64), counts).tolist()
            joined[i] = [Draw(*one) for one in zip(pool, log_q, priors[0][at], strict=True)]
        return joined

    return joined


def recall(run: RunFolder) -> list[Earlier]:
    """What earlier iterations drew, as far as there were any."""
    found = []
    for at in range(run.config.e_step.replay):
        key = f"{LISTS}{at}"
        if key in run.state.files:
            lists = from_main(partial(run.store.json, run.state, key))
            found.append(
                Earlier(
                    run.variants[f"{EARLIER}{at}"], {q: [tuple(z) for z in zs] for q, zs in lists.items()}
                )
            )
    return found


def remember(run: RunFolder, iteration: int, weighted: Sequence[WeightedTask]) -> None:
    """Keep what this iteration drew, and the selector that drew it, in the oldest one's place."""
    step = run.config.e_step
    if not step.replay or run.state.steps:  # a fit has been saved after it, and this with that
        return
    at = iteration % step.replay
    run.store.put_json(run.state, f"{LISTS}{at}", fresh(weighted, step.samples))
    run.remember(f"{EARLIER}{at}")


def fresh(weighted: Sequence[WeightedTask], m: int) -> dict[str, list[Permutation]]:
    """What this iteration itself drew, by question id: the first `m` draws of each."""
    return {w.task.question.id: [w.samples[at].permutation for at in w.drawn[:m]] for w in weighted}
