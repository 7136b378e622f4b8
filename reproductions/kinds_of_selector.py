"""Both kinds of selector on the embedded world: what sampling and an update cost, what a warm-up teaches.

    python reproductions/kinds_of_selector.py cost
    python reproductions/kinds_of_selector.py warm-up list warm_up.selector.learning_rate=1e-4
    python reproductions/kinds_of_selector.py warm-up pointer warm_up.selector.learning_rate=1e-4

Costs are CPU seconds and tokens of both kinds, interleaved in one process. `warm-up` prints how often a gold
passage is chosen first and how often all gold passages are selected, of the validation questions, before and
after.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ragdro.algorithms.examples import TrainingExample
from ragdro.config import Config, load_config
from ragdro.profiling import Profile, profiled
from ragdro.runs.setup import build_rag, load_tasks
from ragdro.system import Rag
from ragdro.training.m_step import fit
from ragdro.training.warm_up import warm_up
from ragdro.types import Permutation, Task

_KINDS = {"list": [], "pointer": ["selector.kind=pointer", "selector.prompt=tiny-pointer"]}
_QUESTIONS, _ROUNDS = 32, 3


def config_of(kind: str, overrides: Sequence[str] = ()) -> Config:
    """The embedded default with a selector of that kind."""
    return load_config(Path("configs/tiny.yaml"), [*_KINDS[kind], *overrides])


def cost() -> None:
    """Print a row for each kind and number of lists."""
    config = config_of("list")
    tasks = load_tasks(config, config.data.train)[:_QUESTIONS]
    systems = {kind: build_rag(config_of(kind)) for kind in _KINDS}
    for kind, rag in systems.items():  # checks and caches of the first batch are no cost of the next ones
        _sample(kind, rag, tasks[:4], 8, show=False)
        _update(kind, rag, tasks[:4], _sample(kind, rag, tasks[:4], 8, show=False), show=False)
    for _ in range(_ROUNDS):
        for kind, rag in systems.items():
            lists = _sample(kind, rag, tasks, 8)
            _sample(kind, rag, tasks, 64)
            _update(kind, rag, tasks, lists)


def _sample(
    kind: str, rag: Rag, tasks: Sequence[Task], m: int, *, show: bool = True
) -> list[list[Permutation]]:
    shape = (m, rag.selector.choices_per_list)
    uniforms = [np.random.default_rng(i).random(shape) for i in range(len(tasks))]
    with profiled(Profile(1.0, clock=time.process_time)) as profile:
        draws = rag.selector.sample(tasks, uniforms, temperature=1.0, max_tokens=4096)
    if show:
        _print(kind, f"sample {m}", profile, len(tasks))
    return [list(dict.fromkeys(d.permutation for d in drawn)) for drawn in draws]


def _update(
    kind: str, rag: Rag, tasks: Sequence[Task], lists: Sequence[list[Permutation]], *, show: bool = True
) -> None:
    selector = rag.selector

    def build(i: int) -> TrainingExample:
        weights = (1 / len(lists[i]),) * len(lists[i])
        return TrainingExample(tasks[i].question.id, selector.group(tasks[i], lists[i]), weights)

    settings = config_of(kind, ["m_step.selector.learning_rate=1e-9"]).m_step.selector
    with profiled(Profile(1.0, clock=time.process_time)) as profile:
        fit(selector.model, len(tasks), build, settings, np.random.default_rng(0))
    if show:
        _print(kind, "update", profile, len(tasks))


def _print(kind: str, what: str, profile: Profile, questions: int) -> None:
    tokens, seconds = (sum(part.values()) for part in (profile.tokens, profile.seconds))
    print(
        f"{kind:8} {what:10} {tokens / questions:8.0f} tokens {1000 * seconds / questions:8.1f} ms a question"
    )


def quality(kind: str, overrides: Sequence[str]) -> None:
    """Print what a warm-up of the selector alone makes of it."""
    config = config_of(kind, ["warm_up.generator=null", *overrides])
    rag = build_rag(config)
    train, held_out = (load_tasks(config, s) for s in (config.data.train, config.data.validation))
    before = _measured(rag, held_out)
    warm_up(rag.selector, rag.generator, train, config.warm_up, np.random.default_rng(config.seed))
    after = _measured(rag, held_out)
    print(f"{kind} {' '.join(overrides)}: first, all gold {before} -> {after}; {len(train)} questions")


def _measured(rag: Rag, tasks: Sequence[Task]) -> str:
    first, whole = [], []
    for task, selection in zip(tasks, rag.selector.greedy(tasks, 8192), strict=True):
        gold = {passage.content for passage in task.question.gold_passages}
        got = [task.candidates.passages[i].content for i in selection.permutation]
        first.append(got[0] in gold)
        whole.append(gold <= set(got))
    return f"{np.mean(first):.2f} {np.mean(whole):.2f}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "cost":
        cost()
    else:
        quality(sys.argv[2], sys.argv[3:])
