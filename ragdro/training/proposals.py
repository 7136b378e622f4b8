"""Where the E-step's permutations come from: a proposal q(z), with log q(z) of every draw exact.

In: the selector and questions with candidates. Out: m `Draw`s a question. The default is the selector itself
(the paper's). A mixture adds components that know nothing of the question but an order of its candidates, the
retriever's or that of the warm-up's teacher,

    q(z) = (1 - a - b - c) p(z|x) + a PL(z; decay, retriever) + b PL(z; decay, teacher) + c PL(z; 1),

PL being the Plackett-Luce distribution that takes the candidate at rank r (from 0) with a weight of decay^r:
with decay 1 every list is equally likely, so that none is out of reach. Where the selector may stop early,
their lists are of every length alike. Every random number is a function of
(seed, stream, question id), so a question's draws depend on nothing that is computed beside it.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ragdro.algorithms.base import Algorithm
from ragdro.config import EStep, Mixture
from ragdro.lm.decoding import branch_decoder
from ragdro.lm.engines.base import DecoderOf
from ragdro.lm.scoring import score_all
from ragdro.selection.selector import Selector
from ragdro.training.teachers import Orders
from ragdro.types import Draw, Permutation, Task

Propose: TypeAlias = Callable[[Selector, Sequence[Task]], list[list[Draw]]]
"""The draws of each question."""
Component: TypeAlias = tuple[float, NDArray[np.float64]]
"""A part of a mixture: its fraction, and the weight of each candidate in its Plackett-Luce distribution."""


def proposals(
    algorithm: Algorithm,
    settings: EStep,
    seed: int,
    stream: int,
    decoder: DecoderOf = branch_decoder,
    orders: Orders | None = None,
) -> Propose:
    """What the algorithm proposes, else lists sampled as `settings` ask for; `stream` sets apart draws that
    must not share random numbers, `orders` are the teacher's, for a mixture that draws by them.

    `decoder` is the sampling engine's. What another engine than our own drew has that engine's q; p(z|x) is
    our own forward pass's, and the weights take p/q.
    """

    def propose(selector: Selector, tasks: Sequence[Task]) -> list[list[Draw]]:
        proposed = algorithm.propose(selector, tasks, settings.max_tokens_per_micro_batch)
        if proposed is not None:
            return proposed
        own = decoder is branch_decoder
        draws = selector.sample(
            tasks,
            uniforms(selector, tasks, settings.samples, seed, stream),
            temperature=settings.temperature,
            # An engine minds its own memory, and is the quicker the more it is asked at once.
            max_tokens=settings.max_tokens_per_micro_batch if own else sys.maxsize,
            decoder=decoder,
        )
        if not own:
            return _rescored(selector, tasks, draws, settings.max_tokens_per_micro_batch)
        if settings.mixture is None:
            return draws
        tokens, known = settings.max_tokens_per_micro_batch, orders or {}
        rngs = [numbered(task, seed, stream, _MIXTURE) for task in tasks]
        return mixed(selector, tasks, draws, settings.mixture, known, tokens, rngs)

    return propose


def uniforms(
    selector: Selector, tasks: Sequence[Task], samples: int, seed: int, stream: int
) -> list[NDArray[np.float64]]:
    """The random numbers of each question's draws, [samples, choices]."""
    shape = (samples, selector.choices_per_list)
    return [numbered(task, seed, stream).random(shape) for task in tasks]


def log_plackett_luce(permutation: Permutation, weights: NDArray[np.float64]) -> float:
    """log of the product over places of w_z / (the sum of the weights not taken yet)."""
    left, total = weights.copy(), 0.0
    for index in permutation:
        total += float(np.log(left[index]) - np.log(left.sum()))
        left[index] = 0.0
    return total


def plackett_luce(weights: NDArray[np.float64], uniforms: NDArray[np.float64]) -> Permutation:
    """A list as long as `uniforms`, one number in [0, 1) a choice, by inverse transform sampling."""
    left, chosen = weights.copy(), []
    for u in uniforms:
        cumulative = left.cumsum()
        index = int((cumulative <= u * cumulative[-1]).sum())
        chosen.append(index)
        left[index] = 0.0
    return tuple(chosen)


def _rescored(
    selector: Selector, tasks: Sequence[Task], draws: Sequence[Sequence[Draw]], max_tokens: int
) -> list[list[Draw]]:
    """The same draws with the selector's own log p(z|x)."""
    distinct = [list(dict.fromkeys(d.permutation for d in drawn)) for drawn in draws]
    groups = [selector.group(task, zs) for task, zs in zip(tasks, distinct, strict=True)]
    priors = score_all(selector.model, groups, max_tokens)
    tables = [dict(zip(zs, ps, strict=True)) for zs, ps in zip(distinct, priors, strict=True)]
    return [
        [replace(d, log_prior=table[d.permutation]) for d in drawn]
        for drawn, table in zip(draws, tables, strict=True)
    ]


def mixed(
    selector: Selector,
    tasks: Sequence[Task],
    draws: Sequence[Sequence[Draw]],
    mixture: Mixture,
    orders: Orders,
    max_tokens: int,
    rngs: Sequence[np.random.Generator],
) -> list[list[Draw]]:
    """`draws` from the selector, some replaced by draws of the other components, all with the mixture's q;
    `rngs`: where each question's random numbers come from."""
    lists = []
    for task, drawn, rng in zip(tasks, draws, rngs, strict=True):
        components = _components(task, mixture, orders)
        ends = np.cumsum([fraction for fraction, _ in components])
        which, uniforms = rng.random(len(drawn)), rng.random((len(drawn), selector.k))
        most = selector.list_length(task.candidates)
        if selector.stop:
            lengths = rng.integers(1, most, len(drawn), endpoint=True)
        else:
            lengths = np.full(len(drawn), most)
        lists.append(
            [
                plackett_luce(components[place][1], u[:length])
                if (place := int((ends <= w).sum())) < len(components)
                else draw.permutation
                for draw, w, u, length in zip(drawn, which, uniforms, lengths, strict=True)
            ]
        )
    groups = [selector.group(task, zs) for task, zs in zip(tasks, lists, strict=True)]
    priors = score_all(selector.model, groups, max_tokens)
    return [
        [
            Draw(*one)
            for one in zip(zs, log_proposals(selector, task, zs, ps, mixture, orders), ps, strict=True)
        ]
        for task, zs, ps in zip(tasks, lists, priors, strict=True)
    ]


def log_proposals(
    selector: Selector,
    task: Task,
    permutations: Sequence[Permutation],
    log_priors: Sequence[float],
    mixture: Mixture | None,
    orders: Orders | None = None,
) -> list[float]:
    """log q(z) of each permutation whose log p(z|x) is given (temperature 1)."""
    if mixture is None:
        return list(log_priors)
    lengths = selector.list_length(task.candidates) if selector.stop else 1
    components = _components(task, mixture, orders or {})
    return [
        log_mixture(z, log_p, components, lengths=lengths)
        for z, log_p in zip(permutations, log_priors, strict=True)
    ]


def log_mixture(
    permutation: Permutation, log_prior: float, components: Sequence[Component], lengths: int = 1
) -> float:
    """log q(z) of the mixture of p(z|x), whose log is given, with Plackett-Luce `components`, each of which
    takes so many `lengths` alike."""
    logs = [
        math.log(fraction) + log_plackett_luce(permutation, weights) - math.log(lengths)
        for fraction, weights in components
    ]
    rest = 1 - sum(fraction for fraction, _ in components)
    return float(np.logaddexp.reduce([math.log(rest) + log_prior, *logs]))


def _components(task: Task, mixture: Mixture, orders: Orders) -> list[Component]:
    """The mixture's parts beside the selector: those with a fraction, and each candidate's weight there."""
    count = len(task.candidates.passages)
    by_rank = mixture.decay ** np.arange(count, dtype=np.float64)
    parts = [(mixture.retriever, by_rank), (mixture.uniform, np.ones(count))]
    if mixture.teacher:
        by_teacher = np.empty(count)
        by_teacher[list(orders[task.question.id])] = by_rank
        parts.append((mixture.teacher, by_teacher))
    return [(fraction, weights) for fraction, weights in parts if fraction]


_MIXTURE = 1
"""Sets the mixture's random numbers apart from the selector's."""


def numbered(task: Task, seed: int, stream: int, *further: int) -> np.random.Generator:
    """The random numbers of a question; `further` numbers set apart what must not share them."""
    return np.random.default_rng([seed, stream, zlib.crc32(task.question.id.encode()), *further])
