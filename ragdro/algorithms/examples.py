"""What a fit learns from one question, and the two examples that most objectives make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragdro.algorithms.losses import ClippedLoss, Loss, loss_of, weighted_loss
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.lm.groups import JoinedGroup, ScoredGroup
from ragdro.rewriting.decisions import Decided, lists_of, queries_of
from ragdro.rewriting.rewriter import Rewriter
from ragdro.selection.selector import Selector
from ragdro.system import reading
from ragdro.types import Permutation, Thought, WeightedTask


@dataclass(frozen=True, slots=True, eq=False)
class TrainingExample:
    """What of one question is scored, a weight for each of its log-probabilities, and what `loss` makes of
    (weights, log-probabilities)."""

    question_id: str
    group: ScoredGroup
    weights: tuple[float, ...]
    loss: Loss = weighted_loss

    @property
    def compares(self) -> bool:
        """Whether the loss compares log-probabilities with stored ones, which were taken without dropout."""
        return self.loss is not weighted_loss

    def parts(self) -> list[TrainingExample]:
        """One example a prompt, whose losses add up to this one's: what need not be computed together. This
        one alone, where there is one prompt, or where the loss is no sum over samples."""
        if not isinstance(self.group, JoinedGroup):
            return [self]
        made, start = list[TrainingExample](), 0
        for group in self.group.parts:
            samples = slice(start, start + group.scored)
            loss = loss_of(self.loss, samples)
            if loss is None:
                return [self]
            made.append(TrainingExample(self.question_id, group, self.weights[samples], loss))
            start = samples.stop
        return made


def list_example(
    selector: Selector, weighted: WeightedTask, weights: Sequence[float], clip: float | None = None
) -> TrainingExample:
    """The selector's: every permutation drawn, with a weight each; of paths every list, with the sum of the
    weights of those that chose it where it was chosen. `clip`: the change of a list's probability at which it
    pulls no more (PPO's; None: there is none)."""
    lists = lists_of(weighted, weights)
    if weighted.samples[0].path is None:
        return _example(weighted, selector.group(lists[0].task, [*lists[0].weights]), lists, clip)
    groups = [selector.in_round(d.number).group(d.task, [*d.weights]) for d in lists]
    return _example(weighted, JoinedGroup(tuple(groups)), lists, clip)


def query_example(
    rewriter: Rewriter, weighted: WeightedTask, weights: Sequence[float], clip: float | None = None
) -> TrainingExample:
    """The rewriter's: every query written, with the sum of the weights of the paths that asked it where they
    did; `clip` as above."""
    queries = queries_of(weighted, weights)
    groups = [rewriter.group(Reading(d.task.question, d.task.read), [*d.weights]) for d in queries]
    return _example(weighted, JoinedGroup(tuple(groups)), queries, clip)


def _example(
    weighted: WeightedTask, group: ScoredGroup, decided: Sequence[Decided], clip: float | None
) -> TrainingExample:
    weights = tuple(weight for d in decided for weight in d.weights.values())
    log_priors = [log_p for d in decided for log_p in d.log_priors.values()]
    loss = weighted_loss if clip is None else ClippedLoss(tuple(log_priors), clip)
    return TrainingExample(weighted.task.question.id, group, weights, loss)


def answer_example(generator: Generator, weighted: WeightedTask, weights: Sequence[float]) -> TrainingExample:
    """The generator's: the gold answer under every permutation drawn and, where a thought comes first, the
    thoughts, with the same weights. What is read alike (all orders of a set, where passages are read by rank)
    is one sequence with the sum of the weights."""
    by_reading: dict[tuple[Permutation, Thought | None], float] = {}
    for sample, weight in zip(weighted.samples, weights, strict=True):
        key = generator.ordered(sample.permutation, sample.path), sample.thought
        by_reading[key] = by_reading.get(key, 0.0) + weight
    group = generator.learned([reading(weighted.task, *key) for key in by_reading])
    summed = tuple(by_reading.values()) * (1 if generator.thinking is None else 2)
    return TrainingExample(weighted.task.question.id, group, summed)
