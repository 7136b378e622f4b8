"""The script that compares thoughts with none on the embedded world."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import ragdro
from ragdro.training.parts import TrainingParts
from ragdro.types import Candidates, Passage, Prediction, Question, Selection, Task, Thought
from tests.worlds import pocket_rag, pocket_tasks

SCRIPT = Path(__file__).parents[2] / "reproductions/thoughts.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Its functions; it takes some of the script beside it."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return runpy.run_path(str(SCRIPT))


def predicted(thought: str | None, answer: str, hops: int) -> Prediction:
    """A question about Gizan, through Bazor where it has two hops."""
    first, second = Passage("a", "Bazor", "Bazor lives in Gizan", True), Passage("b", "Gizan", "a wolf", True)
    gold = (first, second) if hops == 2 else (second,)
    task = Task(Question("q", "What animal?", ("wolf",), gold, hops=hops), Candidates("q", gold))
    said = None if thought is None else Thought(thought, (1,), -1.0, -1.0)
    return Prediction(task, Selection(tuple(range(hops)), None, 2), answer, thought=said)


def test_what_is_counted(script: dict[str, Any]) -> None:
    predictions = [predicted("at Gizan", "wolf", 2), predicted("", "hare", 2), predicted("it is", "wolf", 1)]
    assert script["scores"](predictions) == {
        "two_hop": 0.5,
        "one_hop": 1.0,
        "thinks": pytest.approx(2 / 3),
        "names": 0.5,
    }
    without = script["scores"]([predicted(None, "wolf", 2), predicted(None, "wolf", 1)])
    assert without["thinks"] is None and without["names"] is None and "far" in sys.modules


def test_each_question_has_its_gold_passages_among_six(script: dict[str, Any]) -> None:
    shelf = tuple(Passage(str(i), f"T{i}", f"text {i}") for i in range(9))
    gold = Passage("gold", "T3", "text 3", True)  # found, too, under another id
    first, again = (
        script["with_passages"]([Question("q", "Q?", ("a",), (gold,))], lambda _: [Candidates("q", shelf)])[0]
        for _ in range(2)
    )
    passages = first.candidates.passages
    assert first == again and len(passages) == 6 and gold in passages
    assert len({p.content for p in passages}) == 6


def test_the_last_iteration_is_measured_whichever_is_the_best(script: dict[str, Any]) -> None:
    """Nothing is right, so that the warm-up stays the best, whose weights the pair has in the end."""

    class Spy(script["Last"]):  # type: ignore[misc]
        def on_train_end(self, training: TrainingParts) -> None:
            super().on_train_end(training)
            self.weights = flat(training.system.generator.model.hf)

    def flat(model: torch.nn.Module) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    rag, tasks, last = pocket_rag(), pocket_tasks(3, 5), Spy()
    results = ragdro.train(
        rag.selector, rag.generator, tasks[:2], validation=tasks[2:], callbacks=[last], iterations=1
    )
    assert results["best"]["iteration"] == 0 and len(last.predictions) == 1
    assert not torch.equal(last.weights, flat(rag.generator.model.hf))
