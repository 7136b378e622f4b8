"""Direct Retrieval-augmented Optimization: the whole loop (Algorithm 1 of arXiv 2505.03075).

In: a `Config`. Out: a run folder with the trained pair and its figures. The ordered list of passages z is
a latent variable; the loop maximises a lower bound of log p(y|x) = log sum_z p(z|x) p(y|x,d_z):

    warm up both models
    repeat:
        E-step   draw m permutations z_i ~ p(z|x) for each question, weight them w_i ~ p(y|x,d_zi)
        M-step   raise sum_i w_i log p(z_i|x) in the selector and sum_i w_i log p(y|x,d_zi) in the generator
        measure  keep the best pair; stop when it no longer improves
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ragdro.config import Config
from ragdro.parallel.sharding import spread
from ragdro.parallel.world import from_main, joined
from ragdro.profiling import phase
from ragdro.training.assess import assess, assess_retriever
from ragdro.training.cross_fit import fit_folds, held_out_log_likelihoods, warm_up_folds
from ragdro.training.e_step import WeightedTask, e_step
from ragdro.training.judge import judge
from ragdro.training.m_step import Weighted, fit
from ragdro.training.prepare import Prepared, prepare
from ragdro.training.proposals import proposals
from ragdro.training.replay import pooled, recall, remember
from ragdro.training.run_folder import RunFolder
from ragdro.training.standing import finished_results
from ragdro.training.targets import answers, importance_weights, selections
from ragdro.training.variants import REFERENCE
from ragdro.training.warmup import warm_up
from ragdro.types import Task

_WARM_UP, _TRAIN = 1, 2
"""Streams of random numbers: what each is for keeps its own, whatever the others take."""


def train(config: Config, *, overwrite: bool = False, resume: bool = False) -> dict[str, Any]:
    """Run the loop that `config` describes and return what `results.json` holds.

    Raises a `RagdroError` for input that cannot be used, before the run folder exists; `overwrite`
    replaces an earlier run of the same name, `resume` goes on with it from its last saved state and ends
    with what an uninterrupted run ends with. Started by `torchrun`, its processes share the work.
    """
    with joined(config.device):
        done = from_main(partial(finished_results, config, overwrite=overwrite, resume=resume))
        return _run(config, resume=resume) if done is None else done


def _run(config: Config, *, resume: bool) -> dict[str, Any]:
    setup = prepare(config)
    with RunFolder(config, setup, resume=resume) as run:
        spread(config.parallel, run.models)
        if run.finished < 0:
            rng = np.random.default_rng([config.seed, _WARM_UP])
            keeper = run.fitting("warm_up")
            warm_up(setup.rag.selector, setup.rag.generator, setup.train, config.warm_up, rng, keeper)
            warm_up_folds(run.folds, setup.rag, setup.train, config, keeper)
            run.remember(REFERENCE)
            assess_retriever(setup, run)
            assess(setup, config, run, iteration=0)
        for iteration in range(run.finished + 1, config.iterations + 1):
            if run.exhausted(config.patience):
                break
            samples = _expectation(setup, config, run, iteration)
            _maximisation(setup, config, run, iteration, samples)
            assess(setup, config, run, iteration)
        return run.finish()


def _expectation(setup: Prepared, config: Config, run: RunFolder, iteration: int) -> list[WeightedTask]:
    """Weighted permutations of this iteration's training questions, from the models as they stand."""
    tasks = questions_of(setup.train, config.e_step.questions, iteration)
    with setup.engine.serving(setup.rag.selector.model) as decoder:
        propose = proposals(config.objective, config.e_step, config.seed, _TRAIN + iteration, decoder)
        weighted = e_step(
            setup.rag.selector,
            setup.rag.generator,
            tasks,
            propose=pooled(propose, recall(run), config.e_step) if config.e_step.replay else propose,
            weigh=importance_weights(config.objective),
            tokens_per_batch=config.e_step.tokens_per_batch,
            questions_per_shard=config.e_step.questions_per_shard,
            keep=run.shards(f"iteration-{iteration}", len(tasks)),
            score=partial(held_out_log_likelihoods, run.folds),
            judge=judge(config, setup.rag, run.variants),
        )
    run.log_e_step(iteration, weighted)
    remember(run, iteration, weighted)
    return weighted


def _maximisation(
    setup: Prepared, config: Config, run: RunFolder, iteration: int, weighted: Sequence[WeightedTask]
) -> None:
    """Fit the selector to the weighted permutations and the generator to the answers under them."""
    selector, generator, objective = setup.rag.selector, setup.rag.generator, config.objective

    def selection(i: int) -> Weighted:
        return selections(objective, selector, weighted[i])

    def answer(i: int) -> Weighted:
        return answers(objective, generator, weighted[i])

    keeper = run.fitting(f"iteration-{iteration}")
    selecting = config.train_selector and setup.rag.selects
    for role, wanted, model, build, settings in (
        ("selector", selecting, selector.model, selection, config.m_step.selector),
        ("generator", config.train_generator, generator.model, answer, config.m_step.generator),
    ):
        if wanted:
            rng = np.random.default_rng([config.seed, _TRAIN, iteration])
            with phase(f"{role} update"):
                fit(model, len(weighted), build, settings, rng, keeper(role))
    if config.train_generator:
        fit_folds(run.folds, [w.task for w in weighted], answer, config, iteration, keeper)


def questions_of(tasks: Sequence[Task], per_iteration: int | None, iteration: int) -> list[Task]:
    """The questions that iteration (1-based) takes: all, or the next `per_iteration` in turn."""
    if per_iteration is None or per_iteration >= len(tasks):
        return list(tasks)
    start = (iteration - 1) * per_iteration
    return [tasks[(start + i) % len(tasks)] for i in range(per_iteration)]
