"""Measure a stage of the run: greedy figures of both splits, and what samples say about the fit.

In: the prepared system. Out: the figures that `results.json` holds for a stage, with its predictions and
its breakdown written to the run folder. The bound and the effective sample size come from the E-step
itself, on fixed random numbers, so that stages differ by their models alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ragdro.config import Config, EStep
from ragdro.evaluation.evaluate import by_hops, evaluate, summarise
from ragdro.parallel.world import in_parts
from ragdro.profiling import phase
from ragdro.rag import Rag
from ragdro.training.e_step import e_step
from ragdro.training.prepare import Prepared
from ragdro.training.proposals import proposals
from ragdro.training.run_folder import RunFolder
from ragdro.types import Task

_EVALUATION_STREAM = 0


def assess_retriever(setup: Prepared, run: RunFolder) -> None:
    """Vanilla RAG: the warmed-up generator reads the retriever's first K; nothing is sampled.

    A run that is gone on with after it keeps the figures that it had.
    """
    if run.state.results["vanilla_rag"] is not None:
        return
    figures = _greedy(setup, run, "vanilla_rag", setup.reported, "reported", select=False)
    run.record({**figures, "bound": None, "effective_sample_size": None})


def assess(setup: Prepared, config: Config, run: RunFolder, iteration: int) -> None:
    """Measure the pair after `iteration` (0: the warm-up) and keep it.

    The validation figure that `config.evaluation.metric` names says which iteration is best.
    """
    stage = f"iteration-{iteration}" if iteration else "warm_up"
    reported = _measure(setup, config, run, stage, setup.reported, "reported")
    chosen = reported
    if setup.test is not None:
        chosen = _measure(setup, config, run, stage, setup.validation, "validation")
    run.keep(iteration, reported, float(chosen[config.evaluation.metric]))


def _measure(
    setup: Prepared, config: Config, run: RunFolder, stage: str, tasks: Sequence[Task], split: str
) -> dict[str, Any]:
    figures = _greedy(setup, run, stage, tasks, split, select=True)
    if split == "reported" or config.evaluation.metric == "bound":
        figures.update(sampled_figures(setup.rag, config, tasks))
    run.log({"event": "evaluation", "stage": stage, "split": split, **figures})
    return figures


@phase("evaluate", whole=True)
def _greedy(
    setup: Prepared, run: RunFolder, stage: str, tasks: Sequence[Task], split: str, *, select: bool
) -> dict[str, Any]:
    def predicted(part: Sequence[Task]) -> list[dict[str, Any]]:
        return [evaluate(prediction) for prediction in setup.rag.predict(part, select=select)]

    records = in_parts(tasks, predicted)
    if split == "reported":
        run.write_predictions(stage, records)
    run.log({"event": "breakdown", "stage": stage, "split": split, "by_hops": by_hops(records)})
    return summarise(records)


@phase("evaluate", whole=True)
def sampled_figures(rag: Rag, config: Config, tasks: Sequence[Task]) -> dict[str, float]:
    """The m-sample bound (nats) and the effective sample size, means over the questions."""
    settings = EStep(samples=config.evaluation.samples, tokens_per_batch=config.evaluation.tokens_per_batch)
    sampled = e_step(
        rag.selector,
        rag.generator,
        tasks,
        propose=proposals(config.objective, settings, config.seed, _EVALUATION_STREAM),
        tokens_per_batch=settings.tokens_per_batch,
    )
    return {
        "bound": sum(w.bound for w in sampled) / len(sampled),
        "effective_sample_size": sum(w.effective_sample_size for w in sampled) / len(sampled),
    }
