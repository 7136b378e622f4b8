"""The best of the samples against the worst as a preference pair (docs/reference/objectives/dpo.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ragdro.algorithms.base import Algorithm, LabelCost, Labeller
from ragdro.types import Permutation, RejectedAnswer, WeightedSample, WeightedTask

if TYPE_CHECKING:
    from ragdro.algorithms.examples import TrainingExample
    from ragdro.generation.generator import Generator
    from ragdro.selection.selector import Selector


class Dpo(Algorithm):
    """-log sigmoid(beta ((log p - ref)_best - (log p - ref)_worst)), ref being the model that drew (Rafailov
    et al. 2023); the generator reads the best."""

    kind: str = "dpo"
    beta: float = Field(0.1, gt=0, description="how firmly a model is held to where it stood")
    generator: Literal["sft", "dpo"] = Field(
        "sft", description="learn the gold answer, or to prefer it to a wrong one of its own"
    )

    @property
    def needs_labels(self) -> bool:
        """Where the generator prefers, too: wrong answers of its own."""
        return self.generator == "dpo"

    def label(self, weighted: Sequence[WeightedTask], labeller: Labeller) -> list[WeightedTask]:
        """The greedy answer from the worst permutation, where it is wrong, with its log-probability and the
        gold answer's from the best one."""
        from ragdro.evaluation.metrics import exact_match
        from ragdro.lm.scoring import SequenceGroup, score_all
        from ragdro.system import reading

        generator, tokens = labeller.generator, labeller.max_tokens
        extremes = [best_and_worst(w.samples) for w in weighted]
        read = [
            [reading(w.task, generator.ordered(s.permutation)) for s in pair]
            for w, pair in zip(weighted, extremes, strict=True)
        ]
        answers = generator.answer_many([pair[-1] for pair in read], tokens)
        wrong = [i for i, w in enumerate(weighted) if not exact_match(answers[i], w.task.question.answers)]
        groups = [
            SequenceGroup.of([generator.scored(read[i][0]), generator.scored(read[i][0], answers[i])])
            for i in wrong
        ]
        scores = score_all(generator.model, groups, tokens)
        labelled = list(weighted)
        for i, (gold, own) in zip(wrong, scores, strict=True):
            labelled[i] = replace(weighted[i], rejected=RejectedAnswer(answers[i], own, gold))
        return labelled

    def label_cost(self, samples: int) -> LabelCost:
        """The answer from the worst permutation, and its log-probability from the best one."""
        return LabelCost(answers=2 if self.generator == "dpo" else 0)

    def selector_example(self, selector: Selector, weighted: WeightedTask) -> TrainingExample:
        """The best permutation against the worst; where all are alike there is nothing to learn."""
        from ragdro.algorithms.examples import list_example
        from ragdro.algorithms.losses import preference_to

        pair = replace(weighted, samples=best_and_worst(weighted.samples))
        if len(pair.samples) == 1:
            return list_example(selector, pair, (0.0,))
        loss = preference_to([s.log_prior for s in pair.samples], self.beta)
        return replace(list_example(selector, pair, (1.0, 1.0)), loss=loss)

    def generator_example(self, generator: Generator, weighted: WeightedTask) -> TrainingExample:
        """The gold answer under the best permutation, or that against a wrong answer of the generator's
        own."""
        from ragdro.algorithms.examples import TrainingExample, answer_example
        from ragdro.algorithms.losses import preference_to
        from ragdro.lm.scoring import SequenceGroup
        from ragdro.system import reading

        best = replace(weighted, samples=best_and_worst(weighted.samples)[:1])
        if self.generator == "sft":
            return answer_example(generator, best, (1.0,))
        wrong = weighted.rejected
        if wrong is None:
            return answer_example(generator, best, (0.0,))
        read = reading(best.task, generator.ordered(best.samples[0].permutation))
        group = SequenceGroup.of([generator.scored(read), generator.scored(read, wrong.answer)])
        loss = preference_to([wrong.gold_log_prob, wrong.log_prob], self.beta)
        return TrainingExample(weighted.task.question.id, group, (1.0, 1.0), loss)


def best_and_worst(samples: tuple[WeightedSample, ...]) -> tuple[WeightedSample, ...]:
    """The samples under which the answer is likeliest and least likely; one alone where all are alike."""
    ordered = sorted(samples, key=_by_likelihood)
    best, worst = ordered[-1], ordered[0]
    return (best,) if best.log_likelihood == worst.log_likelihood else (best, worst)


def _by_likelihood(sample: WeightedSample) -> tuple[float, Permutation]:
    return sample.log_likelihood, sample.permutation
