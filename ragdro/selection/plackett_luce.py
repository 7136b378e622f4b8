"""Ordered lists without replacement whose next member is drawn in proportion to exp(score) (Plackett-Luce).

In: a score for each of N candidates and one for "enough", with which a list may stop. Out: log-probabilities
of lists, lists drawn by inverse transform, the greedy list. The probabilities of all lists of K (with `stop`:
of 1 to K) sum to 1. A list has one candidate at least, so "enough" competes from the second place on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ragdro.types import Permutation

Scores = NDArray[np.float64]
"""[candidates + 1]: each candidate's, and that of "enough" (minus infinity: lists do not stop)."""


def list_log_probs(
    scores: Sequence[Float[Tensor, " _"]],
    lists: Sequence[Sequence[Permutation]],
    most: Sequence[int | None],
) -> list[Float[Tensor, " _"]]:
    """log p of each list of each question, with gradients: all questions in one batch, padded to the most
    choices. A question's `scores` [choices] as `Scores`; its `most`: K, where a list that is shorter has
    stopped (None: lists do not stop, and a shorter one is the beginning of others)."""
    width = max(map(len, scores))
    questions, chosen, owners = list[int](), list[int](), list[int]()
    allowed: list[NDArray[np.bool_]] = []
    owner = 0
    for question, (own, longest) in enumerate(zip(lists, most, strict=True)):
        enough = len(scores[question]) - 1
        for permutation in own:
            left = np.arange(width) <= enough
            stops = [enough] if longest is not None and len(permutation) < longest else []
            for place, index in enumerate([*permutation, *stops]):
                left[enough] = longest is not None and place > 0
                questions.append(question)
                chosen.append(index)
                owners.append(owner)
                allowed.append(left.copy())
                left[index] = False
            owner += 1
    device = scores[0].device
    padded = torch.nn.utils.rnn.pad_sequence([*scores], batch_first=True)
    rows, columns, of_lists = torch.tensor([questions, chosen, owners], device=device)
    mask = torch.from_numpy(np.stack(allowed)).to(device)
    log_p = padded[rows].masked_fill(~mask, -torch.inf).log_softmax(-1)
    picked = log_p.gather(1, columns[:, None])[:, 0]
    total = torch.zeros(owner, dtype=padded.dtype, device=device).index_add(0, of_lists, picked)
    return list(torch.split(total, [len(own) for own in lists]))


def draw_lists(
    scores: Scores, uniforms: NDArray[np.float64], most: int, temperature: float = 1.0
) -> tuple[list[Permutation], Scores, Scores]:
    """A list for each row of `uniforms` [samples, places], numbers in [0, 1) that decide its choices; log q
    of each (at the temperature) and log p (nats)."""
    count, enough = len(uniforms), len(scores) - 1
    left = np.ones((count, enough + 1), bool)
    open_lists = np.ones(count, bool)
    lists: list[list[int]] = [[] for _ in range(count)]
    log_q, log_p = np.zeros(count), np.zeros(count)
    for place in range(most):
        rows = np.flatnonzero(open_lists)
        left[:, enough] = place > 0
        own = _log_softmax(np.where(left[rows], scores, -np.inf))
        proposed = _log_softmax(own / temperature)
        cumulative = np.exp(proposed).cumsum(-1)
        columns = (cumulative <= uniforms[rows, place, None] * cumulative[:, -1:]).sum(-1)
        log_q[rows] += proposed[np.arange(len(rows)), columns]
        log_p[rows] += own[np.arange(len(rows)), columns]
        left[rows, columns] = False
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if column == enough:
                open_lists[row] = False
            else:
                lists[row].append(column)
    return [tuple(z) for z in lists], log_q, log_p


def greedy_list(scores: Scores, most: int) -> tuple[Permutation, tuple[float, ...]]:
    """The list that takes the likeliest candidate at each place (ties: the lowest index), with the
    probability of each given those before it. It stops where that is at least as probable as going on."""
    left, chosen = scores.copy(), list[int]()
    probabilities: list[float] = []
    enough = len(scores) - 1
    for place in range(most):
        among = np.append(left[:enough], scores[enough] if place else -np.inf)
        p = np.exp(_log_softmax(among))
        if p[enough] >= p[:enough].sum():
            break
        best = int(p[:enough].argmax())
        chosen.append(best)
        probabilities.append(float(p[best]))
        left[best] = -np.inf
    return tuple(chosen), tuple(probabilities)


def place_probabilities(scores: Scores, permutation: Permutation) -> tuple[float, ...]:
    """The probability of each candidate of a list where it stands, given those before it."""
    left, probabilities = scores.copy(), list[float]()
    for place, index in enumerate(permutation):
        left[-1] = scores[-1] if place else -np.inf
        probabilities.append(float(np.exp(_log_softmax(left)[index])))
        left[index] = -np.inf
    return tuple(probabilities)


def first_log_probs(scores: Scores) -> list[float]:
    """log p of being chosen first (nats) of each candidate."""
    return [float(value) for value in _log_softmax(scores[:-1])]


def _log_softmax(values: Scores) -> Scores:
    shifted: Scores = values - values.max(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        normalised: Scores = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normalised
