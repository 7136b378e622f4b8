"""What a trained system says: a selection, an answer, and how probable other answers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ragdro.types.paths import QuestionPath, Thought
from ragdro.types.questions import Passage, Permutation, Task

ProbabilityOf: TypeAlias = Literal["choice", "first_choice", "inclusion"]
"""What a passage's probability is of: being chosen at its place, given those before it; being chosen first,
whatever the others are (`objective: marginal`); being in a list at all (a union of lists)."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen: candidate indices in order, each with a probability of what `probability_of` says.

    `probabilities` is None where no selector chose (vanilla RAG reads the retriever's first K). `most` is K,
    how many are selected where there are as many (None: as many as were). `path`: how it was found, where a
    question is asked more than once; the permutation is then of everything that the path has found.
    """

    permutation: Permutation
    probabilities: tuple[float, ...] | None
    most: int | None = None
    path: QuestionPath | None = None
    probability_of: ProbabilityOf = "choice"


@dataclass(frozen=True, slots=True)
class RankedAnswer:
    """One of several answers to a question. `probability`: sum_z p(z|x) p(y|x,d_z); `agreement`: the
    probability of a list (and a thought about it) from which it is the greedy answer. Both in [0, 1]."""

    answer: str
    probability: float
    agreement: float


@dataclass(frozen=True, slots=True)
class AnswerDistribution:
    """The answers that lists of a question lead to, the most probable first; what is missing to 1 is the
    probability of all other answers. `lists`: how many were drawn, or are possible if `exact`; `thoughts`:
    how many were drawn for each (0: none come first)."""

    answers: tuple[RankedAnswer, ...]
    lists: int
    exact: bool
    thoughts: int = 0

    @property
    def confidence(self) -> float:
        """The probability of the first answer."""
        return self.answers[0].probability


NO_ANSWER = "no answer"
"""What a person reads where the confidence is below the threshold."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer with everything it came from: the inference path's one result.

    `distribution`: of a marginal answer, whose `selection` is the list that supports the answer most.
    `abstained`: the confidence is below the threshold, and `answer` is empty. `thought`: what was written
    before the answer, where a thought comes first.
    """

    task: Task
    selection: Selection
    answer: str
    distribution: AnswerDistribution | None = None
    abstained: bool = False
    thought: Thought | None = None

    @property
    def shown(self) -> str:
        """The answer, or that there is none."""
        return NO_ANSWER if self.abstained else self.answer

    @property
    def selected(self) -> tuple[Passage, ...]:
        """The selected passages in the order selected."""
        return tuple(self.task.candidates.passages[i] for i in self.selection.permutation)
