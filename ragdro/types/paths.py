"""How a question is asked, read and thought about: the decisions of a path, and their log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass

from ragdro.types.questions import Candidates, Passage, Permutation


@dataclass(frozen=True, slots=True)
class Round:
    """One decision to ask, and one to read: a query, what it found, and what was selected of it.

    `query`: the question itself in the first round, unless that is written too, else the text of the `tokens`
    that the rewriter wrote, its end token among them (none: nothing was written). `candidates`: what the
    query found and nobody had read; none where it says that there is enough, or has found nothing: a path
    ends there. `finalists`: those of the candidates, by place, that a tournament left to select from (None:
    all). The logarithms (nats) are those of the query and of the list under their models and under
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
    finalists: tuple[int, ...] | None = None

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


ENOUGH = "Answer"
"""The query that says: what was read is enough, answer now."""
