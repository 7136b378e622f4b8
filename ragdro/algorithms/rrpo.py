"""Policy gradient against what a frozen reference would have read (docs/reference/objectives/rrpo.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from ragdro.algorithms.base import LabelCost, Labeller
from ragdro.algorithms.rewards import rewards_of
from ragdro.algorithms.rloo import Rloo, reward_of
from ragdro.types import Permutation, WeightedSample, WeightedTask


class Rrpo(Rloo):
    """The selector follows (r_i - r_0) / m, r_0 being the reward of the warmed-up selector's greedy list,
    clipped as PPO does (Wu et al. 2026); the generator learns the gold answer from all samples alike."""

    kind: str = "rrpo"

    learns_paths: ClassVar[bool] = False

    @property
    def needs_reference(self) -> bool:
        """It writes the list that the others are compared with."""
        return True

    @property
    def needs_labels(self) -> bool:
        """What that list was worth."""
        return True

    def answers_scored(self, samples: int, candidates: int) -> int:
        """The reference's list is one more."""
        return samples + 1

    def label(self, weighted: Sequence[WeightedTask], labeller: Labeller) -> list[WeightedTask]:
        """The reward of every sample, as in `rloo`, less that of the reference's list of the question."""
        assert labeller.reference is not None
        with labeller.reference():
            greedy = labeller.selector.greedy([w.task for w in weighted], labeller.max_tokens)
        baselines = self._rewards_of([s.permutation for s in greedy], weighted, labeller)
        return [
            replace(w, samples=tuple(replace(s, reward=reward_of(s) - baseline) for s in w.samples))
            for w, baseline in zip(super().label(weighted, labeller), baselines, strict=True)
        ]

    def label_cost(self, samples: int) -> LabelCost:
        """The reference's list and its answer besides."""
        cost = super().label_cost(samples)
        return replace(cost, lists=1, answers=cost.answers + 1)

    def advantages(self, samples: Sequence[WeightedSample]) -> list[float]:
        """One for each distinct permutation: (r_i - r_0) / m, so often as it was drawn."""
        drawn = sum(s.count for s in samples)
        return [s.count * reward_of(s) / drawn for s in samples]

    def _rewards_of(
        self, lists: Sequence[Permutation], weighted: Sequence[WeightedTask], labeller: Labeller
    ) -> list[float]:
        """The reward of one list of each question, whether it was drawn or not."""
        from ragdro.lm.scoring import score_all
        from ragdro.system import reading

        generator = labeller.generator
        alone = [
            replace(w, samples=(replace(w.samples[0], permutation=z),))
            for w, z in zip(weighted, lists, strict=True)
        ]

        def log_likelihoods(places: Sequence[int]) -> list[list[float]]:
            readings = [reading(weighted[i].task, generator.ordered(lists[i])) for i in places]
            groups = [generator.group([one]) for one in readings]
            return score_all(generator.model, groups, labeller.max_tokens)

        if self.reward == "log_likelihood":
            rows = labeller.held_out([w.task for w in weighted], log_likelihoods)
        else:
            rows = rewards_of(alone, self.reward, labeller)
        return [reward for (reward,) in rows]
