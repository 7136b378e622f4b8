"""The nouns of the product: what a question, a passage, a list of candidates and a sample are.

Everything here is a frozen value without behaviour beyond what follows from its own fields; nothing
imports torch. Indices into candidates are 0-based; the identifiers that models see are 1-based and
exist only in `ragdro.selection.identifiers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Permutation: TypeAlias = tuple[int, ...]
"""An ordered selection: distinct 0-based indices into a question's candidates (the latent `z`)."""

Role: TypeAlias = Literal["selector", "generator", "rewriter"]
"""What a model does."""

QuestionField: TypeAlias = Literal["id", "question", "answers", "passages", "candidates"]
CorpusField: TypeAlias = Literal["passage_id", "title", "text"]
"""What data files may have under other names (`data.fields`)."""


@dataclass(frozen=True, slots=True)
class PassageSource:
    """Where a passage was cut from: `path` is relative to the ingested folder, with `/` on every system.

    `start` and `end` count characters of the text that was read there (of the row's text, where `row` is
    set). `page`, `slide` and `row` count from 1; None where the file has no such thing.
    """

    path: str
    start: int
    end: int
    page: int | None = None
    slide: int | None = None
    row: int | None = None

    def __str__(self) -> str:
        places = (("page", self.page), ("slide", self.slide), ("row", self.row))
        return ", ".join([self.path, *(f"{name} {number}" for name, number in places if number is not None)])


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrieved text unit. `gold` says whether it supports the answer (None: not known)."""

    id: str
    title: str
    text: str
    gold: bool | None = None
    source: PassageSource | None = None

    @property
    def content(self) -> tuple[str, str]:
        """Title and text: what makes two passages the same where their ids come from two files."""
        return (self.title, self.text)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The top-N list of one question, best first; `scores` are the retriever's, None for no score."""

    question_id: str
    passages: tuple[Passage, ...]
    scores: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its gold answers.

    `answers[0]` is the one trained on; evaluation scores against all. `passages` are those that came
    with the question (with gold labels, where the data has them), `candidates` a top-N list that came
    with it, and `ranking` a teacher's order of passage ids, best first (None: the data has none).
    `hops` is how many passages it takes, where the data says so: metrics are broken down by it.
    `queries` are a teacher's follow-up queries in order, one a further retrieval (the first asks the
    question itself); empty: one retrieval is enough; None: the data has none. `standalone` is the question
    made to stand alone, where it is a dialogue's turn and the data says so: a teacher's first query.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    passages: tuple[Passage, ...] = ()
    candidates: Candidates | None = None
    ranking: tuple[str, ...] | None = None
    hops: int | None = None
    queries: tuple[str, ...] | None = None
    standalone: str | None = None

    @property
    def gold_passages(self) -> tuple[Passage, ...]:
        """The passages labelled as supporting the answer; empty where nothing is labelled."""
        return tuple(p for p in self.passages if p.gold)


@dataclass(frozen=True, slots=True)
class Task:
    """A question and the candidates to select from; `read`: the passages that earlier rounds selected;
    `given`: somebody gave the candidates with the question, so that no query is written for them."""

    question: Question
    candidates: Candidates
    read: tuple[Passage, ...] = ()
    given: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """One decision to ask, and one to read: a query, what it found, and what was selected of it.

    `query`: the question itself in the first round, unless that is written too, else the text of the `tokens`
    that the rewriter wrote, its end token among them (none: nothing was written). `candidates`: what the
    query found and nobody had read; none where it says that there is enough, or has found nothing: a path
    ends there. The logarithms (nats) are those of the query and of the list under their models and under
    what proposed them.
    """

    query: str
    tokens: tuple[int, ...]
    candidates: Candidates
    permutation: Permutation = ()
    log_query: float = 0.0
    log_query_proposal: float = 0.0
    log_list: float = 0.0
    log_list_proposal: float = 0.0

    @property
    def read(self) -> tuple[Passage, ...]:
        """What was selected, in order."""
        return tuple(self.candidates.passages[i] for i in self.permutation)


@dataclass(frozen=True, slots=True)
class QuestionPath:
    """How a question was asked and read, round by round: the latent `h` where there is more than one."""

    rounds: tuple[Round, ...]

    @property
    def read(self) -> tuple[Passage, ...]:
        """Everything selected, in reading order."""
        return tuple(passage for one in self.rounds for passage in one.read)

    @property
    def log_prior(self) -> float:
        """log p(h|x): the sum over its decisions."""
        return sum(one.log_query + one.log_list for one in self.rounds)

    @property
    def log_proposal(self) -> float:
        """log q(h)."""
        return sum(one.log_query_proposal + one.log_list_proposal for one in self.rounds)

    @property
    def decisions(self) -> tuple[tuple[tuple[int, ...], Permutation], ...]:
        """What was decided: two paths of a question that decide alike are one."""
        return tuple((one.tokens, one.permutation) for one in self.rounds)


@dataclass(frozen=True, slots=True)
class Thought:
    """What the generator wrote before an answer: `text`, its `tokens`, the end token among them (none: cut at
    its budget), and log q and log p of all of them (nats)."""

    text: str
    tokens: tuple[int, ...]
    log_proposal: float
    log_prior: float


NO_THOUGHT = Thought("", (), 0.0, 0.0)
"""Nothing was thought: the answer comes at once, behind what is between a thought and an answer."""


@dataclass(frozen=True, slots=True)
class WeightedSample:
    """One distinct permutation drawn for a question, with what the M-step needs to learn from it.

    `count` is how often it was drawn, `log_proposal` its log-probability under the distribution that
    drew it (log q), `log_prior` under the selector (log p(z|x)), `log_likelihood` that of the gold
    answer (log p(y|x,d_z)), all in nats; `weight` is the fraction of the question's total importance
    weight (it already contains `count`), so the weights of a question sum to 1. `reward` is what a policy
    gradient compares (None: the log-likelihood). `path`: how the passages were found, where a question is
    asked more than once; the log-probabilities are then those of all its decisions. `thought`: what the
    answer stands behind, where a thought comes first; it has its own log q and log p.
    """

    permutation: Permutation
    count: int
    log_proposal: float
    log_prior: float
    log_likelihood: float
    weight: float
    reward: float | None = None
    path: QuestionPath | None = None
    thought: Thought | None = None

    @property
    def log_ratio(self) -> float:
        """log p(h|x) p(y|x,h) / q(h) of all that was decided: the unnormalised log weight of one draw."""
        ratio = self.log_likelihood + self.log_prior - self.log_proposal
        return ratio if self.thought is None else ratio + self.thought.log_prior - self.thought.log_proposal


@dataclass(frozen=True, slots=True)
class RejectedAnswer:
    """A wrong answer of the generator's own, with its log-probability and the gold answer's (nats)."""

    answer: str
    log_prob: float
    gold_log_prob: float


@dataclass(frozen=True, slots=True)
class WeightedTask:
    """A question with its weighted samples; `bound` in nats, `effective_sample_size` between 1 and m.

    `impossible`: the generator finds the answer impossible under every sample. `drawn`: for each of the m
    draws, in order, which of the samples it was. `rejected`: what the generator is to prefer the gold answer
    to, where an objective asks for that.
    """

    task: Task
    samples: tuple[WeightedSample, ...]
    bound: float
    effective_sample_size: float
    impossible: bool
    drawn: tuple[int, ...] = ()
    rejected: RejectedAnswer | None = None


@dataclass(frozen=True, slots=True)
class RelevanceLabels:
    """How much each of some passages is worth to a question: `values` in [0, 1], one a passage; 0 is a
    negative. The passages stand as the retriever ranked them."""

    question: Question
    passages: tuple[Passage, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen: candidate indices in order, each with its probability when chosen.

    `probabilities` is None where no selector chose (vanilla RAG reads the retriever's first K); of a union of
    lists each is that of being in a list at all. `most` is K,
    how many are selected where there are as many (None: as many as were). `path`: how it was found, where a
    question is asked more than once; the permutation is then of everything that the path has found.
    """

    permutation: Permutation
    probabilities: tuple[float, ...] | None
    most: int | None = None
    path: QuestionPath | None = None


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


ENOUGH = "Answer"
"""The query that says: what was read is enough, answer now."""
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
