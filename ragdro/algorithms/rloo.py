"""Policy gradient of a reward with a leave-one-out baseline (docs/reference/objectives/rloo.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ragdro.algorithms.base import Algorithm, LabelCost, Labeller
from ragdro.algorithms.rewards import Reward, rewards_of
from ragdro.types import WeightedSample, WeightedTask

if TYPE_CHECKING:
    from ragdro.algorithms.examples import TrainingExample
    from ragdro.generation.generator import Generator
    from ragdro.rewriting.rewriter import Rewriter
    from ragdro.selection.selector import Selector


class Rloo(Algorithm):
    """The selector follows (r_i - mean of the others') / m, clipped as PPO does (Kool et al. 2019); the
    generator learns the gold answer from all samples alike."""

    kind: str = "rloo"
    reward: Reward = Field(
        "log_likelihood", description="of the gold answer, or the score of the generator's greedy answer"
    )
    kl: float = Field(
        0.0, ge=0, description="what a nat of distance from the warmed-up selector costs; 0: nothing"
    )
    clip: float = Field(
        0.2, gt=0, lt=1, description="change of a list's probability at which it pulls no more"
    )

    on_policy: ClassVar[bool] = True
    learns_paths: ClassVar[bool] = True

    @property
    def needs_reference(self) -> bool:
        """Where distance from the warm-up costs something."""
        return self.kl > 0

    @property
    def needs_labels(self) -> bool:
        """Unless the reward is the log-likelihood as it is."""
        return self.kl > 0 or self.reward != "log_likelihood"

    def label(self, weighted: Sequence[WeightedTask], labeller: Labeller) -> list[WeightedTask]:
        """The reward of every sample, less what its distance from the reference costs. A metric is of greedy
        answers, by a generator that has not been fitted to the question where there is cross-fitting."""
        rewards = rewards_of(weighted, self.reward, labeller)
        if self.kl > 0:
            rewards = self._penalised(rewards, weighted, labeller)
        return [
            replace(w, samples=tuple(replace(s, reward=r) for s, r in zip(w.samples, row, strict=True)))
            for w, row in zip(weighted, rewards, strict=True)
        ]

    def label_cost(self, samples: int) -> LabelCost:
        """The samples by the reference, and a greedy answer from each."""
        return LabelCost(self.kl > 0, answers=0 if self.reward == "log_likelihood" else samples)

    def advantages(self, samples: Sequence[WeightedSample]) -> list[float]:
        """One for each distinct permutation: the sum over its draws of (r_i - mean of the others') / m."""
        import torch

        from ragdro.algorithms.weights import leave_one_out

        rewards = [reward_of(s) for s in samples for _ in range(s.count)]
        by_draw = iter(leave_one_out(torch.tensor([rewards], dtype=torch.float64))[0].tolist())
        return [sum(next(by_draw) for _ in range(s.count)) for s in samples]

    def selector_example(self, selector: Selector, weighted: WeightedTask) -> TrainingExample:
        """Each distinct permutation with the sum of its draws' advantages."""
        from ragdro.algorithms.examples import list_example

        return list_example(selector, weighted, self.advantages(weighted.samples), self.clip)

    def rewriter_example(self, rewriter: Rewriter, weighted: WeightedTask) -> TrainingExample:
        """Each distinct query with the sum of the advantages of the paths that asked it."""
        from ragdro.algorithms.examples import query_example

        return query_example(rewriter, weighted, self.advantages(weighted.samples), self.clip)

    def generator_example(self, generator: Generator, weighted: WeightedTask) -> TrainingExample:
        """The gold answer under every draw, all alike."""
        from ragdro.algorithms.examples import answer_example

        drawn = sum(s.count for s in weighted.samples)
        return answer_example(generator, weighted, [s.count / drawn for s in weighted.samples])

    def _penalised(
        self, rewards: Sequence[list[float]], weighted: Sequence[WeightedTask], labeller: Labeller
    ) -> list[list[float]]:
        """The rewards less kl (log p(z_i) - log ref(z_i))."""
        import torch

        from ragdro.algorithms.weights import penalised
        from ragdro.lm.scoring import score_all

        assert labeller.reference is not None
        selector = labeller.selector
        with labeller.reference():
            groups = [selector.group(w.task, [s.permutation for s in w.samples]) for w in weighted]
            reference = score_all(selector.model, groups, labeller.max_tokens)
        less = []
        for row, w, log_reference in zip(rewards, weighted, reference, strict=True):
            columns = [row, [s.log_prior for s in w.samples], log_reference]
            tensors = torch.tensor(columns, dtype=torch.float64)[:, None]
            less.append(penalised(tensors[0], tensors[1], tensors[2], self.kl)[0].tolist())
        return less


def reward_of(sample: WeightedSample) -> float:
    """What is compared: the log-likelihood where nothing else was asked for."""
    return sample.log_likelihood if sample.reward is None else sample.reward
