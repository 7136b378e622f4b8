"""What passages were worth to questions: labels that a retriever can learn from.

In: weighted lists of an E-step, or questions with candidates. Out: `RelevanceLabels`, a value in [0, 1] for
each candidate. Pure functions: no model, no disk.

    posterior   sum_i w_i [d in z_i],  w_i ∝ p(z_i|x) p(y|x,d_zi) / q(z_i)

is the probability that d is in the list, given the question and its answer: made by both models, and by no
annotator. `gold` (the data's labels) and `distant` (the text holds an answer) are there to compare with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import softmax

from ragdro.evaluation.ranking import contains_answer
from ragdro.selection.inclusion import inclusion
from ragdro.types import RelevanceLabels, Task, WeightedTask


def posterior_labels(weighted: Iterable[WeightedTask]) -> list[RelevanceLabels]:
    """The inclusion of each candidate under the posterior over lists, whatever the objective made of the
    weights. Questions whose answer was impossible under every list say nothing and are left out."""
    return [
        RelevanceLabels(w.task.question, w.task.candidates.passages, tuple(_inclusion(w)))
        for w in weighted
        if not w.impossible
    ]


def _inclusion(weighted: WeightedTask) -> list[float]:
    log_weights = [s.log_ratio + float(np.log(s.count)) for s in weighted.samples]
    lists = [s.permutation for s in weighted.samples]
    values = inclusion(lists, softmax(log_weights).tolist(), len(weighted.task.candidates.passages))
    return [float(value) for value in np.clip(values, 0.0, 1.0)]


def gold_labels(tasks: Sequence[Task]) -> list[RelevanceLabels]:
    """1 for a passage that the data labels, which is there even where the retriever missed it. Questions
    without such a label are left out."""
    labels = []
    for task in tasks:
        gold = {p.content: p for p in task.question.gold_passages}
        if gold:
            contents = {p.content for p in task.candidates.passages}
            missed = [p for content, p in gold.items() if content not in contents]
            passages = (*task.candidates.passages, *missed)
            values = tuple(float(p.content in gold) for p in passages)
            labels.append(RelevanceLabels(task.question, passages, values))
    return labels


def distant_labels(tasks: Sequence[Task]) -> list[RelevanceLabels]:
    """1 for a candidate whose text holds an answer. Questions without such a one are left out."""
    labels = []
    for task in tasks:
        passages = task.candidates.passages
        values = tuple(float(contains_answer(p.text, task.question.answers)) for p in passages)
        if any(values):
            labels.append(RelevanceLabels(task.question, passages, values))
    return labels
