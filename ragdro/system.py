"""Selector, generator and retriever together: what is trained, saved, loaded and asked.

In: a question. Out: a `Prediction`: the answer, the selection with the probability of each choice, and the
candidates with their retrieval scores. This is the one inference path: evaluation, the command line and the
Python API all call `Rag`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ragdro.config.answering import NO_UNION, Answering, AnsweringKind, as_answering, changed
from ragdro.data.passages import PassageLike, as_passages
from ragdro.errors import ConfigError, DataError
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.joint import joint_predictions
from ragdro.latent import latents, retrieved_first
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.marginal import marginal_predictions
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.custom import around
from ragdro.rewriting.asking import Asking
from ragdro.rewriting.paths import pooled
from ragdro.selection import tournament
from ragdro.selection.rerank import Reranking, rerank
from ragdro.selection.selector import Selector
from ragdro.selection.union import united
from ragdro.types import Candidates, Permutation, Prediction, Question, Selection, Task, Thought

Retrieve: TypeAlias = Callable[[Sequence[Question]], list[Candidates]]
"""From questions to their candidates, in order."""
MAX_TOKENS = 32768
"""Most tokens in one forward pass, where nothing else is said."""


class Rag:
    """A retriever, a selector and a generator that answer together.

    `retrieve` is needed for questions that come without passages; `max_tokens` bounds one forward pass;
    `selects` false means that nothing is ever selected (`objective: sft`): the retriever's first K are read.
    `answering`: from the greedy list, or from several lists and thoughts (`Answering`); each method can
    override it. `asking`: what asks again where a question is asked more than once; a prediction's task has
    then everything that was found, and its selection the path.
    """

    def __init__(
        self,
        selector: Selector,
        generator: Generator,
        retrieve: Retrieve | None = None,
        max_tokens: int = MAX_TOKENS,
        *,
        selects: bool = True,
        answering: Answering | AnsweringKind = "greedy",
        asking: Asking | None = None,
    ) -> None:
        self.answering = as_answering(answering)
        self.selects = selects
        self.asking = asking
        self.selector = selector
        self.generator = generator
        self.retrieve = retrieve
        self.max_tokens = max_tokens

    def answer(
        self,
        question: str,
        passages: Sequence[PassageLike] | None = None,
        *,
        answering: Answering | AnsweringKind | None = None,
    ) -> Prediction:
        """Retrieve (or take `passages` as the candidates, best first), select and answer one question.

        The same every time: the question and `Answering.seed` decide what is drawn. Raises `ConfigError`
        where there is neither a retriever nor passages, `DataError` for an empty question.
        """
        if not question.strip():
            raise DataError("question: is empty")
        asked = Question("question", question, ())
        if passages is None:
            return self.answer_many([asked], answering=answering)[0]
        task = Task(asked, Candidates(asked.id, as_passages(passages)), given=True)
        return self.predict([task], answering=answering)[0]

    def answer_many(
        self,
        questions: Sequence[str | Question],
        *,
        answering: Answering | AnsweringKind | None = None,
    ) -> list[Prediction]:
        """Retrieve, select and answer any number of questions, in batches."""
        asked = [
            Question(f"question-{i}", q, ()) if isinstance(q, str) else q for i, q in enumerate(questions)
        ]
        return self.predict(self.retrieved(asked), answering=answering)

    def retrieved(self, questions: Sequence[Question]) -> list[Task]:
        """The questions with the candidates that the retriever finds. Raises `ConfigError` without one."""
        if self.retrieve is None:
            raise ConfigError(
                "this system has no retriever: give the question's passages (passages=[...]), or load it with"
                " corpus=... or retriever=..."
            )
        return [Task(*pair) for pair in zip(questions, self.retrieve(questions), strict=True)]

    def predict(
        self,
        tasks: Sequence[Task],
        *,
        select: bool = True,
        answering: Answering | AnsweringKind | None = None,
    ) -> list[Prediction]:
        """Selections and answers; `select` false is vanilla RAG: the retriever's first K are read.

        `answering`: None as the system does; a kind alone keeps its samples, threshold and seed.
        """
        how = self._way(answering)
        if how.kind == "union" and self.asking is not None:
            raise ConfigError(NO_UNION)
        if how.thoughts > 1 and self.generator.thinking is None:
            raise ConfigError(
                f"answering.thoughts: {how.thoughts} of a generator that does not think (generator.think: 0);"
                " set thoughts: 1"
            )
        selects, tokens = select and self.selects, self.max_tokens
        if not selects and how.kind != "marginal":
            return self.read(tasks, self._first(tasks))
        if how.kind in ("marginal", "joint"):
            asking = self.asking if selects else None
            if selects:
                over = latents(self.selector, asking, tasks, how, tokens)
            else:
                over = retrieved_first(tasks, self._most)
            if how.kind == "joint":
                return joint_predictions(self.selector, self.generator, over, tokens, asking)
            return marginal_predictions(self.selector, self.generator, over, how, tokens, asking)
        if how.kind == "union":
            return self.read(tasks, united(self.selector, tasks, how.samples, how.seed, tokens))
        return self.read(tasks, self.select(tasks))

    def _way(self, asked: Answering | AnsweringKind | None) -> Answering:
        """The system's own way, another one whole, or of the other kind with the system's own settings."""
        return asked if isinstance(asked, Answering) else changed(self.answering, asked)

    def select(self, tasks: Sequence[Task]) -> list[Selection]:
        """Greedy selections; the retriever's first K where nothing is ever selected. Where a question is
        asked more than once, those of its likeliest path.

        From more candidates than the selector reads at once, by a tournament
        (`ragdro.selection.tournament`).
        """
        if not self.selects:
            return self._first(tasks)
        if self.asking is not None:
            return self.asking.greedy(self.selector, tasks, self.max_tokens)
        return tournament.select(self.selector, tasks, self.max_tokens)

    def reranked(self, prediction: Prediction, samples: int = 64) -> Reranking | None:
        """The candidates of a prediction with their probabilities of being in the list at all: exact where
        few lists are possible, else from `samples` drawn. None where no list was written over all of them:
        the retriever's order was read, passages are chosen apart from one another, it was a tournament, or
        there were several rounds."""
        task, selector = prediction.task, self.selector
        if prediction.selection.probabilities is None or selector.independent:
            return None
        if prediction.selection.path is not None:
            return None
        if len(task.candidates.passages) > selector.n:
            return None
        return rerank(selector, [task], samples, 0, self.max_tokens)[0]

    @property
    def _most(self) -> int:
        """Passages that an answer reads at most."""
        return self.selector.k if self.asking is None else self.asking.most

    def _first(self, tasks: Sequence[Task]) -> list[Selection]:
        k = self._most
        lengths = [min(k, len(task.candidates.passages)) for task in tasks]
        return [Selection(tuple(range(length)), None, k) for length in lengths]

    def read(self, tasks: Sequence[Task], selections: Sequence[Selection]) -> list[Prediction]:
        """Greedy answers from what was selected."""
        tasks = [
            task if selection.path is None else pooled(task, [selection.path])[0]
            for task, selection in zip(tasks, selections, strict=True)
        ]
        readings = [
            reading(task, self.generator.ordered(selection.permutation, selection.path))
            for task, selection in zip(tasks, selections, strict=True)
        ]
        readings = self.generator.thought_of(readings, self.max_tokens)
        answers = self.generator.answer_many(readings, self.max_tokens)
        return [
            Prediction(task, selection, answer, thought=read.thought)
            for task, selection, answer, read in zip(tasks, selections, answers, readings, strict=True)
        ]

    def likelihoods(self, predictions: Sequence[Prediction]) -> list[float]:
        """p(y|x,d_z) of each answer given the passages that it was read from, and the thought about them."""
        readings = [
            reading(p.task, self.generator.ordered(p.selection.permutation, p.selection.path), p.thought)
            for p in predictions
        ]
        sequences = [
            self.generator.scored(read, p.answer) for read, p in zip(readings, predictions, strict=True)
        ]
        groups = [SequenceGroup.of([sequence]) for sequence in sequences]
        scores = score_all(self.generator.model, groups, self.max_tokens)
        return [min(1.0, math.exp(log_p)) for (log_p,) in scores]


def as_retrieve(retriever: Any, top_n: int) -> Retrieve:
    """What finds candidates: one of our retrievers that is open, an object with `search(queries, top_n)` (see
    `ragdro.retrieval.custom`), or a function from questions to candidates, which is taken as it is."""
    if isinstance(retriever, Retriever) or hasattr(retriever, "search"):
        opened = retriever if isinstance(retriever, Retriever) else around(retriever)
        return lambda questions: list(opened.search(questions, top_n))
    function: Retrieve = retriever
    return function


def reading(task: Task, permutation: Permutation, thought: Thought | None = None) -> Reading:
    """The question with the passages that a permutation selects, in its order, and the thought about them."""
    return Reading.of(task, permutation, thought)
