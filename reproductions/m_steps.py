"""What the posterior of an E-step says of passages, and what M-steps of a frozen pointer make of it.

    python reproductions/m_steps.py RUN --rates 2e-3 1e-2 --epochs 4 8 --questions 200

RUN has a frozen pointer (`selector.pointer.frozen`) and one iteration, and has kept its warm-up
(`checkpoints.keep=all`). How many of its E-step's lists hold all gold passages, as they were drawn and by
their weights. Then the warm-up's selector is fitted to them anew, by other rates, epochs and objectives, and
measured on validation questions; `labels` is what the gold passages of the same questions teach it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

import ragdro
from ragdro.algorithms.base import Algorithm
from ragdro.algorithms.dro import Dro
from ragdro.algorithms.dro_centered import DroCentered
from ragdro.algorithms.examples import TrainingExample
from ragdro.errors import ConfigError
from ragdro.evaluation.ranking import full_recall
from ragdro.evaluation.significance import bootstrap_interval, paired_permutation_test
from ragdro.runs.setup import load_tasks
from ragdro.runs.stages import config_of
from ragdro.runs.weighted_lists import weighted_lists
from ragdro.selection.selector import Selector
from ragdro.training.m_step import fit
from ragdro.training.teachers import tied_lists
from ragdro.types import Task, WeightedTask

Build = Callable[[int], TrainingExample]


def all_gold(task: Task, permutation: Sequence[int]) -> float:
    """Whether the list holds every gold passage. Raises `ConfigError` where none is labelled."""
    held = full_recall([task.candidates.passages[i] for i in permutation], task.question.gold_passages)
    if held is None:
        raise ConfigError(f"question '{task.question.id}' has no passages labelled gold")
    return held


def say_what_lists_hold(weighted: Sequence[WeightedTask], rng: np.random.Generator) -> None:
    """All gold of the lists as drawn, by their weights, and the difference by question."""
    drawn, meant = list[float](), list[float]()
    for w in weighted:
        held = np.array([all_gold(w.task, s.permutation) for s in w.samples])
        counts = np.array([s.count for s in w.samples])
        drawn.append(float(counts @ held / counts.sum()))
        meant.append(float(np.array([s.weight for s in w.samples]) @ held))
    gain = bootstrap_interval(np.subtract(meant, drawn).tolist(), rng)
    print(f"{len(weighted)} questions: all gold in {np.mean(drawn):.3f} of the lists drawn,", end=" ")
    print(f"in {np.mean(meant):.3f} by weight: {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})")


def lessons(selector: Selector, weighted: Sequence[WeightedTask]) -> Mapping[str, Build]:
    """What each way teaches of question i."""

    def labels(i: int) -> TrainingExample:
        task = weighted[i].task
        lists = tied_lists(task, selector.k, "gold")
        each = (1 / len(lists),) * len(lists)
        return TrainingExample(task.question.id, selector.group(task, lists), each)

    def of(way: Algorithm, i: int) -> TrainingExample:
        return way.selector_example(selector, weighted[i])

    ways = {"dro": Dro(), "dro-centered": DroCentered(), "dro-centered, clip 0.5": DroCentered(clip=0.5)}
    return {**{name: partial(of, way) for name, way in ways.items()}, "labels": labels}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 5e-3, 1e-2, 2e-2])
    parser.add_argument("--epochs", type=float, nargs="+", default=[4, 8])
    parser.add_argument("--questions", type=int, default=200, help="of the validation questions")
    options = parser.parse_args()
    config, rng = config_of(options.run), np.random.default_rng(0)
    weighted = weighted_lists(options.run, config)
    say_what_lists_hold(weighted, rng)
    selector = ragdro.load(config.warm_up.start or options.run, stage="warm-up").selector
    weights, fitted = selector.model.projections, config.m_step.selector
    if weights is None or not (config.selector.kind == "pointer" and config.selector.pointer.frozen):
        parser.error(
            f"{options.run}: its selector is no frozen pointer; train one with configs/smollm2-135m.yaml"
        )
    start = {name: value.clone() for name, value in weights.state_dict().items()}
    held_out = load_tasks(config, config.data.validation)[: options.questions]
    most = config.evaluation.max_tokens_per_micro_batch

    def measured() -> list[float]:
        lists = selector.greedy(held_out, most)
        return [all_gold(task, one.permutation) for task, one in zip(held_out, lists, strict=True)]

    before = measured()
    print(f"warm-up: all gold {np.mean(before):.3f} of {len(held_out)}")
    for (name, build), rate, epochs in product(
        lessons(selector, weighted).items(), options.rates, options.epochs
    ):
        weights.load_state_dict(start)
        own = fitted.model_copy(update={"projection_learning_rate": rate, "epochs": epochs})
        fit(selector.model, len(weighted), build, own, np.random.default_rng(config.seed))
        after = measured()
        won = sum(a > b for a, b in zip(after, before, strict=True))
        lost = sum(a < b for a, b in zip(after, before, strict=True))
        p = paired_permutation_test(before, after, rng)
        print(
            f"{name}, {rate:g}, {epochs:g} epochs: {np.mean(after):.3f}, {won} won, {lost} lost, p = {p:.3f}"
        )


if __name__ == "__main__":
    main()
