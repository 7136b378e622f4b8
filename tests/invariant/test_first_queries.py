"""`retrieval.rewrite_first` against full enumeration in float64: the first query is latent as others are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from ragdro.algorithms import Dro
from ragdro.algorithms.weights import importance_weights
from ragdro.config import Mixture
from ragdro.generation.reading import Reading
from ragdro.lm.groups import log_probs
from ragdro.rewriting.decisions import path_log_priors
from ragdro.rewriting.paths import pooled
from ragdro.selection.tournament import last_round
from ragdro.system import Rag
from ragdro.types import (
    Candidates,
    QuestionPath,
    Round,
    Task,
    WeightedSample,
    WeightedTask,
)
from tests.invariant.by_hand import projected
from tests.invariant.first_queries_by_hand import (
    enumerate_first,
    first_rag,
    left,
    read_of,
    states_of,
    steps_of,
    truth_of,
)
from tests.invariant.path_world import FOUND, NOTHING, PASSAGES, TASK, kind_of, path_rag
from tests.invariant.test_paths import drawn, path_rag_decode


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 1.6}, {"mixture": Mixture(retriever=0.2, uniform=0.3)}], ids=str
)
def test_the_posterior_is_that_of_the_enumeration(rounds: int, settings: dict[str, object]) -> None:
    truth = truth_of(rounds)
    assert float(truth.prior.exp().sum()) == pytest.approx(1, abs=1e-12)
    assert len(truth.paths) == (37 if rounds == 1 else 1 + 36 * (1 + sum_of_seconds()))
    places = {path: i for i, path in enumerate(truth.paths)}
    weighted = drawn(first_rag(rounds), samples=1500, **settings)
    estimate, ended = torch.zeros(len(places), dtype=torch.float64), 0
    for sample in weighted.samples:
        assert sample.path is not None and sample.path.rounds[0].tokens
        at = places[steps_of(sample.path)]
        estimate[at] += sample.weight
        assert sample.log_likelihood == pytest.approx(float(truth.likelihood[at]), abs=1e-3)
        passages = weighted.task.candidates.passages
        assert tuple(passages[i] for i in sample.permutation) == read_of(truth.paths[at])
        for (read, *_), one in zip(states_of(truth.paths[at]), sample.path.rounds, strict=True):
            assert one.log_query == pytest.approx(float(truth.words[read][one.tokens[0]]), abs=1e-3)
        ended += not sample.permutation
    assert 0 < ended < len(weighted.samples)  # some read nothing at all
    corrected = float((estimate - truth.posterior).abs().sum())
    assert corrected < 8 / weighted.effective_sample_size**0.5 and corrected < (0.2 if rounds == 1 else 0.6)
    assert weighted.bound == pytest.approx(float(truth.evidence), abs=0.2)
    if settings:
        ratios = torch.tensor([[s.log_likelihood for s in weighted.samples for _ in range(s.count)]])
        at = [places[steps_of(s.path)] for s in weighted.samples if s.path for _ in range(s.count)]
        uncorrected = torch.zeros(len(places), dtype=torch.float64)
        uncorrected.index_add_(0, torch.tensor(at), importance_weights(ratios.double())[0])
        assert float((uncorrected - truth.posterior).abs().sum()) > 1.2 * corrected


def sum_of_seconds() -> float:
    """By hand: the lists of two that second queries find, mean over the 36 first lists."""
    firsts = [(kind, z) for kind in range(NOTHING) for z in permutations(range(4), 2)]
    counts = []
    for kind, z in firsts:
        read = {FOUND[kind][i] for i in z}
        sizes = [len(set(found) - read) for found in FOUND]
        counts.append(sum(n * (n - 1) for n in sizes))
    return sum(counts) / len(firsts)


@pytest.mark.parametrize("role", ["selector", "rewriter", "generator"])
def test_with_the_posterior_as_weights_the_losses_have_the_evidences_gradient(role: str) -> None:
    """One round, whose query is written: all words apart, each list of what it finds."""
    rag, truth, found = first_rag(1), truth_of(1), list[tuple[QuestionPath, float]]()
    for ((kind, z),), posterior in zip(truth.paths, truth.posterior.tolist(), strict=True):
        log_words = truth.words[()]
        words = [i for i in range(len(log_words)) if kind_of(path_rag_decode(i)) == kind]
        fractions = log_words[words].softmax(0).tolist()
        for word, fraction in zip(words, fractions, strict=True):
            asked = Round(path_rag_decode(word), (word,), Candidates("q", left(kind, ())), z)
            found.append((QuestionPath((asked,)), posterior * fraction))
    whole, lists = pooled(TASK, [path for path, _ in found])
    samples = [
        WeightedSample(z, 1, 0.0, 0.0, 0.0, weight, path=path)
        for z, (path, weight) in zip(lists, found, strict=True)
    ]
    weighted = WeightedTask(whole, tuple(samples), 0.0, 1.0, False)
    assert sum(s.weight for s in samples) == pytest.approx(1) and rag.asking is not None
    example, model = {
        "selector": lambda: (Dro().selector_example(rag.selector, weighted), rag.selector.model),
        "generator": lambda: (Dro().generator_example(rag.generator, weighted), rag.generator.model),
        "rewriter": lambda: (
            Dro().rewriter_example(rag.asking.rewriter, weighted),
            rag.asking.rewriter.model,
        ),
    }[role]()
    values = log_probs(model, [example.group])[0]
    gradient = projected(model, -example.loss(torch.tensor(example.weights), values))
    expected = projected(model, enumerate_first(rag, 1).evidence)
    assert float(expected.norm()) > 0 and (gradient - expected).norm() < 2e-3 * expected.norm()


def test_given_candidates_are_read_and_not_asked_for() -> None:
    rag = first_rag(2)
    given = replace(TASK, given=True, candidates=Candidates("q", PASSAGES[:3]))
    own, written = rag.predict([given, TASK])
    for prediction, first in ((own, ()), (written, None)):
        path = prediction.selection.path
        assert path is not None and (path.rounds[0].tokens == first) == (first == ())
    assert own.task.candidates.passages[:3] == PASSAGES[:3]
    assert np.isfinite(rag.likelihoods([own, written])).all()


def test_a_question_of_which_no_query_finds_anything_is_answered_from_nothing() -> None:
    rag = first_rag(2)
    assert rag.asking is not None
    rag.asking.search._find = lambda texts, n: [Candidates(text, ()) for text in texts]
    weighted = drawn(rag, samples=4)
    assert weighted.task.candidates.passages == () and all(not s.permutation for s in weighted.samples)
    (prediction,) = rag.predict([TASK])
    assert prediction.selected == () and prediction.selection.path is not None
    rewriter_example = Dro().rewriter_example(rag.asking.rewriter, weighted)
    assert rewriter_example.group.scored == len(weighted.samples)


@pytest.mark.parametrize(
    "make", [lambda: first_rag(2), path_rag], ids=["a query first", "the question first"]
)
def test_a_path_is_scored_again_as_it_was_drawn(make: Callable[[], Rag]) -> None:
    rag, other = make(), make()
    assert rag.asking is not None and other.asking is not None
    weighted = drawn(rag, samples=30)
    (again,) = path_log_priors(rag.selector, rag.asking.rewriter, [weighted], 200)
    assert again == pytest.approx([s.log_prior for s in weighted.samples], abs=1e-3)
    for model in (other.selector.model, other.asking.rewriter.model):
        for parameter in model.hf.parameters():
            parameter.data *= 0.9
    (moved,) = path_log_priors(other.selector, other.asking.rewriter, [weighted], 200)
    for sample, log_p in zip(weighted.samples, moved, strict=True):
        one = replace(weighted, samples=(replace(sample, weight=1.0),))
        values = [
            log_probs(model, [example.group])[0].sum().item()
            for model, example in (
                (other.selector.model, Dro().selector_example(other.selector, one)),
                (other.asking.rewriter.model, Dro().rewriter_example(other.asking.rewriter, one)),
            )
            if sample.path is not None and (sample.permutation or model is not other.selector.model)
        ]
        assert log_p == pytest.approx(sum(values), abs=1e-3)


@pytest.mark.parametrize(
    "make", [lambda: first_rag(2), path_rag], ids=["a query first", "the question first"]
)
def test_by_the_retrievers_rank_rounds_are_read_in_turn(make: Callable[[], Rag]) -> None:
    """Whatever other paths of the question found: alone a path is read as it is among the others."""
    rag = make()
    rag.generator.order = "retriever"
    weighted, apart = drawn(rag, samples=60), 0
    passages = weighted.task.candidates.passages
    for sample in weighted.samples:
        path = sample.path
        assert path is not None
        ranked = [one.candidates.passages[i] for one in path.rounds for i in sorted(one.permutation)]
        z = rag.generator.ordered(sample.permutation, path)
        assert [passages[i] for i in z] == ranked
        apart += z != tuple(sorted(sample.permutation))
        whole, (alone,) = pooled(TASK, [path])
        assert [whole.candidates.passages[i] for i in rag.generator.ordered(alone, path)] == ranked
        (log_p,) = log_probs(
            rag.generator.model, [rag.generator.group([Reading(TASK.question, tuple(ranked))])]
        )
        assert sample.log_likelihood == pytest.approx(log_p.item(), abs=1e-3)
    assert apart  # by its place among all that was found another order would be read
    example = Dro().generator_example(rag.generator, weighted)
    assert sum(example.weights) == pytest.approx(1)


@pytest.mark.parametrize("stop", [False, True])
def test_more_candidates_than_are_read_at_once_are_selected_from_before_a_question_is_asked_again(
    stop: bool,
) -> None:
    rag = path_rag(stop=stop)
    assert rag.asking is not None and rag.selector.n == 6
    many = tuple(replace(PASSAGES[i % 6], id=f"{i}") for i in range(15))
    task = Task(TASK.question, Candidates("q", many))
    (prediction,) = rag.predict([task])
    path = prediction.selection.path
    assert path is not None and path.rounds[0].candidates.passages == many
    ((final, alive),) = last_round(rag.selector.in_round(1), [task], 9999)
    (best,) = rag.selector.in_round(1).greedy([final], 9999)
    assert path.rounds[0].permutation == tuple(alive[i] for i in best.permutation) and len(alive) <= 6
    (log_p,) = rag.selector.in_round(1).log_prob(final, [best.permutation], 9999)
    assert path.rounds[0].log_list == pytest.approx(log_p, abs=1e-4)
    probabilities = prediction.selection.probabilities
    assert probabilities is not None and len(probabilities) == len(prediction.selected)
