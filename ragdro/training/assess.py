"""Measure a stage of the run: greedy figures of both splits, and what samples say about the fit.

In: the prepared system. Out: the figures that `results.json` holds for a stage, with its predictions and
its breakdown written to the run folder. The bound and the effective sample size come from the E-step
itself, on fixed random numbers, so that stages differ by their models alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import torch

from ragdro.config import Config, EStep
from ragdro.evaluation.evaluate import by_hops, evaluate, summarise
from ragdro.lm.scoring import score_all
from ragdro.parallel.world import in_parts
from ragdro.profiling import phase
from ragdro.rag import Rag
from ragdro.selection.selector import Draw
from ragdro.training import diagnostics, objectives
from ragdro.training.e_step import WeightedTask, e_step
from ragdro.training.prepare import Prepared
from ragdro.training.proposals import proposals, uniforms
from ragdro.training.run_folder import RunFolder
from ragdro.types import Prediction, Selection, Task

Predict: TypeAlias = Callable[[Sequence[Task]], list[Prediction]]
SAMPLED = (*diagnostics.FIGURES, "tight_bound", "kl_to_previous")
"""Figures of a stage that come from samples."""
_Item = TypeVar("_Item")
_EVALUATION_STREAM = 0
_COMPARED = 32
"""Validation questions on which a selector is compared with the one before it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Of the same questions: weighted permutations and the greedy selections."""

    weighted: list[WeightedTask]
    selections: list[Selection]


def assess_retriever(setup: Prepared, run: RunFolder) -> None:
    """Vanilla RAG: the warmed-up generator reads the retriever's first K; nothing is sampled.

    A run that is gone on with after it keeps the figures that it had.
    """
    if run.state.results["vanilla_rag"] is not None:
        return
    figures = _greedy(
        run, "vanilla_rag", "reported", setup.reported, partial(setup.rag.predict, select=False)
    )
    run.record({**figures, **dict.fromkeys(SAMPLED)})


def assess(setup: Prepared, config: Config, run: RunFolder, iteration: int) -> None:
    """Measure the pair after `iteration` (0: the warm-up) and keep it.

    What samples say is measured on the validation questions, whose figure that `config.evaluation.metric`
    names says which iteration is best.
    """
    stage = f"iteration-{iteration}" if iteration else "warm_up"
    drawn, sampled = _sampled(setup, config, run)

    def measured(split: str, tasks: Sequence[Task], predict: Predict) -> dict[str, Any]:
        figures = {**_greedy(run, stage, split, tasks, predict), **sampled}
        run.log({"event": "evaluation", "stage": stage, "split": split, **figures})
        return figures

    selected = {w.task.question.id: z for w, z in zip(drawn.weighted, drawn.selections, strict=True)}

    def read(part: Sequence[Task]) -> list[Prediction]:
        return setup.rag.read(part, [selected[task.question.id] for task in part])

    if setup.test is None:
        chosen = reported = measured("reported", setup.validation, read)
    else:
        chosen = measured("validation", setup.validation, read)
        reported = measured("reported", setup.test, setup.rag.predict)
    run.keep(iteration, reported, float(chosen[config.evaluation.metric]))


@phase("evaluate", whole=True)
def _sampled(setup: Prepared, config: Config, run: RunFolder) -> tuple[Drawn, dict[str, float | None]]:
    """What was drawn, and every figure in `SAMPLED`."""
    drawn = draw(setup.rag, config, setup.validation)
    moved = _moved(setup.rag, config, run, _spaced(setup.validation, _COMPARED))
    run.put_samples(_spaced(drawn.weighted, _COMPARED))
    return drawn, {**sampled_figures(drawn.weighted, config), "kl_to_previous": moved}


@phase("evaluate", whole=True)
def _greedy(
    run: RunFolder, stage: str, split: str, tasks: Sequence[Task], predict: Predict
) -> dict[str, Any]:
    def predicted(part: Sequence[Task]) -> list[dict[str, Any]]:
        return [evaluate(prediction) for prediction in predict(part)]

    records = in_parts(tasks, predicted)
    if split == "reported":
        run.write_predictions(stage, records)
    run.log({"event": "breakdown", "stage": stage, "split": split, "by_hops": by_hops(records)})
    return summarise(records)


def draw(rag: Rag, config: Config, tasks: Sequence[Task]) -> Drawn:
    """Greedy selections, and weighted permutations from the random numbers that every stage has in common.

    The questions of the tight bound have as many as it takes, the others `evaluation.samples`.
    """
    measuring = config.evaluation
    tight = _spaced(tasks, measuring.tight_questions)
    chosen = {task.question.id for task in tight}
    others = [task for task in tasks if task.question.id not in chosen]
    found = _lists(rag, config, tight, max(measuring.samples, measuring.tight_samples or 0))
    found |= _lists(rag, config, others, measuring.samples)
    weighted = e_step(
        rag.selector,
        rag.generator,
        tasks,
        propose=lambda _, part: [found[task.question.id][1] for task in part],
        tokens_per_batch=measuring.tokens_per_batch,
    )
    return Drawn(weighted, [found[task.question.id][0] for task in tasks])


def _lists(
    rag: Rag, config: Config, tasks: Sequence[Task], samples: int
) -> dict[str, tuple[Selection, list[Draw]]]:
    """What is selected and so many draws, by question, a prompt read once."""
    selector, tokens = rag.selector, config.evaluation.tokens_per_batch
    settings = EStep(samples=samples, tokens_per_batch=tokens)
    propose = proposals(config.objective, settings, config.seed, _EVALUATION_STREAM)

    def both(part: Sequence[Task]) -> list[tuple[Selection, list[Draw]]]:
        if not rag.selects or selector.independent:  # nothing is sampled
            return list(zip(rag.select(part), propose(selector, part), strict=True))
        numbers = uniforms(selector, part, samples, config.seed, _EVALUATION_STREAM)
        return selector.select_and_sample(part, numbers, tokens)

    names = (task.question.id for task in tasks)
    return dict(zip(names, in_parts(tasks, both), strict=True))


def sampled_figures(sampled: Sequence[WeightedTask], config: Config) -> dict[str, float | None]:
    """Of the first `evaluation.samples` draws everything in `diagnostics.FIGURES`; of the
    first `evaluation.tight_samples` of `evaluation.tight_questions` the bound: the smaller number's draws are
    among the larger one's."""
    measuring = config.evaluation
    few, tight = _spaced(sampled, measuring.tight_questions), measuring.tight_samples
    return {
        **diagnostics.figures(sampled, measuring.samples),
        "tight_bound": None if tight is None else diagnostics.figures(few, tight)["bound"],
    }


def _spaced(items: Sequence[_Item], count: int) -> list[_Item]:
    """So many at equal distances: a file may be sorted, by difficulty for one."""
    return [items[i * len(items) // count] for i in range(count)] if count < len(items) else list(items)


def _moved(rag: Rag, config: Config, run: RunFolder, tasks: Sequence[Task]) -> float | None:
    """KL from the selector of the stage before to this one in nats, None where there is none before.

    The permutations drawn then are scored once more; nothing is drawn.
    """
    before = run.samples(tasks)
    if before is None or not rag.selects:
        return None
    m = config.evaluation.samples
    kept = [w.samples[: 1 + max(w.drawn[:m])] for w in before]  # samples are in the order first drawn
    groups = [
        rag.selector.group(w.task, [s.permutation for s in samples])
        for w, samples in zip(before, kept, strict=True)
    ]
    scores = score_all(rag.selector.model, groups, config.evaluation.tokens_per_batch)
    found = [
        objectives.divergence(
            diagnostics.column(w, "log_prior", m),
            torch.tensor([[now[at] for at in w.drawn[:m]]], dtype=torch.float64),
            diagnostics.column(w, "log_proposal", m),
        )
        for w, now in zip(before, scores, strict=True)
    ]
    return float(torch.cat(found).mean())
