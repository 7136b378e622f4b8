"""The selector's distribution, by enumeration: exact, normalised, and the same sampled and scored."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.selection.identifiers import parse, render
from ragdro.selection.list_selector import ListSelector
from ragdro.types import Candidates, Passage, Question, Task
from tests.conftest import ARCHITECTURES, random_model


def task(count: int, words: str = "Mara Voss works for Zorba.") -> Task:
    passages = tuple(Passage(str(i), f"Title {i}", f"{words} {i}") for i in range(count))
    return Task(Question("q", "where does Mara Voss work?", ("Zorba",)), Candidates("q", passages))


def selector(tokenizer: PreTrainedTokenizerFast, k: int, n: int, architecture: str = "llama") -> ListSelector:
    model = random_model(tokenizer, architecture)
    return ListSelector(model, load_template("tiny-selector"), k=k, n=n, budget=Budget(20, 20))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_probabilities_of_all_ordered_lists_sum_to_one(
    tokenizer: PreTrainedTokenizerFast, architecture: str
) -> None:
    chooser = selector(tokenizer, 2, 4, architecture)
    lists = list(permutations(range(4), 2))
    probabilities = np.exp(chooser.log_prob(task(4), lists, 4096))
    assert len(lists) == 12
    assert probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert probabilities.std() > 1e-3  # a uniform distribution would prove little


def test_identifiers_of_several_tokens_sum_to_one_too(tokenizer: PreTrainedTokenizerFast) -> None:
    chooser = selector(tokenizer, 2, 12)
    probabilities = np.exp(chooser.log_prob(task(12), list(permutations(range(12), 2)), 100_000))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_sampling_reports_the_probability_that_scoring_finds(tokenizer: PreTrainedTokenizerFast) -> None:
    chooser = selector(tokenizer, 3, 12)
    tasks = [task(12), task(11, "Zorba is based in Freedonia, near the sea."), task(4)]
    uniforms = [np.random.default_rng(i).random((6, chooser.choices_per_list)) for i in range(3)]
    draws = chooser.sample(tasks, uniforms, temperature=1.0, max_tokens=10_000)
    for one, drawn in zip(tasks, draws, strict=True):
        scored = chooser.log_prob(one, [d.permutation for d in drawn], 100_000)
        assert [d.log_prior for d in drawn] == pytest.approx(scored, abs=1e-4)
        assert [d.log_proposal for d in drawn] == pytest.approx(scored, abs=1e-4)
    alone = chooser.sample(tasks[1:2], uniforms[1:2], temperature=1.0, max_tokens=1)
    assert [d.permutation for d in alone[0]] == [d.permutation for d in draws[1]]


@pytest.mark.parametrize("stop", [False, True])
def test_selecting_and_sampling_from_one_reading_change_neither(
    tokenizer: PreTrainedTokenizerFast, stop: bool
) -> None:
    chooser = stopping(tokenizer, 3, 12) if stop else selector(tokenizer, 3, 12)
    tasks = [task(12), task(11, "Zorba is based in Freedonia, near the sea."), task(4)]
    uniforms = [np.random.default_rng(i).random((6, chooser.choices_per_list)) for i in range(3)]
    draws = chooser.sample(tasks, uniforms, temperature=1.0, max_tokens=10_000)
    pairs = chooser.select_and_sample(tasks, uniforms, 10_000)
    for (selection, drawn), alone, plain in zip(pairs, chooser.greedy(tasks, 10_000), draws, strict=True):
        assert selection.permutation == alone.permutation
        assert selection.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
        assert [d.permutation for d in drawn] == [d.permutation for d in plain]
        assert [d.log_prior for d in drawn] == pytest.approx([d.log_prior for d in plain], abs=1e-5)
        assert [d.log_proposal for d in drawn] == pytest.approx([d.log_prior for d in drawn], abs=1e-9)
    assert len({d.permutation for _, drawn in pairs for d in drawn}) > 6  # draws that say something


def any_length(count: int, k: int) -> list[tuple[int, ...]]:
    return [z for length in range(1, k + 1) for z in permutations(range(count), length)]


def stopping(tokenizer: PreTrainedTokenizerFast, k: int, n: int) -> ListSelector:
    budget = Budget(20, 20)
    return ListSelector(
        random_model(tokenizer), load_template("tiny-selector"), k=k, n=n, budget=budget, stop=True
    )


@pytest.mark.parametrize(("count", "k"), [(4, 3), (3, 3), (12, 2)])
def test_lists_that_may_stop_early_sum_to_one_over_all_lengths(
    tokenizer: PreTrainedTokenizerFast, count: int, k: int
) -> None:
    chooser, lists = stopping(tokenizer, k, count), any_length(count, k)
    probabilities = np.exp(chooser.log_prob(task(count), lists, 100_000))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    lengths = [probabilities[[len(z) == n for z in lists]].sum() for n in range(1, k + 1)]
    assert min(lengths) > 1e-5
    plain = selector(tokenizer, k, count)  # a first choice is the same whether the list may stop or not
    firsts = [
        np.exp(c.log_prob(task(count), [z for z in ls if z[0] == 1], 100_000)).sum()
        for c, ls in ((chooser, lists), (plain, list(permutations(range(count), k))))
    ]
    assert firsts[0] == pytest.approx(firsts[1], abs=1e-5)


def test_samples_that_may_stop_early_carry_their_probability_and_follow_it() -> None:
    from tests.conftest import byte_level

    chooser, lists = stopping(byte_level(), 2, 4), any_length(4, 2)
    assert len(lists) == 16
    expected = 4000 * np.exp(chooser.log_prob(task(4), lists, 4096))
    uniforms = np.random.default_rng(0).random((50, 80, chooser.choices_per_list))
    rows = chooser.sample([task(4)] * 50, list(uniforms), temperature=1.0, max_tokens=10_000)
    draws = [draw for row in rows for draw in row]
    observed = np.array([sum(d.permutation == z for d in draws) for z in lists])
    assert ((observed - expected) ** 2 / expected).sum() < 37.7  # 15 degrees, the 0.999 quantile
    for draw in draws[:40]:
        place = lists.index(draw.permutation)
        assert draw.log_prior == pytest.approx(np.log(expected[place] / 4000), abs=1e-4)
    (selection,) = chooser.greedy([task(4)], 9999)
    assert selection.most == 2 and len(selection.permutation) == len(selection.probabilities or ())


def test_samples_follow_the_distribution() -> None:
    """4,000 draws against the 12 enumerated probabilities: a chi-square of 11 degrees of freedom."""
    from tests.conftest import byte_level

    chooser = selector(byte_level(), 2, 4)
    lists = list(permutations(range(4), 2))
    expected = 4000 * np.exp(chooser.log_prob(task(4), lists, 4096))
    uniforms = np.random.default_rng(0).random((50, 80, chooser.choices_per_list))
    rows = chooser.sample([task(4)] * 50, list(uniforms), temperature=1.0, max_tokens=10_000)
    draws = [draw for row in rows for draw in row]
    observed = np.array([sum(d.permutation == z for d in draws) for z in lists])
    assert ((observed - expected) ** 2 / expected).sum() < 31.3  # the 0.999 quantile


def test_a_temperature_changes_the_proposal_and_not_the_prior(tokenizer: PreTrainedTokenizerFast) -> None:
    chooser = selector(tokenizer, 1, 4)
    uniforms = [np.random.default_rng(3).random((8, chooser.choices_per_list))]
    drawn = chooser.sample([task(4)], uniforms, temperature=0.5, max_tokens=10_000)[0]
    log_p = np.array(chooser.log_prob(task(4), [(i,) for i in range(4)], 10_000))
    sharpened = 2 * log_p - np.log(np.exp(2 * log_p).sum())
    for draw in drawn:
        assert draw.log_prior == pytest.approx(log_p[draw.permutation[0]], abs=1e-4)
        assert draw.log_proposal == pytest.approx(sharpened[draw.permutation[0]], abs=1e-4)


def test_greedy_takes_the_most_probable_choice_each_time() -> None:
    from tests.conftest import word_level

    chooser = selector(word_level(), 2, 5)
    first = np.array(
        [
            np.exp(chooser.log_prob(task(5), [(i, j) for j in range(5) if j != i], 9999)).sum()
            for i in range(5)
        ]
    )
    best = int(first.argmax())
    selection = chooser.greedy([task(5)], 9999)[0]
    assert selection.permutation[0] == best
    assert selection.probabilities[0] == pytest.approx(first[best], abs=1e-5)
    pair = np.exp(chooser.log_prob(task(5), [selection.permutation], 9999))[0]
    assert pair == pytest.approx(np.prod(selection.probabilities), rel=1e-4)


def test_text_and_permutation_are_each_others_inverse() -> None:
    assert render((2, 0, 16)) == "[3] > [1] > [17]"
    assert parse("[3] > [1] > [17]", 17) == (2, 0, 16)
