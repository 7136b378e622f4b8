"""Lists, log-probabilities and answers of the whole model, against its own forward passes, one at a time."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from ragdro.algorithms.examples import TrainingExample
from ragdro.config import LoraAdapter, Optimisation
from ragdro.lm.adapters import with_adapter
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.lm.tree import ScoredSequence
from ragdro.system import reading
from ragdro.training.m_step import fit
from tests.pretrained.conftest import Load, generator_of, real_tasks, selector_of, short_task

MAX_TOKENS = 4096
LISTS = [(0, 1), (1, 0), (3, 2), (2, 0)]


@torch.no_grad()
def log_prob(model: LanguageModel, sequence: ScoredSequence) -> float:
    """By transformers alone, from the logits of the whole vocabulary."""
    kept = len(sequence.tokens) - int(sequence.targets[0]) + 1
    ids = torch.from_numpy(sequence.tokens)[None]
    logits = model.hf(ids, use_cache=False, logits_to_keep=kept).logits[0].double()
    total = 0.0
    for i, t in enumerate(sequence.targets.tolist()):
        row = logits[t - int(sequence.targets[0])]
        competing = slice(None) if sequence.allowed is None else torch.from_numpy(sequence.allowed[i])
        total += float(row[sequence.tokens[t]] - row[competing].logsumexp(0))
    return total


def test_the_capital_of_france(whole: LanguageModel) -> None:
    """The weights are those that were trained, not of a file read wrongly."""
    generator = generator_of(whole)
    passages = ["Paris is the capital of France.", "Berlin is the capital of Germany."]
    assert "Paris" in generator.answer("What is the capital of France?", passages)
    scores = [
        generator.log_likelihood("What is the capital of France?", passages, answer)
        for answer in ("Paris", "Berlin", "Rome", "zzz")
    ]
    assert max(scores) == scores[0] and min(scores) == scores[3]


def test_drawn_lists_are_valid_and_have_exact_log_probabilities(whole: LanguageModel) -> None:
    """Twelve candidates: digits are tokens of their own here, so that `1` begins four identifiers."""
    tasks = [real_tasks()[0], real_tasks()[-1]]
    selector = selector_of(whole, k=3)
    rng = np.random.default_rng(0)
    uniforms = [rng.random((6, selector.choices_per_list)) for _ in tasks]
    drawn = selector.sample(tasks, uniforms, temperature=1.0, max_tokens=MAX_TOKENS)
    for task, draws in zip(tasks, drawn, strict=True):
        count = len(task.candidates.passages)
        assert len({d.permutation for d in draws}) > 1
        for draw in draws:
            assert len(set(draw.permutation)) == 3 and all(0 <= i < count for i in draw.permutation)
        for draw in draws[:2]:
            plain = log_prob(whole, selector.scored(task, draw.permutation))
            assert draw.log_prior == pytest.approx(plain, abs=2e-3)
            assert draw.log_proposal == pytest.approx(draw.log_prior)
    assert whole.shares_cache is True and whole.fallbacks == 0


def test_the_probabilities_of_all_lists_sum_to_one(whole: LanguageModel) -> None:
    task, selector = short_task(), selector_of(whole)
    lists = [(a, b) for a in range(4) for b in range(4) if a != b]
    assert np.exp(selector.log_prob(task, lists, MAX_TOKENS)).sum() == pytest.approx(1, abs=1e-4)
    first = np.exp(selector.first_choices([task], MAX_TOKENS)[0])
    assert first.sum() == pytest.approx(1, abs=1e-4)
    (greedy,) = selector.greedy([task], MAX_TOKENS)
    assert greedy.permutation[0] == int(first.argmax())


def test_shared_scores_are_the_separate_ones(whole: LanguageModel) -> None:
    selector, generator = selector_of(whole), generator_of(whole)
    task = short_task()
    lists = [selector.scored(task, z) for z in LISTS]
    answers = [generator.scored(reading(task, z)) for z in LISTS]
    for sequences in (lists, answers):
        shared = score_all(whole, [SequenceGroup.of(sequences)], MAX_TOKENS)[0]
        assert shared == pytest.approx([log_prob(whole, s) for s in sequences], abs=2e-3)
    assert whole.shares_prefixes is True and whole.fallbacks == 0


def test_answers_are_argmax(whole: LanguageModel) -> None:
    generator, tasks = generator_of(whole), real_tasks()[:2]
    readings = [reading(t, (0, 1)) for t in tasks]
    for asked, answer in zip(readings, generator.answer_many(readings, MAX_TOKENS), strict=True):
        ids = generator.prompt(asked).tolist()
        written: list[int] = []
        while len(written) < generator.answer_tokens:
            with torch.no_grad():
                token = int(whole.hf(torch.tensor([ids + written]), use_cache=False).logits[0, -1].argmax())
            if token in whole.tokenizer.end_ids:
                break
            written.append(token)
        assert answer == whole.tokenizer.decode(written)


def test_in_bfloat16_prompts_stay_shared(load: Load) -> None:
    """Sampling, scoring and an update: rounding of real weights is not taken for a wrong computation."""
    base = load(amp="bfloat16", adapter=LoraAdapter())
    assert base.autocast == torch.bfloat16
    model = with_adapter(base, "selector", LoraAdapter(), seed=0)
    selector, generator, task = selector_of(model), generator_of(model), short_task()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        example = TrainingExample("q0", selector.group(task, LISTS), (0.4, 0.3, 0.2, 0.1))
        for updated in (False, True):
            uniforms = [np.random.default_rng(0).random((4, selector.choices_per_list))]
            selector.sample([task], uniforms, temperature=1.0, max_tokens=MAX_TOKENS)
            selector.log_prob(task, LISTS, MAX_TOKENS)
            score_all(model, [generator.group([reading(task, z) for z in LISTS])], MAX_TOKENS)
            assert model.shares_cache is True and model.shares_prefixes is True
            if not updated:
                fit(model, 1, lambda i: example, Optimisation(epochs=1), np.random.default_rng(0))
                assert model.shares_cache is None and model.shares_prefixes is None
    assert model.fallbacks == 0
