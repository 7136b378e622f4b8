"""The study that compares objectives: one line each."""

from __future__ import annotations

import numpy as np

from ragdro.config.objective import objective_kinds
from ragdro.evaluation.significance import holm, paired_permutation_test
from ragdro.report.plot import Panel, Series
from ragdro.report.table import Cell, Table
from ragdro.studies.records import Run, Runs
from ragdro.studies.result import (
    StudyResult,
    curve_table,
    differences,
    final_panel,
    final_table,
)
from ragdro.studies.study import Study, sized

OBJECTIVES = {
    "dro": ("objective=dro",),
    "dro-centered": ("objective=dro-centered",),
    "dro-tempered": ("objective=dro-tempered",),
    "cross-fitted": ("objective=dro", "cross_fitted=true"),
    "mixture": ("objective=dro", "e_step.mixture={retriever: 0.1, uniform: 0.1}"),
    "variable length": (
        "objective=dro",
        "selector.stop=true",
        "e_step.mixture={retriever: 0.1, uniform: 0.1}",
    ),
    "sets": ("objective=dro", "generator.order=retriever"),
    "replay": ("objective=dro", "e_step.replay=2"),
    "marginal": ("objective={kind: marginal, passages: 8}",),
    "rloo": ("objective=rloo",),
    "rloo, exact match": ("objective={kind: rloo, reward: exact_match}",),
    "rrpo": ("objective=rrpo",),
    "rejection": ("objective=rejection",),
    "dpo": ("objective=dpo",),
    "sft": ("objective=sft",),
}
"""Row → overrides. The first is what the others are compared with."""
_NAMED = {key.partition("=")[2] for changes in OBJECTIVES.values() for key in changes}
OBJECTIVES |= {
    kind: (f"objective={kind}",)
    for kind in objective_kinds()
    if not any(kind == name or f"kind: {kind}," in name for name in _NAMED)
}


def _evaluations(run: Run) -> float:
    return float(run.generator_evaluations())


def _conclude(runs: Runs) -> StudyResult:
    first = next(iter(runs))
    tables = {
        "Best iteration": final_table(runs, answers_scored=_evaluations),
        f"Against {first}": paired_table(runs),
        "By iteration": curve_table(runs, ("exact_match", "full_recall", "bound")),
    }
    stages = {"iteration 1": _first, "best iteration": lambda run: run.best("exact_match")}
    return StudyResult(tables, (final_panel(runs, stages), _difference_panel(runs)))


def _first(run: Run) -> float | None:
    return run.curve("exact_match")[1] if run.results["iterations"] else None


def _difference_panel(runs: Runs) -> Panel:
    """A row an objective: what it gains over the first, seed by seed."""
    (name, first), *others = runs.items()
    points = tuple(
        (float(i), differences(first, seeds, "exact_match")) for i, (_, seeds) in enumerate(others)
    )
    return Panel(
        f"against {name}",
        "",
        "difference in exact match",
        (Series("best iteration", points),),
        categories=tuple(label for label, _ in others),
        marks=((f"as {name}", 0.0),),
    )


def paired_table(runs: Runs) -> Table:
    """Each variant's best iterations against the first's: the difference over seeds, and the paired
    permutation test over questions (a question's score is its mean over seeds) with Holm's correction over
    the rows."""
    (_, first), *others = runs.items()
    p_values = {}
    for label, seeds in others:
        scores = [_by_question(first[seed], seeds[seed]) for seed in first]
        baseline, variant = (np.mean([pair[side] for pair in scores], axis=0) for side in (0, 1))
        p_values[label] = paired_permutation_test(baseline, variant, np.random.default_rng(0))
    adjusted = holm(p_values)
    rows: list[tuple[Cell, ...]] = [
        (label, differences(first, seeds, "exact_match"), p_values[label], adjusted[label])
        for label, seeds in others
    ]
    return Table(("", "difference in exact match", "p (questions)", "p by Holm"), tuple(rows))


def _by_question(first: Run, second: Run) -> tuple[list[float], list[float]]:
    first_scores, second_scores = first.by_question("exact_match"), second.by_question("exact_match")
    return list(first_scores.values()), [second_scores[question] for question in first_scores]


OBJECTIVES_STUDY = Study(
    name="objectives",
    about="every objective with the same questions, samples and iterations, 5 seeds, paired tests with Holm",
    variants=OBJECTIVES,
    conclude=_conclude,
    sizes=sized(
        {
            "data.train_questions": 40,
            "e_step.questions": 40,
            "evaluation.questions": 42,
            "evaluation.samples": 4,
        }
    ),
    seeds=(0, 1, 2, 3, 4),
    notes=(
        "answers scored: m for each question of each iteration, the same for all rows with a latent variable;"
        " rrpo has one more, the reference's list; sft has one list a question and nothing to weigh",
        "every question returns at every iteration, as in the paper: what replay and cross-fitting are for;"
        " variable length draws from the mixture too, since a base that never stopped early does not begin to"
        " by itself",
    ),
)
