"""Writing the lists of a batch of questions from one reading of each prompt, one choice of each list a step.

In: prompts, how many lists of each are drawn and the random numbers that decide them, and whether the greedy
list is written beside them. Out: the lists with their log-probabilities. A drawn list takes a token at
each choice; the greedy one looks around first (`ragdro.selection.greedy`), which changes no draw: a list has
its own random numbers and sees its own tokens alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ragdro.lm.decoding import Decoder, Place
from ragdro.lm.engines.base import DecoderOf
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import choice_table
from ragdro.lm.tree import Ints
from ragdro.profiling import phase
from ragdro.selection.greedy import GreedyList
from ragdro.selection.identifiers import DecodingState, IdentifierGrammar


@dataclass(frozen=True, slots=True)
class Prompt:
    """What lists are written behind: token ids, and that `k` of `candidates` are chosen (see
    `DecodingState`)."""

    ids: Ints
    candidates: int
    k: int


@dataclass(frozen=True, slots=True)
class Writing:
    """How lists are written: drawn at `temperature`, with the greedy one if `greedy`, and with the
    probability of every candidate at its first place if `all_first`."""

    temperature: float = 1.0
    greedy: bool = False
    all_first: bool = False


class DrawnList:
    """A list being drawn, with its log-probabilities so far (nats): as proposed, and under the model."""

    def __init__(self, state: DecodingState) -> None:
        self.state = state
        self.log_proposal = 0.0
        self.log_prior = 0.0

    @property
    def competing(self) -> Ints | None:
        """See `DecodingState`."""
        return self.state.competing

    @property
    def pending(self) -> list[int]:
        """See `DecodingState`."""
        return self.state.pending

    def take(self, token: int, log_p: float, log_q: float) -> None:
        """Choose one of the `competing` tokens."""
        self.log_prior += log_p
        self.log_proposal += log_q
        self.state.take(token)


@dataclass(frozen=True, slots=True)
class Lists:
    """A question's lists: the greedy one, if there is one, and those drawn, in the order of their numbers."""

    greedy: GreedyList | None
    drawn: list[DrawnList]

    @property
    def log_first(self) -> list[float]:
        """log p of being chosen first (nats) of every candidate, where that was asked for (`all_first`)."""
        assert self.greedy is not None
        return [self.greedy.first[i] for i in range(len(self.greedy.first))]


@phase("decode")
def write_lists(
    model: LanguageModel,
    grammar: IdentifierGrammar,
    prompts: Sequence[Prompt],
    uniforms: NDArray[np.float64],
    writing: Writing,
    decoder_of: DecoderOf,
) -> list[Lists]:
    """The lists of a batch; `uniforms` [questions, samples, steps] are numbers in [0, 1), one a choice."""
    lists = [
        Lists(
            GreedyList(grammar, p.candidates, p.k, all_first=writing.all_first) if writing.greedy else None,
            [DrawnList(grammar.begin(p.candidates, p.k)) for _ in range(uniforms.shape[1])],
        )
        for p in prompts
    ]
    rows = [[one for one in (written.greedy, *written.drawn) if one is not None] for written in lists]
    draw = _Draw(uniforms, writing)
    model.hf.eval()
    with torch.no_grad():
        if not _active(rows):  # every list is certain
            return lists
        decoder = decoder_of(model, [p.ids for p in prompts], len(rows[0]))
        while active := _active(rows):
            for r, b in active:
                one = rows[r][b]
                if isinstance(one, GreedyList) and one.rewind:
                    decoder.rewind(r, b, one.rewind)
            decoder.feed([[x.pending if x.competing is not None else [] for x in row] for row in rows])
            _choose(decoder, model, rows, active, draw)
    return lists


_Rows = list[list[GreedyList | DrawnList]]
_Places = list[Place]
"""Of each list that has something to choose."""


def _active(rows: _Rows) -> _Places:
    return [(r, b) for r, row in enumerate(rows) for b, x in enumerate(row) if x.competing is not None]


def _choose(decoder: Decoder, model: LanguageModel, rows: _Rows, active: _Places, draw: _Draw) -> None:
    """One choice of every list that is not done."""
    sets = [c for r, b in active if (c := rows[r][b].competing) is not None]
    choices, allowed, _ = choice_table(sets)
    logits = decoder.choice_logits(active, choices.to(model.device), allowed.to(model.device))
    log_p = logits.cpu().double().log_softmax(-1).numpy()  # some devices have no float64
    columns, log_q = draw(log_p, active)
    ids, competes = choices.numpy(), allowed.numpy()
    for row, (r, b) in enumerate(active):
        one = rows[r][b]
        if isinstance(one, GreedyList):
            one.take(log_p[row, competes[row]])
        else:
            one.take(int(ids[columns[row]]), float(log_p[row, columns[row]]), float(log_q[row]))


class _Draw:
    """Inverse transform sampling at a temperature; a list that is drawn takes its next number every step."""

    def __init__(self, uniforms: NDArray[np.float64], writing: Writing) -> None:
        self._uniforms = uniforms
        self._first = int(writing.greedy)
        """The first branch that is drawn."""
        self._temperature = writing.temperature
        self._step = 0

    def __call__(self, log_p: NDArray[np.float64], active: _Places) -> tuple[Ints, NDArray[np.float64]]:
        """The column that each active list takes, and its log q; of a greedy one both mean nothing."""
        scaled = log_p / self._temperature
        scaled -= scaled.max(-1, keepdims=True)
        q = np.exp(scaled)
        q /= q.sum(-1, keepdims=True)
        where = np.array(active)
        drawn = where[:, 1] >= self._first
        u = np.zeros(len(active))
        if drawn.any():  # a greedy list may take more steps than there are numbers
            u[drawn] = self._uniforms[where[drawn, 0], where[drawn, 1] - self._first, self._step]
        self._step += 1
        cumulative = q.cumsum(-1)
        columns = (cumulative <= (u * cumulative[:, -1])[:, None]).sum(-1)
        return columns, np.log(np.take_along_axis(q, columns[:, None], -1)[:, 0])
