"""What an E-step's shard leaves is read back to the last bit."""

from __future__ import annotations

import json

from ragdro.runs import shards
from ragdro.types import (
    Candidates,
    Passage,
    Question,
    QuestionPath,
    Round,
    Task,
    WeightedSample,
    WeightedTask,
)


def test_the_finalists_of_a_path_are_saved() -> None:
    passages = tuple(Passage(name, name, "text") for name in "abc")
    task = Task(Question("q", "Where?", ("here",)), Candidates("q", passages))
    rounds = (
        Round("Where?", (), task.candidates, (2,), finalists=(0, 2)),
        Round("b?", (1,), Candidates("q", ())),
    )
    sample = WeightedSample((2,), 1, -0.5, -0.5, -2.0, 1.0, path=QuestionPath(rounds))
    weighted = [WeightedTask(task, (sample,), -3.0, 1.0, False, (0,))]
    assert shards.decode(json.loads(json.dumps(shards.encode(weighted))), [task]) == weighted
