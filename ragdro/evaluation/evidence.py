"""What a verdict is made from: a run's results and predictions, as plain values. No model, no disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from ragdro.evaluation.diagnosis import Faults, Record, ceiling, faults, was_read
from ragdro.evaluation.significance import Interval, paired_bootstrap

Values: TypeAlias = Mapping[str, Any]
"""Numbers of a stage by name, among other things; None for one that was not measured."""
_RESAMPLES = 5000
_DETECTED = 2.8
"""Standard errors at which a difference is seen 80 times in 100: z of 0.975 and z of 0.80."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A finished run.

    `vanilla`, `warm_up` and `best` are the records of the same questions in the same order, those of
    `split`; `metric` is what of them is compared. `iterations` of `planned` were done, `best_iteration` is
    the best (0: the warm-up). `samples`: m of the last E-step, replayed ones too, which chose `selected` of
    `candidates`; `held_out_samples`: m of `held_out`; `selects` is false where nothing is ever selected.
    `training`: what the last E-step said; `held_out`: the same of validation questions, from the models of
    that moment; `fitted`: of validation questions, from the best models. `cut`: which fraction of what was
    cut to its token limit, by its setting.
    """

    metric: str
    split: str
    vanilla: Sequence[Record]
    warm_up: Sequence[Record]
    best: Sequence[Record]
    iterations: int
    planned: int
    best_iteration: int
    samples: int
    held_out_samples: int
    candidates: int
    selected: int
    selects: bool = True
    training: Values = field(default_factory=dict)
    held_out: Values = field(default_factory=dict)
    fitted: Values = field(default_factory=dict)
    cut: Mapping[str, float] = field(default_factory=dict)
    skipped_updates: int = 0
    seeds: int = 1

    @property
    def questions(self) -> int:
        """How many were measured."""
        return len(self.best)

    def values(self, records: Sequence[Record]) -> list[float]:
        """The metric that is compared, by question."""
        return [float(record[self.metric]) for record in records]

    def score(self, records: Sequence[Record]) -> float:
        """The mean of the metric that is compared."""
        return float(np.mean(self.values(records)))

    @property
    def gain(self) -> Interval:
        """Best minus vanilla RAG, with its 95 % paired bootstrap interval over the questions."""
        return self._difference(self.vanilla)

    @property
    def gain_of_the_loop(self) -> Interval:
        """Best minus warm-up, the same way."""
        return self._difference(self.warm_up)

    def _difference(self, before: Sequence[Record]) -> Interval:
        pair = self.values(before), self.values(self.best)
        return paired_bootstrap(*pair, np.random.default_rng(0), resamples=_RESAMPLES)

    @property
    def gain_of_reading(self) -> Interval:
        """How much more often the best selector's lists hold what is needed than the retriever's first K."""
        before, after = ([float(was_read(r)) for r in records] for records in (self.vanilla, self.best))
        return paired_bootstrap(before, after, np.random.default_rng(0), resamples=_RESAMPLES)

    @property
    def detectable(self) -> float:
        """The smallest true difference from vanilla RAG that so many questions show 80 times in 100.

        From the spread of the differences question by question; at least as if one question differed.
        """
        return _DETECTED * self._spread / math.sqrt(self.questions)

    def questions_for(self, difference: float) -> int:
        """How many questions show a true difference of this size 80 times in 100."""
        return math.ceil((_DETECTED * self._spread / difference) ** 2)

    @property
    def _spread(self) -> float:
        differences = np.subtract(self.values(self.best), self.values(self.vanilla))
        return max(float(np.std(differences)), math.sqrt(1 / self.questions))

    @property
    def read(self) -> float:
        """The fraction of questions for which the best selector's lists hold what is needed."""
        return self._all.read / self.questions

    @property
    def read_in_order(self) -> float:
        """The same of the retriever's first K."""
        return faults(self.vanilla)[0].read / self.questions

    @property
    def read_questions(self) -> int:
        """How many questions `context_use` is of."""
        return self._all.read

    @property
    def context_use(self) -> float | None:
        """The fraction of those that are answered right."""
        return self._all.context_use

    @property
    def _all(self) -> Faults:
        return faults(self.best)[0]

    @property
    def ceiling(self) -> float | None:
        """The fraction of questions whose candidates hold what is needed."""
        return ceiling(self.best)

    @property
    def silent(self) -> float:
        """The fraction of answers that are empty."""
        return sum(not str(r["answer"]).strip() for r in self.best) / self.questions

    @property
    def most_entropy(self) -> float:
        """The entropy of a selector that draws at random, in nats: log N!/(N-K)!."""
        selected = min(self.selected, self.candidates)
        return math.lgamma(self.candidates + 1) - math.lgamma(self.candidates - selected + 1)


Finder: TypeAlias = Callable[[Evidence], str | None]
"""Says what it sees in the evidence, None where it sees nothing."""
