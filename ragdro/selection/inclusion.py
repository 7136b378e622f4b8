"""How probable each candidate is to be in the list at all, from lists and their weights.

Pure functions of numbers: no model. The lists are samples with importance weights, or all that there are with
their probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragdro.types import Permutation


def inclusion(lists: Sequence[Permutation], weights: Sequence[float], candidates: int) -> NDArray[np.float64]:
    """[candidates]: sum_i w_i [d in z_i], for weights that are not negative; they are made to sum to 1.

    With every possible list weighted by p(z|x) this is exact. With samples from q weighted by p/q it is the
    self-normalised importance sampling estimate, for samples of p itself (equal weights) the plain mean.
    """
    members, shares = _members(lists, candidates), _normalised(weights)
    included = shares @ members
    included[members[shares > 0].all(axis=0)] = 1.0  # whatever the sum is rounded to
    return included


def standard_errors(
    lists: Sequence[Permutation], weights: Sequence[float], candidates: int
) -> NDArray[np.float64]:
    """[candidates]: the standard error of `inclusion` from independent samples.

    It is sqrt(m/(m-1) sum_i w_i^2 ([d in z_i] - mean)^2) (Owen, Monte Carlo theory, 2013, section 9.2, the
    delta method), which is sqrt(p (1-p) / (m-1)) for equal weights; infinite for a single sample. A candidate
    that is in all of m samples or in none has an error of 0: read its probability as within about 3/m.
    """
    m = len(lists)
    if m == 1:
        return np.full(candidates, np.inf)
    members, shares = _members(lists, candidates), _normalised(weights)
    spread = np.square(shares) @ np.square(members - shares @ members)
    return np.sqrt(m / (m - 1) * spread)


def _members(lists: Sequence[Permutation], candidates: int) -> NDArray[np.float64]:
    """[lists, candidates]: 1 where the candidate is in the list."""
    members = np.zeros((len(lists), candidates))
    for row, permutation in zip(members, lists, strict=True):
        row[list(permutation)] = 1.0
    return members


def _normalised(weights: Sequence[float]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.asarray(weights, np.float64)
    assert shares.size and shares.min() >= 0 and shares.sum() > 0
    normalised: NDArray[np.float64] = shares / shares.sum()
    return normalised


def likeliest(log_p: Sequence[float], count: int | None) -> list[int]:
    """The places of the `count` largest (None: all), the largest first; ties keep their order."""
    return sorted(range(len(log_p)), key=lambda i: -log_p[i])[:count]
