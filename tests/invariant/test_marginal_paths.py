"""Answers over paths against full enumeration in float64: queries and lists of two rounds, and thoughts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from ragdro.config import Answering
from ragdro.config.retrieval import Retrieval
from ragdro.errors import ConfigError
from ragdro.evaluation.metrics import normalise
from ragdro.generation.reading import Reading
from ragdro.latent import latents
from ragdro.marginal import _thought_of
from ragdro.rewriting.drawing import weighted_paths
from ragdro.selection import tournament
from ragdro.system import Rag
from ragdro.types import Candidates, Passage, QuestionPath, Task
from tests.invariant.by_hand import textbook_all
from tests.invariant.path_world import PASSAGES, TASK, choices_of, exact, path_rag, read_of

TOKENS = 10_000


def short_rag(think: int = 0) -> Rag:
    """Answers are scored by three tokens: of longer ones a few readings have nearly all the probability."""
    rag = path_rag(think=think)
    rag.generator.answer_tokens = 3
    return rag


def likelihoods(rag: Rag, readings: list[Reading], answer: str) -> Tensor:
    """p(y|x,d,r) of an answer behind each reading, by plain forward passes in float64."""
    reader = rag.generator.model.hf.double()
    with torch.no_grad():
        values = textbook_all(reader, [rag.generator.scored(one, answer) for one in readings])
    rag.generator.model.hf.float()
    return values.exp()


@cache
def truth(answer: str) -> tuple[float, float]:
    """Mean and spread over paths h ~ p(h|x) of p(y|x,read(h)), over all paths: the mean is p(y|x)."""
    known = exact()
    readings = {read_of(path): Reading(TASK.question, read_of(path)) for path in known.paths}
    of_reading = dict(zip(readings, likelihoods(short_rag(), [*readings.values()], answer), strict=True))
    each = torch.stack([of_reading[read_of(path)] for path in known.paths])
    mean = float(known.prior.exp() @ each)
    return mean, float(known.prior.exp() @ (each - mean).square()) ** 0.5


def competing(rag: Rag, how: Answering) -> dict[str, list[str]]:
    """The greedy answers of what is summed over, distinct in tokens, by what the metric makes of them."""
    ((one),) = latents(rag.selector, rag.asking, [TASK], how, TOKENS)
    readings = [Reading.of(one.task, z) for z in dict.fromkeys(one.readings(rag.generator))]
    written = rag.generator.answer_many(readings, TOKENS)
    distinct = {tuple(rag.generator.answer_ids(TASK.question, answer)): answer for answer in written[::-1]}
    alike: dict[str, list[str]] = {}
    for answer in distinct.values():
        alike.setdefault(normalise(answer), []).append(answer)
    return alike


def test_drawn_paths_converge_to_the_sum_over_all() -> None:
    rag, errors = short_rag(), dict[int, float]()
    for samples in (4, 64):
        squares = list[float]()
        for seed in range(8):
            how = Answering(kind="marginal", samples=samples, seed=seed)
            (prediction,) = rag.predict([TASK], answering=how)
            known, alike = prediction.distribution, competing(rag, how)
            assert known is not None and known.lists == samples and not known.exact
            assert {normalise(answer.answer) for answer in known.answers} == set(alike)
            assert sum(answer.agreement for answer in known.answers) == pytest.approx(1, abs=1e-6)
            exactly = [truth(text) for text in alike[normalise(prediction.answer)]]
            probability, spread = (sum(values) for values in zip(*exactly, strict=True))
            assert abs(known.confidence - probability) < 4 * spread / samples**0.5
            squares.append((known.confidence / probability - 1) ** 2)
        errors[samples] = float(np.mean(squares)) ** 0.5
    assert errors[64] < errors[4] and errors[64] < 0.2  # each is about spread / probability / m^(1/2)


def test_the_weights_estimate_a_sum_over_all_paths_without_bias() -> None:
    rag, known = path_rag(), exact()
    assert rag.asking is not None
    value = {path: float((3 * path[0][0] + 5 * path[1] + 7 * sum(path[2])) % 11) for path in known.paths}
    expected = sum(float(p.exp()) * value[path] for p, path in zip(known.prior, known.paths, strict=True))
    estimates = []
    for seed in range(50):
        ((task, paths),) = weighted_paths(rag.asking, rag.selector, [TASK], 6, seed, TOKENS)
        assert sum(z.weight for z in paths.lists) == pytest.approx(1) and paths.count == 6
        greedy, *others = paths.lists
        assert others and greedy.weight == pytest.approx(np.exp(greedy.log_prior), rel=1e-5)
        for z in paths.lists:
            assert z.path is not None
            read = tuple(task.candidates.passages[i] for i in z.permutation)
            assert read == z.path.read == read_of(choices_of(z.path))
            assert z.log_prior == pytest.approx(log_prior(z.path), abs=1e-3)
        estimates.append(sum(z.weight * value[choices_of(z.path)] for z in paths.lists if z.path is not None))
    error = float(np.std(estimates)) / len(estimates) ** 0.5
    assert 0.01 < error < 0.3 and abs(float(np.mean(estimates)) - expected) < 3 * error


def log_prior(path: QuestionPath) -> float:
    """log p(h|x) by the enumeration, in which all words that find alike are one."""
    known, (z, kind, second) = exact(), choices_of(path)
    at = known.paths.index((z, kind, second))
    alike = [p for p, other in zip(known.prior, known.paths, strict=True) if other[:2] == (z, kind)]
    firsts = [p for p, other in zip(known.prior, known.paths, strict=True) if other[0] == z]
    of_first, of_kind = torch.stack(firsts).logsumexp(0), torch.stack(alike).logsumexp(0)
    word = known.words[z][path.rounds[1].tokens[0]]
    return float(of_first + word + known.prior[at] - of_kind)


def test_a_joint_answer_is_of_the_likeliest_pair_of_a_path_and_its_answer() -> None:
    rag, how = path_rag(), Answering(kind="joint", samples=30)
    ((one),) = latents(rag.selector, rag.asking, [TASK], how, TOKENS)
    readings = [Reading.of(one.task, z.permutation) for z in one.lists.lists]
    answers = rag.generator.answer_many(readings, TOKENS)
    own = [float(likelihoods(rag, [r], a).log()) for r, a in zip(readings, answers, strict=True)]
    totals = [z.log_prior + log_p for z, log_p in zip(one.lists.lists, own, strict=True)]
    best = int(np.argmax(totals))
    (prediction,) = rag.predict([TASK], answering=how)
    path = one.lists.lists[best].path
    assert path is not None and prediction.selection.path is not None
    assert prediction.selection.path.decisions == path.decisions and prediction.answer == answers[best]
    (greedy,) = rag.select([TASK])
    assert greedy.path is not None and path.decisions != greedy.path.decisions
    assert totals[best] > totals[0] + 0.1
    assert [p.id for p in prediction.selected] == [p.id for p in path.read]
    probabilities = prediction.selection.probabilities
    assert probabilities is not None and len(probabilities) == len(prediction.selection.permutation)
    of_lists = sum(r.log_list for r in path.rounds)
    assert float(np.log(probabilities).sum()) >= of_lists - 1e-3  # an early end is not among the places


def test_thoughts_of_drawn_paths_converge_to_the_sum_over_all_thoughts() -> None:
    """Of one token a thought is any word: sum_h w(h) sum_r p(r|read(h)) p(y|read(h),r), in float64."""
    rag, how = short_rag(think=1), Answering(kind="marginal", samples=6, thoughts=200)
    (prediction,) = rag.predict([TASK], answering=how)
    ((one),) = latents(rag.selector, rag.asking, [TASK], how, TOKENS)
    weights = dict.fromkeys(one.readings(rag.generator), 0.0)
    for z, read in zip(one.lists.lists, one.readings(rag.generator), strict=True):
        weights[read] += z.weight
    mean, variance, fine = 0.0, 0.0, np.linspace(0, 1, 4001)[:-1, None]
    for read, weight in weights.items():
        reading = Reading.of(one.task, read)
        (drawn,) = rag.generator.sample_thoughts([reading], [fine], TOKENS)
        thoughts = list({thought.tokens: thought for thought in drawn}.values())
        prompt = torch.from_numpy(rag.generator.prompt(reading))[None]
        with torch.no_grad():
            words = rag.generator.model.hf.double()(input_ids=prompt).logits[0, -1].softmax(-1)
        rag.generator.model.hf.float()
        p = words[[thought.tokens[0] for thought in thoughts]]
        assert float(p.sum()) == pytest.approx(1, abs=1e-6)
        own = likelihoods(rag, [replace(reading, thought=thought) for thought in thoughts], prediction.answer)
        expected = float(p @ own)
        mean += weight * expected
        variance += weight**2 * float(p @ (own - expected).square()) / how.thoughts
    assert prediction.distribution is not None and len(weights) > 1
    assert prediction.distribution.thoughts == how.thoughts and prediction.thought is not None
    readings = [Reading.of(one.task, read) for read in weights]
    (drawn_thoughts,) = _thought_of(rag.generator, [readings], how, TOKENS)
    of_drawn = likelihoods(rag, drawn_thoughts, prediction.answer).reshape(len(weights), -1).mean(1)
    by_hand = sum(w * float(p) for w, p in zip(weights.values(), of_drawn, strict=True))
    assert prediction.distribution.confidence == pytest.approx(by_hand, rel=1e-3)
    assert abs(float(of_drawn.mean()) - by_hand) > 0.005 * by_hand  # each reading has its own weight
    assert 0 < variance**0.5 < 0.1 * mean
    assert abs(prediction.distribution.confidence - mean) < 3 * variance**0.5


@pytest.mark.parametrize("kind", ["marginal", "joint"])
@pytest.mark.parametrize("first", [False, True], ids=["asked first", "written first"])
def test_more_passages_than_the_selector_reads_may_be_given(kind: str, first: bool) -> None:
    """The first list is then of a tournament's last round; what is written finds passages of its own."""
    rag = path_rag(retrieval=Retrieval(rounds=2, stop=True, rewrite_first=first))
    more = tuple(Passage(f"more {i}", "", "the mill") for i in range(5))
    given = Task(TASK.question, Candidates("q", (*more, *PASSAGES)), given=True)
    for task, rounds in ((given, 2), (TASK, 2)):
        how = Answering(kind=kind, samples=12)  # type: ignore[arg-type]
        (prediction,) = rag.predict([task], answering=how)
        path = prediction.selection.path
        assert path is not None and 1 <= len(path.rounds) <= rounds
        written = first and task is TASK
        assert bool(path.rounds[0].tokens) is written
        assert written or path.rounds[0].candidates == task.candidates
        probabilities = prediction.selection.probabilities
        assert probabilities is not None and len(probabilities) == len(prediction.selected)
        assert all(0 < p <= 1 for p in probabilities)
        assert [p.id for p in prediction.selected] == [p.id for p in path.read]
        again = rag.predict([replace(TASK), task], answering=how)[1]
        assert again.selection.path is not None and again.selection.path.decisions == path.decisions


def test_a_path_is_measured_among_those_that_its_tournament_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a second tournament would leave, where rounding decides a near tie otherwise."""
    rag = path_rag()
    more = tuple(Passage(f"more {i}", "", "the mill") for i in range(5))
    task = Task(TASK.question, Candidates("q", (*more, *PASSAGES)), given=True)
    (greedy,) = rag.asking.greedy(rag.selector, [task], TOKENS)
    assert greedy.path is not None and greedy.path.rounds[0].finalists is not None
    assert set(greedy.path.rounds[0].permutation) <= set(greedy.path.rounds[0].finalists)
    monkeypatch.setattr(tournament, "last_round", None)
    ((whole, again),) = rag.asking.selections(rag.selector, [(task, greedy.path)], TOKENS)
    assert again.permutation == greedy.permutation and again.path == greedy.path
    assert again.probabilities == pytest.approx(greedy.probabilities, rel=1e-4)
    assert [whole.candidates.passages[i].id for i in again.permutation] == [p.id for p in greedy.path.read]


def test_what_a_path_reads_by_the_retrievers_rank_is_one_reading() -> None:
    rag = path_rag()
    rag.generator.order = "retriever"
    how = Answering(kind="marginal", samples=60)
    ((one),) = latents(rag.selector, rag.asking, [TASK], how, TOKENS)
    read, ranked = {z.permutation for z in one.lists.lists}, set(one.readings(rag.generator))
    assert len(ranked) < len(read)
    (prediction,) = rag.predict([TASK], answering=how)
    assert prediction.distribution is not None and 0 < prediction.distribution.confidence < 1


def test_without_a_selector_nothing_is_asked() -> None:
    (prediction,) = path_rag().predict([TASK], select=False, answering=Answering(kind="marginal"))
    assert prediction.selection.permutation == (0, 1, 2, 3) and prediction.selection.path is None
    assert prediction.distribution is not None and prediction.distribution.lists == 1


def test_there_is_no_union_of_paths() -> None:
    with pytest.raises(ConfigError, match="answering: union takes the lists of one retrieval"):
        path_rag().predict([TASK], answering="union")
