"""The union of a question's lists, cut to K: the passages that most of p(z|x) would read.

In: a selector, questions with candidates, how many lists may be drawn. Out: a selection of K passages S each,
the largest sum over d in S of P(d in z): of all sets of K the one that has most passages in common with a
list z ~ p(z|x) on average. The greedy list follows one line of choices; where several lists share the
probability, a passage that is in many of them is read here though no single list may hold all of S.
P(d in z) is exact where all lists are scored, else it comes from the greedy list and m draws
(`ragdro.selection.lists`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ragdro.selection import tournament
from ragdro.selection.inclusion import inclusion, likeliest
from ragdro.selection.lists import WeightedLists, weighted_lists
from ragdro.selection.selector import Selector
from ragdro.types import Selection, Task

_DIGITS = 6
"""Of a probability, by which passages are compared."""


def united(
    selector: Selector, tasks: Sequence[Task], samples: int, seed: int, max_tokens: int
) -> list[Selection]:
    """Up to K passages of each question, the most probable to be in a list first (ties: as ranked), with that
    probability; a passage that is in none of the lists is not read.

    Of more candidates than the selector reads the lists are those of a tournament's last round.
    """
    last = tournament.last_round(selector, tasks, max_tokens)
    lists = weighted_lists(selector, [task for task, _ in last], samples, seed, max_tokens)
    return [union_of(own, places, selector.k) for (_, places), own in zip(last, lists, strict=True)]


def union_of(lists: WeightedLists, places: Sequence[int], k: int) -> Selection:
    """That of one question's lists; `places` are the candidates' own, by which it is returned."""
    permutations, weights = [z.permutation for z in lists.lists], [z.weight for z in lists.lists]
    included = inclusion(permutations, weights, len(places))
    # Passages that are drawn equally often are equal, whatever their sums are rounded to.
    chosen = [i for i in likeliest(included.round(_DIGITS).tolist(), k) if included[i] > 0]
    probabilities = tuple(included[chosen].tolist())
    return Selection(tuple(places[i] for i in chosen), probabilities, k, probability_of="inclusion")
