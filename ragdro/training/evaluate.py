"""Measure a stage of a training: greedy metrics of both splits, and what samples say about the fit.

In: the system and questions with candidates. Out: the metrics that `results.json` holds for a stage. The
bound and the effective sample size come from the E-step itself, on fixed random numbers, so that stages
differ by their models alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import torch

from ragdro.algorithms.base import Algorithm
from ragdro.config import EStep, Evaluation
from ragdro.evaluation.evaluate import evaluate as score_prediction
from ragdro.evaluation.evaluate import summarise
from ragdro.lm.scoring import score_all
from ragdro.parallel.world import map_sharded
from ragdro.profiling import phase
from ragdro.rewriting.decisions import path_log_priors
from ragdro.system import Rag
from ragdro.training import diagnostics
from ragdro.training.e_step import e_step
from ragdro.training.known import Known
from ragdro.training.loop import VANILLA, Training, stage_name
from ragdro.training.parts import BEST, Records
from ragdro.training.path_proposals import path_proposals
from ragdro.training.prefetch import tokenised_meanwhile
from ragdro.training.proposals import proposals, uniforms
from ragdro.training.thoughts import thinks
from ragdro.types import Draw, Prediction, Selection, Task, WeightedTask

Predict: TypeAlias = Callable[[Sequence[Task]], list[Prediction]]
SAMPLED = (*diagnostics.METRICS, "tight_bound", "kl_to_previous")
"""Metrics of a stage that come from samples."""
_Item = TypeVar("_Item")
_EVALUATION_STREAM = 0
_COMPARED = 32
"""Validation questions on which a selector is compared with the one before it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Of the same questions: weighted permutations and the greedy selections."""

    weighted: list[WeightedTask]
    selections: list[Selection]


def evaluate_vanilla(training: Training) -> None:
    """Vanilla RAG: the warmed-up generator reads the retriever's first K; nothing is sampled."""
    state, system = training.state, training.system
    if state.results["vanilla_rag"] is not None or not training.reported:  # a resumed run has it
        return

    def predict(tasks: Sequence[Task]) -> list[Prediction]:
        return system.predict(tasks, select=False)

    training.emit("on_measuring", VANILLA)
    metrics, records = _greedy(training, training.reported, predict, training.measured.get(VANILLA))
    training.emit("on_evaluation", VANILLA, "reported", metrics, records)
    state.results["vanilla_rag"] = {**metrics, **dict.fromkeys(SAMPLED)}
    training.checkpointer.save_vanilla()


def evaluate(training: Training, iteration: int) -> None:
    """Measure the pair after `iteration` (0: the warm-up) and note it as the last one that is done.

    What samples say is measured on the validation questions, whose metric that `evaluation.metric` names says
    which iteration is best. Without validation questions nothing is measured, nor after iterations that
    `evaluation.every` leaves out.
    """
    training.state.finished, training.state.steps = iteration, {}
    settings = training.settings
    due = iteration % settings.evaluation.every == 0 or iteration == settings.iterations
    if training.validation and due:
        _measure(training, iteration)
    training.checkpointer.save_iteration(iteration)
    training.emit("on_iteration_end", training, iteration)


def test_best(training: Training) -> None:
    """All iterations are done: measure the best one on the test questions, where nothing else has."""
    best, stage = training.state.results["best"], training.tests_the_best_alone
    if not stage or best is None or "questions" in best:
        return
    training.search_as(best["iteration"])
    for role in training.models:
        training.snapshots[f"{BEST}{role}"].load()
    training.emit("on_measuring", stage_name(best["iteration"]))
    metrics, records = _greedy(training, training.reported, _predict(training))
    measured = {**best, **metrics}
    sampled = {key: best[key] for key in SAMPLED}
    training.emit("on_evaluation", stage_name(best["iteration"]), "reported", {**metrics, **sampled}, records)
    training.state.results["iterations"].append(measured)
    training.state.results["best"] = measured


def _measure(training: Training, iteration: int) -> None:
    stage, system = stage_name(iteration), training.system
    training.emit("on_measuring", stage)
    drawn, sampled = _sampled(training)
    selected = {w.task.question.id: z for w, z in zip(drawn.weighted, drawn.selections, strict=True)}

    def measured(split: str, tasks: Sequence[Task], predict: Predict) -> dict[str, Any]:
        known = training.measured.get(stage) if split == "reported" else None
        greedy, records = _greedy(training, tasks, predict, known)
        metrics = {**greedy, **sampled}
        training.emit("on_evaluation", stage, split, metrics, records)
        return metrics

    def read(local_tasks: Sequence[Task]) -> list[Prediction]:
        return system.read(local_tasks, [selected[task.question.id] for task in local_tasks])

    if training.test is None:
        chosen = reported = measured("reported", training.validation, read)
    else:
        chosen = measured("validation", training.validation, read)
        alone = training.tests_the_best_alone and iteration
        reported = dict(sampled) if alone else measured("reported", training.test, _predict(training))
    _record(training, iteration, reported, float(chosen[training.settings.evaluation.metric]))


def _predict(training: Training) -> Predict:
    """Answers from greedy selections, which a selector that never changes makes once."""
    system = training.system

    def predict(local_tasks: Sequence[Task]) -> list[Prediction]:
        with tokenised_meanwhile(system.generator, local_tasks):
            selections = training.known.of("selected", local_tasks, system.select)
        return system.read(local_tasks, selections)

    return predict


def _record(training: Training, iteration: int, metrics: dict[str, Any], score: float) -> None:
    state = training.state
    metrics = {**metrics, "fallbacks": training.fallbacks}
    if iteration == 0:
        state.results["warm_up"] = metrics
    elif not training.tests_the_best_alone:
        state.results["iterations"].append({"iteration": iteration, **metrics})
    state.scores.append((iteration, -math.inf if math.isnan(score) else score))
    if state.is_best:
        state.results["best"] = {"iteration": iteration, **metrics}
        for role in training.models:
            training.capture(f"{BEST}{role}")


@phase("evaluate", whole=True)
def _sampled(training: Training) -> tuple[Drawn, dict[str, float | None]]:
    """What was drawn, and every metric in `SAMPLED`."""
    settings, algorithm = training.settings, training.algorithm
    drawn = draw(
        training.system, algorithm, settings.evaluation, settings.seed, training.validation, training.known
    )
    moved = _kl_to_previous(training)
    training.previous_samples = compared(drawn.weighted)
    training.checkpointer.save_samples(training.previous_samples)
    metrics = sampled_metrics(drawn.weighted, algorithm, settings.evaluation)
    return drawn, {**metrics, "kl_to_previous": moved}


@phase("evaluate", whole=True)
def _greedy(
    training: Training, tasks: Sequence[Task], predict: Predict, known: Records | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The metrics of a split, and a record a question: those that are `known`, or new ones."""

    def predicted(local_tasks: Sequence[Task]) -> list[dict[str, Any]]:
        return [score_prediction(prediction, training.own_metrics) for prediction in predict(local_tasks)]

    records = list(map_sharded(tasks, predicted)) if known is None else [*known]
    return summarise(records), records


def draw(
    rag: Rag,
    algorithm: Algorithm,
    settings: Evaluation,
    seed: int,
    tasks: Sequence[Task],
    known: Known | None = None,
) -> Drawn:
    """Greedy selections, and weighted permutations from the random numbers that every stage has in common.

    The questions of the tight bound have as many as it takes, the others `evaluation.samples`. `known`: what
    a selector that never changes has drawn before.
    """
    known = known or Known(used=False)
    tight = spaced(tasks, settings.tight_questions)
    chosen = {task.question.id for task in tight}
    others = [task for task in tasks if task.question.id not in chosen]
    most = max(settings.samples, settings.tight_samples or 0)
    lists = _lists(rag, algorithm, settings, seed, tight, most, known)
    lists |= _lists(rag, algorithm, settings, seed, others, settings.samples, known)
    weighted = e_step(
        rag.selector,
        rag.generator,
        tasks,
        propose=lambda _, local_tasks: [lists[task.question.id][1] for task in local_tasks],
        max_tokens=settings.max_tokens_per_micro_batch,
        selects=False,
        think=thinks(seed, _EVALUATION_STREAM, settings.max_tokens_per_micro_batch),
    )
    return Drawn(weighted, [lists[task.question.id][0] for task in tasks])


def _lists(
    rag: Rag,
    algorithm: Algorithm,
    settings: Evaluation,
    seed: int,
    tasks: Sequence[Task],
    samples: int,
    known: Known,
) -> dict[str, tuple[Selection, list[Draw]]]:
    """What is selected and so many draws, by question, a prompt read once."""
    selector, tokens = rag.selector, settings.max_tokens_per_micro_batch
    step = EStep(samples=samples, max_tokens_per_micro_batch=tokens)
    propose = proposals(algorithm, step, seed, _EVALUATION_STREAM)
    if rag.asking is not None:
        propose = path_proposals(propose, rag.asking, step, seed, _EVALUATION_STREAM)

    def select_and_draw(local_tasks: Sequence[Task]) -> list[tuple[Selection, list[Draw]]]:
        if not algorithm.draws_lists or rag.asking is not None:
            return list(zip(rag.select(local_tasks), propose(selector, local_tasks), strict=True))
        numbers = uniforms(selector, local_tasks, samples, seed, _EVALUATION_STREAM)
        return selector.select_and_sample(local_tasks, numbers, tokens)

    names = (task.question.id for task in tasks)

    def drawn(local_tasks: Sequence[Task]) -> list[tuple[Selection, list[Draw]]]:
        with tokenised_meanwhile(rag.generator, local_tasks):
            return known.of("drawn", local_tasks, select_and_draw)

    return dict(zip(names, map_sharded(tasks, drawn), strict=True))


def sampled_metrics(
    weighted: Sequence[WeightedTask], algorithm: Algorithm, settings: Evaluation
) -> dict[str, float | None]:
    """Of the first `evaluation.samples` draws everything in `diagnostics.METRICS`; of the first
    `evaluation.tight_samples` of `evaluation.tight_questions` the bound: the smaller number's draws are among
    the larger one's. An objective that samples no lists has proposed all there is to sum over: all of it is
    taken."""
    few, tight = spaced(weighted, settings.tight_questions), settings.tight_samples
    samples = settings.samples if algorithm.draws_lists else None
    of_tight = tight if algorithm.draws_lists else None
    return {
        **diagnostics.sample_metrics(weighted, samples),
        "tight_bound": None if tight is None else diagnostics.sample_metrics(few, of_tight)["bound"],
    }


def spaced(items: Sequence[_Item], count: int) -> list[_Item]:
    """So many at equal distances: a file may be sorted, by difficulty for one."""
    return [items[i * len(items) // count] for i in range(count)] if count < len(items) else list(items)


def compared(items: Sequence[_Item]) -> list[_Item]:
    """Those of the validation questions on which a selector is compared with the one before it."""
    return spaced(items, _COMPARED)


def _kl_to_previous(training: Training) -> float | None:
    """KL from the models that choose, of the stage before to now, in nats; None where there is none before.

    The permutations drawn then are scored once more, of paths all decisions; nothing is drawn.
    """
    previous, rag, settings = training.previous_samples, training.system, training.settings.evaluation
    if previous is None or not rag.selects:
        return None
    if training.known.used:  # it has not moved
        return 0.0
    m = settings.samples if training.algorithm.draws_lists else None
    kept = [w.samples[: 1 + max(w.drawn[:m])] for w in previous]  # samples are in the order first drawn
    if rag.asking is None:
        groups = [
            rag.selector.group(w.task, [s.permutation for s in samples])
            for w, samples in zip(previous, kept, strict=True)
        ]
        scores = score_all(rag.selector.model, groups, settings.max_tokens_per_micro_batch)
    else:
        cut = [replace(w, samples=samples) for w, samples in zip(previous, kept, strict=True)]
        scores = path_log_priors(rag.selector, rag.asking.rewriter, cut, settings.max_tokens_per_micro_batch)
    divergences = [
        diagnostics.divergence(
            diagnostics.column(w, "log_prior", m),
            torch.tensor([[now[i] for i in w.drawn[:m]]], dtype=torch.float64),
            diagnostics.column(w, "log_proposal", m),
        )
        for w, now in zip(previous, scores, strict=True)
    ]
    return float(torch.cat(divergences).mean())
