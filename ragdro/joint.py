"""Joint answers: of the one list that is most probable together with its own answer.

In: both models, questions with the lists or paths that are considered (`ragdro.latent`). Out: `Prediction`s:
of these, each with the generator's greedy answer y to it (and thought r, where it thinks), the list z with
the largest log p(z|x) + log p(y|x,d_z,r), or the path h with the largest log p(h|x) + log p(y|x,read(h),r),
with that answer. Without thoughts it is one term of the sum that a marginal answer takes whole; no gold
answer is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.latent import Latent, selected
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.rewriting.asking import Asking
from ragdro.selection.selector import Selector
from ragdro.types import Prediction


def joint_predictions(
    selector: Selector,
    generator: Generator,
    latents: Sequence[Latent],
    max_tokens: int,
    asking: Asking | None = None,
) -> list[Prediction]:
    """That of every question (ties: the first, which is the greedy one unless all lists are taken)."""
    readings = generator.thought_of(
        [Reading.of(one.task, z) for one in latents for z in one.readings(generator)], max_tokens
    )
    answers = generator.answer_many(readings, max_tokens)
    written = [generator.scored(*pair) for pair in zip(readings, answers, strict=True)]
    spans = list(pairwise(accumulate((len(one.lists.lists) for one in latents), initial=0)))
    scores = score_all(generator.model, [SequenceGroup.of(written[a:b]) for a, b in spans], max_tokens)
    best = [
        int(np.argmax(np.array([z.log_prior for z in one.lists.lists]) + own))
        for one, own in zip(latents, scores, strict=True)
    ]
    chosen = [(one, one.lists.lists[i]) for one, i in zip(latents, best, strict=True)]
    selections = selected(selector, asking, chosen, max_tokens)
    return [
        Prediction(task, selection, answers[begin + i], thought=readings[begin + i].thought)
        for (task, selection), (begin, _), i in zip(selections, spans, best, strict=True)
    ]
