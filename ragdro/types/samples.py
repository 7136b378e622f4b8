"""What training draws for a question and learns from: draws, their weights, and labels made of them."""

from __future__ import annotations

from dataclasses import dataclass

from ragdro.types.paths import QuestionPath, Thought
from ragdro.types.questions import Passage, Permutation, Question, Task


@dataclass(frozen=True, slots=True)
class Draw:
    """A sampled permutation with log q(z) of the distribution it was drawn from and log p(z|x) (nats); where
    a question is asked more than once, what its `path` has read, and both of the whole path. `thought`: what
    the generator wrote before the answer, with its own."""

    permutation: Permutation
    log_proposal: float
    log_prior: float
    path: QuestionPath | None = None
    thought: Thought | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for draws of a question that are the same decisions."""
        decisions = None if self.path is None else self.path.decisions
        return (self.permutation, decisions, None if self.thought is None else self.thought.tokens)


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
