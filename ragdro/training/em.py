"""Direct Retrieval-augmented Optimization: the whole loop (Algorithm 1 of arXiv 2505.03075).

In: a selector, a generator and questions. Out: both, trained, and what was measured. The ordered list of
passages z is a latent variable; the loop maximises a lower bound of log p(y|x) = log sum_z p(z|x) p(y|x,d_z):

    warm up both models
    repeat:
        E-step   draw m permutations z_i ~ p(z|x) for each question, weight them w_i ~ p(y|x,d_zi)
        M-step   raise sum_i w_i log p(z_i|x) in the selector and sum_i w_i log p(y|x,d_zi) in the generator
        measure  keep the best pair; stop when it no longer improves

It runs in memory. `ragdro.run` builds the same from a config file and hangs a run folder on to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import Any

import numpy as np

from ragdro.algorithms.base import Algorithm
from ragdro.algorithms.dro import Dro
from ragdro.algorithms.examples import TrainingExample
from ragdro.config import TrainingSettings
from ragdro.generation.generator import Generator
from ragdro.lm.engines.base import Engine
from ragdro.lm.model import LanguageModel
from ragdro.parallel.sharding import apply_parallelism
from ragdro.parallel.world import is_rank0, waiting_for
from ragdro.profiling import phase
from ragdro.progress import Silent, display
from ragdro.rewriting.rewriter import Rewriter
from ragdro.selection.selector import Selector
from ragdro.system import Rag, as_retrieve
from ragdro.training.best import KeepBest
from ragdro.training.callbacks import Callback, Checkpointer
from ragdro.training.cross_fit import fit_folds, warm_up_folds
from ragdro.training.display import DisplayCallback, LightsCallback
from ragdro.training.e_step import e_step
from ragdro.training.evaluate import evaluate, evaluate_vanilla, test_best
from ragdro.training.loop import TRAIN_STREAM, Training, questions_of, stage_name
from ragdro.training.m_step import Build, fit
from ragdro.training.memory import limited_by
from ragdro.training.observer import observers
from ragdro.training.parts import REFERENCE
from ragdro.training.patience import is_exhausted
from ragdro.training.settings import asking_of, settings_of
from ragdro.training.tasks import TOP_N, tasks_of
from ragdro.training.warm_up import warm_up
from ragdro.types import Question, Role, Task, WeightedTask

_WARM_UP_STREAM = 1


def train(
    selector: Selector,
    generator: Generator,
    questions: Sequence[Question | Task],
    *,
    rewriter: Rewriter | None = None,
    algorithm: Algorithm | None = None,
    validation: Sequence[Question | Task] = (),
    test: Sequence[Question | Task] | None = None,
    retriever: Any = None,
    top_n: int = TOP_N,
    callbacks: Sequence[Callback] = (),
    settings: TrainingSettings | None = None,
    checkpointer: Checkpointer | None = None,
    engine: Engine | None = None,
    show_progress: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """Train both models on questions with answers; returns what was measured, as `results.json` holds it.

    A question's candidates are the first `top_n` that `retriever` finds (anything that `as_retrieve` of
    `ragdro.system` takes), else those that it came with.
    A `rewriter` asks the retriever again, in as many rounds as `retrieval` of the settings says.
    `algorithm` is the objective (None: `Dro()`). The `validation` questions say which iteration is best, and
    its weights are what both models have in the end; without any nothing is measured and the last iteration
    stays. `test` questions are measured as well and decide nothing. `settings`, or single fields of it as
    keywords (`iterations=3, m_step=MStep(...)`), say how long and how fast. A `checkpointer` resumes what it
    saved. How far it is is shown on standard error: bars in a terminal, lines in a notebook or a file.

    Raises a `RagdroError` for input that cannot be used.
    """
    algorithm = algorithm or Dro()
    settings = settings_of(settings, algorithm, changes, generator)
    retrieve = None if retriever is None else as_retrieve(retriever, top_n)
    system = Rag(
        selector,
        generator,
        retrieve,
        settings.evaluation.max_tokens_per_micro_batch,
        selects=algorithm.selects,
        asking=asking_of(rewriter, retriever, settings, selector),
    )
    selector.independent = algorithm.independent
    measured = slice(settings.evaluation.questions)
    parts = (questions, validation[measured], None if test is None else test[measured])
    splits = (None if part is None else tasks_of(part, retrieve, top_n) for part in parts)
    train_tasks, validation_tasks, test_tasks = splits
    with closing(display(transient=True) if show_progress and is_rank0() else Silent()) as shown:
        watching = [DisplayCallback(shown), LightsCallback(shown), *callbacks]
        training = Training(
            system,
            algorithm,
            settings,
            train_tasks or [],
            validation_tasks or [],
            test_tasks,
            callbacks=watching if checkpointer is not None else [*watching, KeepBest()],
            checkpointer=checkpointer,
            engine=engine,
        )
        return expectation_maximisation(training)


def expectation_maximisation(training: Training) -> dict[str, Any]:
    """Algorithm 1, from wherever the training stands."""
    apply_parallelism(training.settings.parallel, training.models)
    with waiting_for("saving"):
        training.checkpointer.restore(training)
    with waiting_for("e_step"):
        training.emit("on_train_begin", training)
        return _loop(training)


def _loop(training: Training) -> dict[str, Any]:
    """What is left of it, behind what was restored."""
    settings, state = training.settings, training.state
    if state.finished < 0:
        _warm_up(training)
        training.capture(REFERENCE)
        with _measuring(training):
            evaluate_vanilla(training)
            evaluate(training, iteration=0)
    for iteration in range(state.finished + 1, settings.iterations + 1):
        if is_exhausted(state.scores, settings.patience):
            break
        training.search_as(iteration)
        weighted = _expectation(training, iteration)
        _maximisation(training, iteration, weighted)
        with _measuring(training):
            evaluate(training, iteration)
    with _measuring(training):
        test_best(training)
    training.emit("on_train_end", training)
    return state.results


def _warm_up(training: Training) -> None:
    """Fit all models to what a teacher selects, asks and answers."""
    training.ask_teacher()
    system, settings = training.system, training.settings
    rng, observe = np.random.default_rng([settings.seed, _WARM_UP_STREAM]), observers(training, "warm_up")
    pair, tasks, orders = (system.selector, system.generator), training.train, training.model_orders
    taught = warm_up(*pair, tasks, settings.warm_up, rng, observe, orders, system.asking)
    warm_up_folds(training.folds, system.generator, taught, settings, observe)


def _measuring(training: Training) -> AbstractContextManager[None]:
    tokens = training.settings.evaluation.max_tokens_per_micro_batch
    return limited_by("measuring", "evaluation.max_tokens_per_micro_batch", tokens)


def _expectation(training: Training, iteration: int) -> list[WeightedTask]:
    """Weighted permutations of this iteration's training questions, from the models as they stand."""
    step = training.settings.e_step
    tasks = questions_of(training.train, step.questions, iteration)
    at_once = ("e_step.max_tokens_per_micro_batch", step.max_tokens_per_micro_batch)
    with (
        limited_by(f"{stage_name(iteration)}: E-step", *at_once),
        training.proposals(iteration) as propose,
    ):
        weighted = e_step(
            training.system.selector,
            training.system.generator,
            tasks,
            propose=propose,
            max_tokens=step.max_tokens_per_micro_batch,
            weigh=training.algorithm.weights,
            score=training.held_out_scores,
            label=training.label,
            think=training.think(iteration),
            selects=training.algorithm.selects,
            questions_per_shard=step.questions_per_shard,
            shards=training.shards(stage_name(iteration), len(tasks)),
        )
    training.note_e_step(iteration, weighted)
    return weighted


def _maximisation(training: Training, iteration: int, weighted: Sequence[WeightedTask]) -> None:
    """Fit the selector to the weighted permutations and the generator to the answers under them."""
    system, algorithm, settings = training.system, training.algorithm, training.settings
    selector, generator = system.selector, system.generator
    if settings.train_selector and algorithm.selects:
        examples = partial(_example, algorithm.selector_example, selector, weighted)
        _fit(training, iteration, "selector", selector.model, len(weighted), examples)
    if system.asking is not None and settings.train_rewriter:
        # A question that was never asked again has nothing to say.
        asked = [w for w in weighted if any(one.tokens for s in w.samples if s.path for one in s.path.rounds)]
        if asked:
            queries = partial(_example, algorithm.rewriter_example, system.asking.rewriter, asked)
            _fit(training, iteration, "rewriter", system.asking.rewriter.model, len(asked), queries)
    if settings.train_generator:
        answers = [partial(_example, algorithm.generator_example, turn, weighted) for turn in generator.turns]
        _fit(training, iteration, "generator", generator.model, len(weighted), answers)
        observe, tasks = observers(training, stage_name(iteration)), [w.task for w in weighted]
        fit_folds(training.folds, tasks, answers, settings, iteration, observe)


def _fit(
    training: Training,
    iteration: int,
    role: Role,
    model: LanguageModel,
    questions: int,
    build: Build | Sequence[Build],
) -> None:
    """Fit one model to an iteration's examples."""
    settings = training.settings
    with phase(f"{role} update"):
        fit(
            model,
            questions,
            build,
            getattr(settings.m_step, role),
            np.random.default_rng([settings.seed, TRAIN_STREAM, iteration]),
            observers(training, stage_name(iteration))(role),
        )


def _example(
    make: Callable[[Any, WeightedTask], TrainingExample], model: Any, weighted: Sequence[WeightedTask], i: int
) -> TrainingExample:
    return make(model, weighted[i])
