"""Teachers that are models: their orders against plain forward passes and hand calculation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ragdro.algorithms import Dro
from ragdro.config import EStep, Mixture, Optimisation, TrainingSettings, WarmUp
from ragdro.errors import ConfigError
from ragdro.generation.generator import Generator
from ragdro.generation.query_likelihood import TEMPLATE, query_log_likelihoods
from ragdro.lm.snapshot import trained_parameters
from ragdro.prompts.template import Budget
from ragdro.training.callbacks import Callback, Checkpointer
from ragdro.training.em import train
from ragdro.training.parts import TrainingParts
from ragdro.training.proposals import log_plackett_luce, log_proposals, proposals
from ragdro.training.teachers import fused, model_orders, teacher_permutation
from ragdro.types import Permutation, WeightedTask
from tests.conftest import byte_level, random_model
from tests.worlds import pocket_rag, pocket_tasks


def plain(generator: Generator, question: str, title: str, text: str) -> float:
    """log p(question | passage) token by token through the model's own head."""
    prompt = TEMPLATE.user.replace("{passages}", f"{title}\n{text}\n")
    tokens = generator.model.tokenizer.data(prompt)
    total = 0.0
    for token in generator.model.tokenizer.data(f" {question}"):
        logits = generator.model.hf(input_ids=torch.tensor([tokens])).logits[0, -1].double()
        total += float((logits[token] - logits.logsumexp(0)).detach())
        tokens.append(token)
    return total


def test_query_likelihood_is_that_of_a_plain_forward_pass() -> None:
    rag, tasks = pocket_rag(), pocket_tasks(3, 4)
    found = query_log_likelihoods(rag.generator, tasks, 400)
    for task, values in zip(tasks, found, strict=True):
        expected = [
            plain(rag.generator, task.question.question, p.title, p.text) for p in task.candidates.passages
        ]
        assert values == pytest.approx(expected, abs=2e-3)
    orders = model_orders(rag.generator, tasks, WarmUp(teacher="query-likelihood"), 100_000)
    assert orders == [tuple(np.argsort(-np.array(values)).tolist()) for values in found]
    assert any(order != (0, 1, 2, 3) for order in orders)


def test_query_likelihood_is_that_of_a_dialogues_last_turn() -> None:
    rag, (task,) = pocket_rag(), pocket_tasks(1, 4)
    last = "where does Mara Voss work?"
    asked = replace(task.question, question=f"{'who is that? ' * 24}\n{last}")
    (scores,) = query_log_likelihoods(rag.generator, [replace(task, question=asked)], 400)
    expected = [plain(rag.generator, last, p.title, p.text) for p in task.candidates.passages]
    assert scores == pytest.approx(expected, abs=2e-3)


def test_a_passage_that_does_not_fit_is_refused_by_the_key_to_lower() -> None:
    model = random_model(byte_level(), max_position_embeddings=64)
    generator = Generator(model, TEMPLATE, budget=Budget(24, 24), answer_tokens=4)
    with pytest.raises(ConfigError, match=r"generator\.passage_tokens: .*'q0'.* 64 positions"):
        query_log_likelihoods(generator, pocket_tasks(1, 4), 1000)


def test_fused_orders_by_hand() -> None:
    # places 1, 2, 3 of three orders: candidate 1 has 1/61 + 1/61 + 1/63, candidate 0 1/62 + 1/63 + 1/61
    assert fused([(1, 0, 2), (1, 2, 0), (0, 2, 1)]) == (1, 0, 2)
    assert fused([(0, 1), (1, 0)]) == (0, 1)  # a tie goes by the first
    rag, tasks = pocket_rag(), pocket_tasks(3, 4)
    by_likelihood = model_orders(rag.generator, tasks, WarmUp(teacher="query-likelihood"), 100_000)
    both = model_orders(rag.generator, tasks, WarmUp(teacher="fused"), 100_000)
    assert both == [fused([(0, 1, 2, 3), order]) for order in by_likelihood] != by_likelihood


def test_an_encoder_that_nothing_asks_for_is_refused() -> None:
    with pytest.raises(ValidationError, match="encoder: teacher gold takes none"):
        WarmUp(teacher="gold", encoder="some/model")


def test_the_models_order_is_what_is_taught() -> None:
    (task,) = pocket_tasks(1, 4)
    assert teacher_permutation(task, 2, "fused", order=(3, 1, 0, 2)) == (3, 1)
    assert teacher_permutation(task, 2, "fused", stop=True, order=(3, 1, 0, 2)) == (3, 1)


class Events(Callback):
    """How many questions a teacher had ordered."""

    def __init__(self) -> None:
        self.done: list[tuple[int, int]] = []

    def on_teacher(self, done: int, total: int) -> None:
        self.done.append((done, total))


@pytest.mark.parametrize("teacher", ["query-likelihood", "fused"])
def test_a_training_teaches_the_models_order(teacher: str) -> None:
    rag, tasks, events = pocket_rag(), pocket_tasks(4, 5), Events()
    settings = WarmUp.model_validate({"teacher": teacher})
    orders = model_orders(rag.generator, tasks, settings, 100_000)
    fast = Optimisation(learning_rate=1e-2, epochs=40, batch_size=4)
    train(
        rag.selector,
        rag.generator,
        tasks,
        callbacks=[events],
        iterations=0,
        warm_up=WarmUp(teacher=settings.teacher, selector=fast, generator=None),
        e_step=EStep(questions_per_shard=3),
    )
    assert events.done == [(3, 4), (4, 4)]
    assert [s.permutation for s in rag.selector.greedy(tasks, 100_000)] == [order[:2] for order in orders]


class Saved(Checkpointer):
    """Gives a training the orders in `known`, and notes how many questions each save has."""

    def __init__(self, known: Mapping[str, Mapping[str, Sequence[Permutation]]]) -> None:
        super().__init__()
        self.lists, self.sizes = dict(known), list[int]()

    def restore(self, training: TrainingParts) -> None:
        training.history.update(self.lists)

    def save_teacher(self, name: str, lists: Mapping[str, Sequence[Permutation]]) -> None:
        self.lists[name] = dict(lists)
        self.sizes.append(len(lists))


def test_orders_are_saved_once_each_and_a_training_that_resumes_asks_for_the_rest() -> None:
    rag, tasks = pocket_rag(), pocket_tasks(7, 5)
    settings = TrainingSettings(
        warm_up=WarmUp(teacher="query-likelihood", selector=Optimisation(), generator=None),
        iterations=0,
        e_step=EStep(questions_per_shard=2),
    )
    whole = Saved({})
    train(rag.selector, rag.generator, tasks, checkpointer=whole, settings=settings)
    assert whole.sizes == [2, 2, 2, 1]
    rag = pocket_rag()
    begun = Saved(dict(list(whole.lists.items())[:2]))
    train(rag.selector, rag.generator, tasks, checkpointer=begun, settings=settings)
    assert begun.sizes == [2, 1] and begun.lists == whole.lists


def test_no_model_is_asked_where_nothing_goes_by_it() -> None:
    rag, tasks, events = pocket_rag(), pocket_tasks(2, 5), Events()
    nothing = WarmUp(teacher="fused", selector=None, generator=None)
    settings = TrainingSettings(warm_up=nothing, iterations=0)
    train(rag.selector, rag.generator, tasks, callbacks=[events], settings=settings)
    assert events.done == []


def test_a_mixture_draws_by_the_teachers_order_with_its_exact_probability() -> None:
    mixture = Mixture(retriever=0.2, teacher=0.3, uniform=0.1, decay=0.5)
    rag, tasks = pocket_rag(k=2, n=5), pocket_tasks(60, 5)
    order: Permutation = (4, 2, 0, 1, 3)
    orders = {task.question.id: order for task in tasks}
    lists, ranks = list(permutations(range(5), 2)), 0.5 ** np.arange(5.0)
    by_teacher = np.array([ranks[order.index(i)] for i in range(5)])
    counts: Counter[Permutation] = Counter()
    expected, without = np.zeros(len(lists)), np.zeros(len(lists))
    settings = EStep(samples=60, mixture=mixture)
    for task, draws in zip(
        tasks, proposals(Dro(), settings, 0, 1, orders=orders)(rag.selector, tasks), strict=True
    ):
        prior = np.exp(rag.selector.log_prob(task, lists, 10_000))
        q = (
            0.4 * prior
            + 0.2 * np.exp([log_plackett_luce(z, ranks) for z in lists])
            + 0.3 * np.exp([log_plackett_luce(z, by_teacher) for z in lists])
            + 0.1 / 20
        )
        expected += 60 * q
        without += 60 / 0.7 * (q - 0.3 * np.exp([log_plackett_luce(z, by_teacher) for z in lists]))
        counts.update(d.permutation for d in draws)
        assert draws[0].log_proposal == pytest.approx(np.log(q[lists.index(draws[0].permutation)]), abs=1e-4)
        (again,) = log_proposals(
            rag.selector, task, [draws[0].permutation], [draws[0].log_prior], mixture, orders
        )
        assert again == pytest.approx(draws[0].log_proposal, abs=1e-6)
    observed = np.array([counts[z] for z in lists])
    assert ((observed - expected) ** 2 / expected).sum() < 43.8  # 19 degrees, 0.999 quantile
    assert ((observed - without) ** 2 / without).sum() > 100  # not simply by the other components


def test_a_mixture_by_a_teacher_that_reads_the_data() -> None:
    rag, tasks = pocket_rag(), pocket_tasks(2, 5)
    seen: list[Permutation] = []

    class Drawn(Callback):
        def on_e_step(
            self, stage: str, weighted: Sequence[WeightedTask], metrics: Mapping[str, float]
        ) -> None:
            seen.extend(s.permutation for w in weighted for s in w.samples)

    mixture = Mixture(retriever=0.0, teacher=0.99, uniform=0.0, decay=1e-6)
    train(
        rag.selector, rag.generator, tasks, callbacks=[Drawn()], iterations=1,
        warm_up=WarmUp(teacher="gold", selector=None, generator=None), e_step=EStep(mixture=mixture),
    )  # fmt: skip
    assert Counter(seen).most_common(1)[0][0] == (2, 3)


def test_a_mixture_by_the_teacher_changes_nothing_of_the_warm_up() -> None:
    """A pointer is taught the gold passages in every order, whatever the E-step draws by."""

    def warmed_up(step: EStep) -> torch.Tensor:
        rag, fast = pocket_rag(kind="pointer"), Optimisation(learning_rate=1e-3)
        train(
            rag.selector, rag.generator, pocket_tasks(2, 5), iterations=0, e_step=step,
            warm_up=WarmUp(teacher="gold", selector=fast, generator=None),
        )  # fmt: skip
        return torch.cat([p.detach().flatten() for p in trained_parameters(rag.selector.model).values()])

    assert torch.equal(warmed_up(EStep()), warmed_up(EStep(mixture=Mixture(teacher=0.3))))
