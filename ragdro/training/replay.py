"""Replay: permutations of earlier iterations, used again with their right weights.

In: what earlier iterations drew for a question, and the selectors that drew it (kept as snapshots). Out: the
draws of a `Propose` joined with those, each with the probability of the whole pool,

    q(z) = sum_j m_j / M q_j(z),

q_j being the proposal of iteration j and m_j of the M draws its own (the balance heuristic of multiple
importance sampling, Veach & Guibas 1995): one that another iteration would have drawn more often weighs less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ragdro.algorithms.weights import balance
from ragdro.config import EStep
from ragdro.lm.scoring import score_all
from ragdro.lm.snapshot import WeightSnapshot
from ragdro.selection.selector import Selector
from ragdro.training.proposals import Propose, log_proposals
from ragdro.training.teachers import Orders
from ragdro.types import Draw, Permutation, Task, WeightedTask

Lists = Mapping[str, Sequence[Permutation]]
"""What an iteration drew, by question id."""


@dataclass(slots=True)
class Earlier:
    """What one earlier iteration drew, by question id, and its selector; nothing before it was filled."""

    selector: WeightSnapshot
    lists: Lists = field(default_factory=dict)


def earlier_name(age: int) -> str:
    """What the snapshot of the `age`-th earlier selector is called."""
    return f"selector-earlier-{age}"


def pooled(
    propose: Propose, earlier: Sequence[Earlier], settings: EStep, orders: Orders | None = None
) -> Propose:
    """`propose`, its draws first, with what `earlier` iterations drew for the same question behind them;
    `orders` as in `proposals`."""

    def joined(selector: Selector, tasks: Sequence[Task]) -> list[list[Draw]]:
        draws = propose(selector, tasks)
        again = [i for i, t in enumerate(tasks) if any(t.question.id in e.lists for e in earlier)]
        if not again:
            return draws
        chosen = [tasks[i] for i in again]
        sources: list[list[Sequence[Permutation]]] = [[[d.permutation for d in draws[i]] for i in again]]
        sources += [[e.lists.get(task.question.id, ()) for task in chosen] for e in earlier]
        pools = [[z for lists in sampled for z in lists] for sampled in zip(*sources, strict=True)]
        groups = [selector.group(task, pool) for task, pool in zip(chosen, pools, strict=True)]
        tokens = settings.max_tokens_per_micro_batch
        priors = [score_all(selector.model, groups, tokens)]
        for e in earlier:
            with e.selector.swap_in():
                priors.append(score_all(selector.model, groups, tokens))
        result = list(draws)
        for row, (i, task, pool) in enumerate(zip(again, chosen, pools, strict=True)):
            by_source = [
                log_proposals(selector, task, pool, log_p[row], settings.mixture, orders) for log_p in priors
            ]
            counts = torch.tensor([len(source[row]) for source in sources], dtype=torch.float64)
            log_q = balance(torch.tensor(by_source, dtype=torch.float64), counts).tolist()
            result[i] = [Draw(*one) for one in zip(pool, log_q, priors[0][row], strict=True)]
        return result

    return joined


def fresh_lists(weighted: Sequence[WeightedTask], m: int) -> dict[str, list[Permutation]]:
    """What this iteration itself drew, by question id: the first `m` draws of each."""
    return {w.task.question.id: [w.samples[i].permutation for i in w.drawn[:m]] for w in weighted}
