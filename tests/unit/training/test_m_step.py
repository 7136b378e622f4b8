"""What an update waits for: nothing a micro-batch, and not for what the next one needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ragdro.algorithms.examples import TrainingExample
from ragdro.config import Optimisation
from ragdro.lm.scoring import SequenceGroup
from ragdro.lm.tree import ScoredSequence
from ragdro.training.m_step import FitObserver, Update, fit
from ragdro.training.prefetch import prefetched
from tests.conftest import byte_level, random_model

READS = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default"}
"""Operations whose result the host has to see before it can go on (`float(x)`, `bool(x)`, `x[mask]`)."""


class _Reads(TorchDispatchMode):
    """Counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(func) in READS
        return func(*args, **(kwargs or {}))


@contextmanager
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Reads]:
    """Of tensors, by operations and by the methods that are none on a CPU."""
    with _Reads() as counted, monkeypatch.context() as patch:
        for name in ("tolist", "cpu", "numpy"):
            method = getattr(torch.Tensor, name)

            def seen(tensor: torch.Tensor, *rest: Any, method: Any = method) -> Any:
                counted.count += 1
                return method(tensor, *rest)

            patch.setattr(torch.Tensor, name, seen)
        yield counted


def question(i: int) -> TrainingExample:
    rng = np.random.default_rng(i)
    tokens = [np.concatenate([np.arange(5, 25), rng.integers(5, 300, 8)]) for _ in range(2)]
    group = SequenceGroup.of([ScoredSequence(t, np.arange(20, 28)) for t in tokens])
    return TrainingExample(f"q{i}", group, (0.6, 0.4))


class _Updates(FitObserver):
    def __init__(self, counted: _Reads) -> None:
        self.counted, self.reads, self.losses = counted, [0], list[float]()

    def taken(self, update: Update, optimiser: Any) -> None:
        self.reads.append(self.counted.count)
        self.losses.append(update.loss)


def test_an_update_is_read_once_however_many_micro_batches_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss and its gradient's norm; both are read behind the last backward pass."""
    found = {}
    for micro_batches, max_tokens in ((1, 9999), (8, 1)):
        model = random_model(byte_level(), initializer_range=0.05)
        fit(model, 8, question, Optimisation(learning_rate=1e-5, batch_size=8), np.random.default_rng(0))
        model.shares_prefixes = True  # whether that is so is looked at with numbers, once
        passes, hidden = [], type(model).tree_hidden
        monkeypatch.setattr(type(model), "tree_hidden", lambda *a, h=hidden, p=passes: p.append(1) or h(*a))
        settings = Optimisation(
            learning_rate=1e-5, batch_size=8, epochs=3, max_tokens_per_micro_batch=max_tokens
        )
        with reads(monkeypatch) as counted:
            seen = _Updates(counted)
            fit(model, 8, question, settings, np.random.default_rng(0), seen)
        monkeypatch.setattr(type(model), "tree_hidden", hidden)
        assert len(passes) == 3 * micro_batches
        found[micro_batches] = np.diff(seen.reads).tolist(), seen.losses
    assert found[1][0][1:] == found[8][0][1:] == [2, 2]
    assert found[1][1] == pytest.approx(found[8][1], rel=1e-4)


class _Resumed(FitObserver):
    def __init__(self, begun: int) -> None:
        self.begun = begun

    def begin(self, optimiser: Any) -> int:
        return self.begun


def test_builders_take_turns_by_the_update_also_in_a_fit_that_resumes() -> None:
    model = random_model(byte_level(), initializer_range=0.05)

    def built(begun: int) -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []

        def build(name: str, i: int) -> TrainingExample:
            seen.append((name, i))
            return question(i)

        builds = [partial(build, name) for name in "ab"]
        settings = Optimisation(learning_rate=1e-5, batch_size=2, epochs=2)
        fit(model, 5, builds, settings, np.random.default_rng(0), _Resumed(begun))
        return seen

    whole = built(0)
    assert [name for name, _ in whole] == list("aabb" * 2 + "aa")
    assert len({i for _, i in whole[:5]}) == 5
    assert built(3) == whole[6:]


@pytest.mark.parametrize(("questions", "batch_size"), [(3, 8), (3, 3), (6, 4)])
def test_an_epoch_sees_every_question_once_also_where_an_update_has_them_all(
    questions: int, batch_size: int
) -> None:
    model, seen = random_model(byte_level(), initializer_range=0.05), list[int]()

    def build(i: int) -> TrainingExample:
        seen.append(i)
        return question(i)

    settings = Optimisation(learning_rate=1e-5, batch_size=batch_size, epochs=4)
    fit(model, questions, build, settings, np.random.default_rng(0))
    assert np.bincount(seen).tolist() == [4] * questions


def test_a_fit_builds_the_next_update_in_a_thread_while_this_one_computes_and_no_more() -> None:
    model, built, second = random_model(byte_level(), initializer_range=0.05), [0], threading.Event()

    def build(i: int) -> TrainingExample:
        assert threading.current_thread() is not threading.main_thread()
        built[0] += 1
        if built[0] == 4:
            second.set()
        return question(i)

    class Waits(FitObserver):
        updates = 0

        def computing(self) -> AbstractContextManager[None]:
            assert second.wait(30)  # the first update, of two questions, ends behind the next one's
            return nullcontext()

        def taken(self, update: Update, optimiser: Any) -> None:
            self.updates += 1
            assert built[0] <= 2 * (self.updates + 1)

    settings, seen = Optimisation(learning_rate=1e-5, batch_size=2, epochs=3), Waits()
    fit(model, 4, build, settings, np.random.default_rng(0), seen)
    assert seen.updates == 6 and built == [12]


def test_the_next_is_made_while_one_is_worked_on_and_no_more() -> None:
    made, allowed = list[int](), threading.Event()

    def make(i: int) -> int:
        if i == 1:
            assert allowed.wait(30)  # until the first is being worked on
        made.append(i)
        return 10 * i

    items, given = prefetched(range(4), make), []
    for item, value in items:
        allowed.set()
        given.append((item, value))
        assert len(made) <= item + 2
    assert given == [(0, 0), (1, 10), (2, 20), (3, 30)] and made == [0, 1, 2, 3]
    assert list(prefetched([], make)) == []


def test_what_making_raises_comes_when_its_turn_has_come() -> None:
    def make(i: int) -> int:
        if i == 2:
            raise ValueError("the third")
        return i

    given = []
    with pytest.raises(ValueError, match="the third"):
        for _, value in prefetched(range(4), make):
            given.append(value)
    assert given == [0, 1]
