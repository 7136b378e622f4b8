"""The one inference path: evaluation, the command line, the server and the Python API all call `Rag`.

In: a question. Out: a `Prediction`: the answer, the selection with the probability of each choice, and
the candidates with their retrieval scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ragdro.generation.generator import Generator, Reading
from ragdro.selection.selector import Selector
from ragdro.types import Candidates, Prediction, Question, Selection, Task

Retrieve = Callable[[Question], Candidates]


class Rag:
    """A retriever, a selector and a generator that answer together.

    `retrieve` is needed by `answer` alone; `tokens_per_batch` bounds one forward pass of `predict`;
    `selects` false means that nothing is ever selected (`objective: sft`): the retriever's first K are read.
    """

    def __init__(
        self,
        selector: Selector,
        generator: Generator,
        retrieve: Retrieve | None = None,
        tokens_per_batch: int = 32768,
        *,
        selects: bool = True,
    ) -> None:
        self.selects = selects
        self.selector = selector
        self.generator = generator
        self.retrieve = retrieve
        self.tokens_per_batch = tokens_per_batch

    def answer(self, question: str) -> Prediction:
        """Retrieve, select and answer one question (greedy, so the same every time)."""
        assert self.retrieve is not None, "this Rag was made without a retriever"
        asked = Question("question", question, ())
        return self.predict([Task(asked, self.retrieve(asked))])[0]

    def predict(self, tasks: Sequence[Task], *, select: bool = True) -> list[Prediction]:
        """Greedy selections and answers; `select` false is vanilla RAG: the retriever's first K are read."""
        return self.read(tasks, self.select(tasks) if select else self._first(tasks))

    def select(self, tasks: Sequence[Task]) -> list[Selection]:
        """Greedy selections; the retriever's first K where nothing is ever selected."""
        return self.selector.greedy(tasks, self.tokens_per_batch) if self.selects else self._first(tasks)

    def _first(self, tasks: Sequence[Task]) -> list[Selection]:
        lengths = [self.selector.list_length(task.candidates) for task in tasks]
        return [Selection(tuple(range(length)), None, self.selector.k) for length in lengths]

    def read(self, tasks: Sequence[Task], selections: Sequence[Selection]) -> list[Prediction]:
        """Greedy answers from what was selected."""
        read = [
            tuple(task.candidates.passages[i] for i in self.generator.ordered(selection.permutation))
            for task, selection in zip(tasks, selections, strict=True)
        ]
        readings = [Reading(task.question, passages) for task, passages in zip(tasks, read, strict=True)]
        answers = self.generator.answer_many(readings, self.tokens_per_batch)
        return [Prediction(*parts) for parts in zip(tasks, selections, answers, strict=True)]
