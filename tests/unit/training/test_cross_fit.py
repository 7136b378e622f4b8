"""Cross-fitting: no question is scored by a generator that was fitted to it, and everything comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ragdro.algorithms import Dro
from ragdro.algorithms.examples import TrainingExample
from ragdro.config import Config, EStep, Optimisation
from ragdro.lm.model import LanguageModel
from ragdro.lm.snapshot import WeightSnapshot
from ragdro.system import Rag, reading
from ragdro.training.cross_fit import fit_folds, folds_of, held_out_log_likelihoods, warm_up_folds
from ragdro.training.e_step import answer_log_likelihoods
from ragdro.training.lessons import lessons
from ragdro.training.m_step import FitObserver, fit
from ragdro.training.proposals import proposals
from ragdro.types import Task
from tests.pipeline.crash import KILLED, Command, die_at_sync, outcome, small_run
from tests.worlds import pocket_rag, pocket_tasks

FIT = Optimisation(learning_rate=1e-2, epochs=2, batch_size=2)


def settings() -> Config:
    role = {"model": "m"}
    fits = {"selector": FIT.model_dump(), "generator": FIT.model_dump()}
    values = {"data": {"train": "a", "validation": "b"}, "selector": role, "generator": role}
    return Config.model_validate({**values, "cross_fitted": True, "warm_up": fits, "m_step": fits})


def weights(model: LanguageModel) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.hf.parameters()]


def target(rag: Rag, task: Task) -> TrainingExample:
    return TrainingExample(task.question.id, rag.generator.group([reading(task, (2, 3))]), (1.0,))


def test_a_variants_weights_are_in_place_within_and_the_models_own_again_without() -> None:
    model = pocket_rag().generator.model
    before, variant = weights(model), WeightSnapshot("other", model)
    with variant.swap_in(), torch.no_grad():
        next(model.hf.parameters()).zero_()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
    with variant.swap_in():
        assert not next(model.hf.parameters()).any()
    with pytest.raises(ZeroDivisionError), variant.swap_in():
        raise ZeroDivisionError
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


def test_each_fold_is_fitted_to_its_own_questions_and_scores_the_others() -> None:
    """Against fits and scores of the same made one at a time, with models of their own."""
    rag, tasks, config = pocket_rag(), pocket_tasks(5, 5), settings()
    before = weights(rag.generator.model)
    folds = folds_of(rag.generator.model, tasks)
    taught = lessons(rag.selector, tasks, config.warm_up, {})
    warm_up_folds(folds, rag.generator, taught, config, lambda role: FitObserver())
    fit_folds(folds, tasks, [lambda i: target(rag, tasks[i])], config, 1, lambda role: FitObserver())
    assert all(torch.equal(a, b) for a, b in zip(before, weights(rag.generator.model), strict=True))
    draws = proposals(Dro(), EStep(samples=3), 0, 1)(rag.selector, tasks)
    scores_by_question = held_out_log_likelihoods(folds, rag.generator, tasks, draws, 9999)
    for number, fold_ids, others in ((0, [0, 2, 4], [1, 3]), (1, [1, 3], [0, 2, 4])):
        alone = pocket_rag()
        fold_tasks = [tasks[i] for i in fold_ids]
        teacher = [(3, 0), (3, 0), (3, 0)]  # the passage with the answer, then the retriever's first
        for stage, lists in (((), teacher), ((1,), [(2, 3)] * 3)):
            built = [
                TrainingExample(t.question.id, alone.generator.group([reading(t, z)]), (1.0,))
                for t, z in zip(fold_tasks, lists)
            ]
            rng = np.random.default_rng([config.seed, 17, number, *stage])
            fit(alone.generator.model, len(fold_tasks), built.__getitem__, FIT, rng)
        expected = answer_log_likelihoods(
            alone.generator, [tasks[i] for i in others], [draws[i] for i in others], 9999
        )
        for i, scores in zip(others, expected, strict=True):
            assert scores_by_question[i] == pytest.approx(scores, abs=1e-3)
    own = answer_log_likelihoods(rag.generator, tasks, draws, 9999)
    pairs = [pair for i in range(5) for pair in zip(scores_by_question[i], own[i], strict=True)]
    assert all(abs(held_out - other) > 0.01 for held_out, other in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "variant", "number"),
    [
        ({"cross_fitted": True}, "generator-fold-2", 75),
        ({"objective": {"kind": "rloo", "kl": 0.5, "reward": "f1"}}, "selector-warm-up", 75),
        ({"e_step": {"samples": 3, "replay": 1}, "iterations": 2}, "selector-earlier-0", 115),
    ],
)
def test_a_run_with_other_weights_beside_it_that_is_killed_ends_as_one_that_never_was(
    changes: dict[str, object], variant: str, number: int, tmp_path: Path
) -> None:
    small_run(tmp_path, **{"iterations": 1, **changes})
    command = ("train", str(tmp_path / "config.yaml"))
    assert Command(tmp_path, *command, "name=whole").wait() == 0
    cut = Command(tmp_path, *command, "name=cut", prepare=die_at_sync, given=number)
    assert cut.wait() == KILLED
    assert list((tmp_path / "runs/cut/state").glob(f"*-{variant}"))
    resumed = Command(tmp_path, *command, "name=cut", "--resume")
    assert resumed.wait() == 0, resumed.said
    assert outcome(tmp_path / "runs/cut") == outcome(tmp_path / "runs/whole")
    assert not list((tmp_path / "runs/whole/checkpoints").rglob("*fold*"))
