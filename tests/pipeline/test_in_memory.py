"""Training in memory is the training of a run folder, without the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import ragdro
from ragdro.algorithms import Dro, DroCentered, Rloo, Sft
from ragdro.config import EStep, Evaluation, MStep, Optimisation, TrainingSettings, WarmUp
from ragdro.errors import ConfigError, DataError
from ragdro.progress import Silent
from ragdro.runs.setup import set_up
from tests.pipeline.test_train import write_config
from tests.worlds import pocket_rag, pocket_tasks

FIT = Optimisation(learning_rate=1e-3, batch_size=2)
SHORT: dict[str, Any] = {
    "warm_up": WarmUp(selector=FIT, generator=FIT),
    "m_step": MStep(selector=FIT, generator=FIT),
    "e_step": EStep(samples=3),
    "evaluation": Evaluation(samples=3, tight_samples=None),
    "iterations": 2,
}


class Seen(ragdro.Callback):
    """Which events came, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_evaluation(
        self, stage: str, split: str, metrics: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
    ) -> None:
        assert len(records) == metrics["questions"]
        self.events.append(f"{stage} {split}")

    def on_e_step(self, stage: str, weighted: Sequence[Any], metrics: Mapping[str, float]) -> None:
        assert len(weighted[0].drawn) == 3
        self.events.append(f"{stage} e_step")


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_it_ends_as_the_run_folder_does_to_the_last_bit(tmp_path: Path) -> None:
    config = ragdro.load_config(write_config(tmp_path), ["objective=rloo", "evaluation.metric=bound"])
    results = ragdro.run(config)
    setup, seen = set_up(config), Seen()
    settings = TrainingSettings(**{name: getattr(config, name) for name in TrainingSettings.model_fields})
    selector, generator = setup.rag.selector, setup.rag.generator
    alone = ragdro.train(
        selector,
        generator,
        setup.train,
        algorithm=Rloo(),
        validation=setup.validation,
        settings=settings,
        callbacks=[seen],
    )
    assert alone == results
    assert seen.events == [
        "vanilla_rag reported", "warm_up reported", "iteration-1 e_step", "iteration-1 reported",
        "iteration-2 e_step", "iteration-2 reported",
    ]  # fmt: skip
    best = ragdro.load(tmp_path / "runs/run")  # both models are left as the best iteration had them
    for own, saved in ((selector, best.selector), (generator, best.generator)):
        in_memory, theirs = weights(own.model.hf), weights(saved.model.hf)
        assert all(torch.equal(in_memory[name], theirs[name]) for name in in_memory)


def test_no_more_questions_are_measured_than_the_settings_say() -> None:
    rag, tasks, measured = pocket_rag(), pocket_tasks(6, 5), []

    class Counted(ragdro.Callback):
        def on_evaluation(
            self, stage: str, split: str, metrics: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
        ) -> None:
            measured.append((stage, split, len(records)))

    few = {**SHORT, "iterations": 0, "evaluation": Evaluation(samples=3, tight_samples=None, questions=2)}
    splits = {"validation": tasks[1:4], "test": tasks[3:]}
    ragdro.train(rag.selector, rag.generator, tasks[:1], **splits, callbacks=[Counted()], **few)
    assert ("warm_up", "validation", 2) in measured and ("warm_up", "reported", 2) in measured
    assert {count for _, _, count in measured} == {2}


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rag, tasks, algorithm = pocket_rag(), pocket_tasks(4, 5), DroCentered(samples=3)
    before = weights(rag.selector.model.hf)
    results = ragdro.train(
        rag.selector, rag.generator, tasks[:3], algorithm=algorithm, validation=tasks[3:], **SHORT
    )
    assert len(results["iterations"]) == 2 and results["best"]["questions"] == 1
    after = weights(rag.selector.model.hf)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert not list(tmp_path.iterdir())


def test_without_validation_nothing_is_measured_and_the_last_iteration_stays() -> None:
    rag, tasks = pocket_rag(), pocket_tasks(3, 5)
    results = ragdro.train(rag.selector, rag.generator, tasks, algorithm=Dro(), **SHORT)
    assert results == {"vanilla_rag": None, "warm_up": None, "iterations": [], "best": None}


def test_its_progress_is_shown_stage_by_stage_unless_it_is_not_wanted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rag, tasks = pocket_rag(), pocket_tasks(3, 5)
    ragdro.train(rag.selector, rag.generator, tasks[:2], validation=tasks[2:], **SHORT)
    said = capsys.readouterr()
    lines = said.err.splitlines()
    stages = [line.split(" · ")[0] for line in lines if " · " in line]
    assert stages == [f"ragdro: {x}" for x in ("vanilla RAG", "warm-up", "iteration 1", "iteration 2")]
    assert sum(" ESS " in line for line in lines) == 2 and not said.out
    ragdro.train(rag.selector, rag.generator, tasks, **SHORT)
    unmeasured = [line.split(" · ")[0] for line in capsys.readouterr().err.splitlines() if " · " in line]
    assert unmeasured == [f"ragdro: {x}" for x in ("warm-up", "iteration 1", "iteration 2")]
    ragdro.train(rag.selector, rag.generator, tasks, show_progress=False, **SHORT)
    assert capsys.readouterr() == ("", "")


def test_each_piece_of_work_is_shown_before_any_of_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, Any]] = []

    class Recorded(Silent):
        def start(self, name: str, total: int | None, done: int = 0) -> None:
            seen.append((name, total))

        def advance(self, name: str, count: int = 1) -> None:
            seen.append((name, "advanced"))

    monkeypatch.setattr("ragdro.training.em.display", lambda **_: Recorded())
    rag, tasks = pocket_rag(), pocket_tasks(4, 5)
    one = {**SHORT, "iterations": 1, "e_step": EStep(samples=3, questions_per_shard=2)}
    ragdro.train(rag.selector, rag.generator, tasks[:3], validation=tasks[3:], **one)
    expected: list[tuple[str, Any]] = []
    for stage in ("warm_up", "iteration-1"):
        if stage != "warm_up":
            expected += [(f"{stage}: E-step", 3), *[(f"{stage}: E-step", "advanced")] * 2]
        for role in ("selector", "generator"):
            expected += [(f"{stage}: {role}", 2), *[(f"{stage}: {role}", "advanced")] * 2]
        expected += [("vanilla_rag: measuring", None)] if stage == "warm_up" else []
        expected.append((f"{stage}: measuring", None))
    assert seen == expected


def test_questions_find_their_candidates_in_passages_a_retriever_or_themselves() -> None:
    passages = [ragdro.Passage(str(i), "", f"Mara{i} works for Firm{i}") for i in range(6)]
    asked = [ragdro.Question(f"q{i}", f"where does Mara{i} work?", (f"Firm{i}",)) for i in range(2)]
    given = [ragdro.Question("own", "where?", ("Firm1",), passages=tuple(passages[:4]))]
    for questions, retriever in (
        (asked, ragdro.retriever_over(passages)),
        (asked, lambda found: [ragdro.Candidates(q.id, tuple(passages[:3])) for q in found]),
        (given, None),
    ):
        rag = pocket_rag(k=2, n=6)
        results = ragdro.train(
            rag.selector,
            rag.generator,
            questions,
            validation=questions,
            retriever=retriever,
            top_n=4,
            **SHORT,
        )
        assert results["best"]["questions"] == len(questions)
    with pytest.raises(DataError, match=r"question 'q0' has no candidates.*retriever="):
        ragdro.train(rag.selector, rag.generator, asked, **SHORT)


def test_settings_that_do_not_go_together_are_refused() -> None:
    rag, tasks = pocket_rag(), pocket_tasks(2, 5)
    with pytest.raises(ConfigError, match="samples of the selector itself"):
        ragdro.train(rag.selector, rag.generator, tasks, algorithm=Rloo(), e_step=EStep(temperature=0.5))
    with pytest.raises(ConfigError, match="iterations"):
        ragdro.train(rag.selector, rag.generator, tasks, iterations=-1)
    with pytest.raises(ConfigError, match="unknown key 'iteratons'; did you mean 'iterations'"):
        ragdro.train(rag.selector, rag.generator, tasks, iteratons=1)
    results = ragdro.train(rag.selector, rag.generator, tasks, algorithm=Sft(), validation=tasks, **SHORT)
    assert results["best"]["questions"] == 2
