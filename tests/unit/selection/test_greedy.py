"""The greedy list is the likeliest identifier at each place, by enumeration, of any number of tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from ragdro.lm.decoding import BranchDecoder, Place, SeparateDecoder
from ragdro.lm.engines.base import Choice, EngineDecoder
from ragdro.lm.model import LanguageModel
from ragdro.lm.tree import Ints
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.selection.list_selector import ListSelector
from ragdro.types import Permutation
from tests.conftest import byte_level, random_model
from tests.unit.selection.test_selector import task

SEEDS = (0, 5, 8, 12, 14)
"""Of models; some of them would have another list token by token."""
TIGHT = 1e-6
"""Two identifiers whose probabilities (the model's head is float32) differ by less are a tie."""


def selector(model: LanguageModel, k: int, n: int, *, stop: bool = False) -> ListSelector:
    return ListSelector(model, load_template("tiny-selector"), k=k, n=n, budget=Budget(20, 20), stop=stop)


Next = Callable[[Sequence[int]], Tensor]
"""From tokens to the logits of the token that follows them."""


def plain(model: LanguageModel) -> Next:
    def after(tokens: Sequence[int]) -> Tensor:
        with torch.no_grad():
            return model.hf(input_ids=torch.tensor([list(tokens)])).logits[0, -1].double()

    return after


def identifiers(
    chooser: ListSelector, after: Next, written: list[int], items: dict[int, tuple[int, ...]]
) -> dict:
    """log p of each item behind what is written: at each token those of the items left compete."""

    def below(left: dict[int, tuple[int, ...]], depth: int, log_p: float) -> dict[int, float]:
        if len(left) == 1:
            return dict.fromkeys(left, log_p)
        tokens = sorted({item[depth] for item in left.values()})
        if len(tokens) == 1:
            return below(left, depth + 1, log_p)
        some = next(iter(left.values()))
        values = after([*written, *some[:depth]])[tokens].log_softmax(0)
        log_probs: dict[int, float] = {}
        for token, value in zip(tokens, values.tolist(), strict=True):
            log_probs |= below({i: s for i, s in left.items() if s[depth] == token}, depth + 1, log_p + value)
        return log_probs

    return below(items, 0, 0.0)


def expected(chooser: ListSelector, after: Next, count: int) -> tuple[Permutation, list[float], float]:
    """The greedy list of `task(count)`, the probabilities of its identifiers, and by how much the closest of
    its decisions was taken."""
    tokenizer = chooser.model.tokenizer
    written, chosen, probabilities, margin = chooser.prompt(task(count)).tolist(), (), [], 1.0
    while len(chosen) < min(chooser.k, count):
        lead = " > " if chosen else " "
        items = {
            i: tuple(tokenizer.continuation("[1]" if chosen else "", f"{lead}[{i + 1}]"))
            for i in range(count)
            if i not in chosen
        }
        going_on = 0.0
        if chosen and chooser.grammar.stop:
            first = sorted({item[0] for item in items.values()})
            values = after(written)[[tokenizer.end_id, *first]].softmax(0)
            margin = min(margin, abs(2 * float(values[0]) - 1))
            if values[0] >= 0.5:
                break
            assert len(first) == 1
            going_on = float(values[1].log())
        log_p = identifiers(chooser, after, written, items)
        assert np.exp(list(log_p.values())).sum() == pytest.approx(1, abs=1e-9)
        best, *others = sorted(log_p, key=lambda i: (-log_p[i], i))
        if others:
            margin = min(margin, np.exp(log_p[best]) - np.exp(log_p[others[0]]))
        written += items[best]
        chosen = (*chosen, best)
        probabilities.append(np.exp(going_on + log_p[best]))
    return chosen, probabilities, margin


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize(("k", "count"), [(1, 12), (2, 11), (3, 12), (3, 10), (3, 2)])
def test_the_likeliest_identifier_at_each_place_by_enumeration(k: int, count: int, stop: bool) -> None:
    token_greedy = 0
    for seed in SEEDS:
        model = random_model(byte_level(), seed=seed, initializer_range=0.15)
        model.hf.double()
        chooser = selector(model, k, max(count, k), stop=stop)
        z, probabilities, margin = expected(chooser, plain(model), count)
        assert margin > TIGHT
        for decoder in (BranchDecoder, SeparateDecoder):
            (selection,) = chooser.greedy([task(count)], 9999, decoder)
            assert selection.permutation == z
            assert selection.probabilities == pytest.approx(probabilities, abs=1e-6)
            assert selection.most == k
        uniforms = np.random.default_rng(seed).random((5, chooser.choices_per_list))
        ((beside, draws),) = chooser.select_and_sample([task(count)], [uniforms], 9999)
        assert beside.permutation == z and beside.probabilities == pytest.approx(probabilities, abs=1e-6)
        (alone,) = chooser.sample([task(count)], [uniforms], temperature=1.0, max_tokens=9999)
        assert [d.permutation for d in draws] == [d.permutation for d in alone]
        assert [d.log_prior for d in draws] == pytest.approx([d.log_prior for d in alone], abs=1e-6)
        token_greedy += z == likeliest_tokens(chooser, count)
    if (k, count, stop) == (3, 12, False):
        assert token_greedy < len(SEEDS)  # a rule that went token by token would not have passed


def likeliest_tokens(chooser: ListSelector, count: int) -> Permutation:
    """The list that takes the most probable token at each choice."""
    after, state = plain(chooser.model), chooser.grammar.begin(count, min(chooser.k, count))
    written = [*chooser.prompt(task(count)).tolist(), *state.pending]
    while state.competing is not None:
        state.take(int(state.competing[int(after(written)[state.competing].argmax())]))
        written += state.pending
    return state.chosen


def test_the_greedy_lists_of_a_batch_are_those_of_each_question_alone() -> None:
    chooser = selector(random_model(byte_level(), seed=3), 3, 12)
    tasks = [task(12), task(11, "Zorba is based in Freedonia, near the sea."), task(4), task(1), task(2)]
    together = chooser.greedy(tasks, 100_000)
    for one, selection in zip(tasks, together, strict=True):
        (alone,) = chooser.greedy([one], 1)
        assert selection.permutation == alone.permutation
        assert selection.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


class FixedProbabilities(SeparateDecoder):
    """Branches whose next tokens have the probabilities that follow from given ones of all identifiers."""

    def __init__(
        self,
        items: Sequence[tuple[int, ...]],
        p: Sequence[float],
        model: LanguageModel,
        prompts: Sequence[Ints],
        branches: int,
    ) -> None:
        super().__init__(model, prompts, branches)
        self._start, self._items, self._p = len(prompts[0]), items, p
        self.asked: list[tuple[int, ...]] = []

    def choice_logits(self, branches: Sequence[Place], choices: Tensor, allowed: Tensor) -> Tensor:
        path = tuple(self._sequences[0][0][self._start :])
        self.asked.append(path)
        mass = [
            sum(
                p for item, p in zip(self._items, self._p, strict=True) if item[: len(path) + 1] == (*path, c)
            )
            for c in choices.tolist()
        ]
        return torch.tensor([mass]).log().masked_fill(~allowed, -torch.inf)


def first_choice(p: Sequence[float]) -> tuple[Permutation, tuple[float, ...], list[tuple[int, ...]]]:
    """The greedy first choice where the identifiers have the probabilities `p`, and what was computed."""
    chooser = selector(random_model(byte_level()), 1, len(p))
    made: list[FixedProbabilities] = []

    def decoder(model: LanguageModel, prompts: Sequence[Ints], branches: int) -> FixedProbabilities:
        made.append(FixedProbabilities(chooser.grammar.first, p, model, prompts, branches))
        return made[-1]

    (selection,) = chooser.greedy([task(len(p))], 9999, decoder)
    return selection.permutation, selection.probabilities or (), made[0].asked


def test_many_improbable_identifiers_that_begin_alike_do_not_beat_a_probable_one() -> None:
    p = [0.04] * 20
    p[6] = 0.24
    permutation, probabilities, asked = first_choice(p)
    assert permutation == (6,) and probabilities == pytest.approx([0.24])
    assert len(asked) == 2  # `1` begins 0.44 of it and had to be looked into; `2` begins 0.08


def test_what_cannot_be_better_is_never_computed() -> None:
    p = [0.02] * 20
    p[6] = 0.62
    permutation, probabilities, asked = first_choice(p)
    assert permutation == (6,) and probabilities == pytest.approx([0.62]) and len(asked) == 1


def test_the_best_may_be_long_and_found_last() -> None:
    p = [0.01] * 20
    p[12], p[19], p[6] = 0.3, 0.32, 0.21
    permutation, probabilities, asked = first_choice(p)
    assert permutation == (19,) and probabilities == pytest.approx([0.32]) and len(asked) == 3


def test_of_equals_the_lowest_index_is_taken() -> None:
    assert first_choice([0.125] * 8)[0] == (0,)
    assert first_choice([0.0625] * 16)[0] == (0,)


def test_a_list_that_may_end_ends_where_that_is_at_least_as_probable_as_going_on() -> None:
    """Continuing is one decision and what to continue with another: an end of 0.3 against 0.7 that is spread
    over many identifiers does not end the list."""

    class EndsWith(SeparateDecoder):
        def __init__(self, end: float, *rest: object) -> None:
            super().__init__(*rest)
            self._end = end

        def choice_logits(self, branches: Sequence[Place], choices: Tensor, allowed: Tensor) -> Tensor:
            ends = choices == self.model.tokenizer.end_id
            p = torch.where(ends, self._end, (1 - self._end) / max(1, int((~ends).sum())))
            return p.log()[None].masked_fill(~allowed, -torch.inf)

    chooser = selector(random_model(byte_level()), 3, 9, stop=True)
    (goes_on,) = chooser.greedy([task(9)], 9999, partial(EndsWith, 0.3))
    assert goes_on.permutation == (0, 1, 2)
    assert goes_on.probabilities == pytest.approx([1 / 9, 0.7 / 8, 0.7 / 7])
    (ended,) = chooser.greedy([task(9)], 9999, partial(EndsWith, 0.6))
    assert ended.permutation == (0,) and ended.most == 3


def test_another_engine_is_asked_about_the_beginnings_that_the_search_takes() -> None:
    """What was taken back is in no question that the engine gets."""
    rewound = 0
    for seed in SEEDS:
        model = random_model(byte_level(), seed=seed, initializer_range=0.15)
        model.hf.double()
        chooser, after = selector(model, 3, 12), plain(model)
        start, texts = len(chooser.prompt(task(12))), []

        def ask(choices: Sequence[Choice]) -> list[list[float]]:
            texts.extend(chooser.model.tokenizer.hf.decode(c.tokens[start:]) for c in choices)  # noqa: B023
            return [after(c.tokens)[list(c.allowed)].log_softmax(0).tolist() for c in choices]  # noqa: B023

        (selection,) = chooser.greedy([task(12)], 9999, partial(EngineDecoder, ask))
        z, probabilities, _ = expected(chooser, after, 12)
        assert selection.permutation == z and selection.probabilities == pytest.approx(
            probabilities, abs=1e-6
        )
        assert len(set(texts)) == len(texts)
        assert all(re.fullmatch(r" \[((1[0-2]|[1-9])\] > \[)*1?", text) for text in texts)
        rewound += any(not later.startswith(text) for text, later in pairwise(texts))
    assert rewound
