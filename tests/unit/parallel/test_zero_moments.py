"""Moments that ZeRO has in parts: those of a plain optimiser, saved and restored as it saves its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import AdamW, Optimizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from ragdro.errors import TrainingError
from ragdro.parallel import zero
from ragdro.parallel.sharding import own_parts
from ragdro.parallel.tensors import (
    SavedTensors,
    begin_writing,
    optimiser_tensors,
    restore_optimiser,
    written,
)
from ragdro.parallel.world import balanced, own_group
from ragdro.parallel.zero import Zero
from tests.unit.parallel.ranks import on_two_ranks

needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
KINDS = ("plain", "zero2", "zero3")
ODD = {"vocab_size": 51, "hidden_size": 27, "intermediate_size": 31, "num_hidden_layers": 2}
"""Parameters of odd numbers of weights, which no two processes have equal parts of."""


def start() -> PreTrainedModel:
    """The same model each time."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**ODD, num_attention_heads=3, num_key_value_heads=1, head_dim=4))


class Fit:
    """A fit of `hf` under one of `KINDS`."""

    def __init__(self, kind: str, hf: PreTrainedModel) -> None:
        self.hf = hf
        self.optimiser: Optimizer | Zero = AdamW(self.hf.parameters(), lr=1e-2, weight_decay=0.1, fused=True)
        if kind != "plain":
            self.optimiser = Zero(self.hf, self.optimiser, int(kind[-1]), 0.5)

    def update(self, number: int) -> None:
        """Each process has a sequence of its own, and the loss is their sum."""
        ids = torch.randint(51, (2, 9), generator=torch.Generator().manual_seed(number))

        def loss(row: int) -> Tensor:
            return self.hf(ids[row : row + 1]).logits.logsumexp(-1).square().sum()

        if isinstance(self.optimiser, Zero):
            self.optimiser.backward(partial(loss, dist.get_rank()), last=True)
            self.optimiser.step()
            return
        (loss(0) + loss(1)).backward()
        torch.nn.utils.clip_grad_norm_(self.hf.parameters(), 0.5)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def moments(self) -> dict[str, Tensor]:
        if isinstance(self.optimiser, Zero):
            return self.optimiser.own_moments()
        return own_parts(optimiser_tensors(self.optimiser))

    def restore(self, folder: Path) -> None:
        saved = SavedTensors({folder: ""})
        if isinstance(self.optimiser, Zero):
            self.optimiser.restore(saved.kinds, saved.read_into)
        else:
            restore_optimiser(self.optimiser, saved.kinds, saved.read_into)

    def weights(self) -> dict[str, Tensor]:
        """Whole, in the middle of the fit: what each process saves, of all."""
        return together(own_parts(dict(self.hf.named_parameters())))


def together(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """What all processes have, each of the tensors in one of them."""
    rank_moments: list[Any] = [None, None]
    dist.all_gather_object(rank_moments, parts)
    assert not rank_moments[0].keys() & rank_moments[1].keys()
    return rank_moments[0] | rank_moments[1]


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys() and one
    return max(float((one[key] - other[key]).abs().max()) for key in one)


def crossed(folder: Path) -> dict[str, Any]:
    """Two updates under each kind, saved; a third one under each from what each saved."""
    truth, group, said = Fit("plain", start()), own_group(), {}
    for number in range(2):
        truth.update(number)
    second, moments = truth.weights(), together(truth.moments())
    truth.update(2)
    fits = {kind: Fit(kind, start()) for kind in KINDS}
    for kind, fit in fits.items():
        none = fit.moments()
        for number in range(2):
            fit.update(number)
        own, weights = fit.moments(), fit.weights()
        numbers = sum(t.numel() for t in own.values())
        written(folder / kind, begin_writing(folder / kind, own, group))
        dist.barrier()
        said[kind] = {
            "none": len(none),
            "moments": furthest(together(own), moments),
            "weights": furthest(weights, second),
            "fraction": numbers / sum(t.numel() for t in moments.values()),
        }
        fit.update(2)  # saving has not moved anything
        said[kind]["third"] = furthest(fit.weights(), truth.weights())
    for kind, other in itertools.product(KINDS, KINDS):
        moved = start()
        moved.load_state_dict(second, strict=False)
        fit = Fit(other, moved)
        fit.restore(folder / kind)
        kept = {k: t.clone() for k, t in together(fit.moments()).items()}
        saved = SavedTensors({folder / kind: ""}).whole()
        fit.update(2)
        said[f"{kind} to {other}"] = {
            "moments": furthest(kept, saved),
            "third": furthest(fit.weights(), truth.weights()),
        }
    return said


@needs_deepspeed
@pytest.mark.slow
def test_moments_of_two_processes_are_those_of_one_and_go_from_each_kind_to_each(tmp_path: Path) -> None:
    (tmp_path / "crossed").mkdir()
    first, second = on_two_ranks({"crossed": crossed}, tmp_path)["crossed"]
    for kind in KINDS:
        for said in (first[kind], second[kind]):
            assert said["none"] == 0
            assert said["moments"] < 1e-5 and said["weights"] < 1e-5 and said["third"] < 1e-5, (kind, said)
            assert said["fraction"] == pytest.approx(0.5, abs=0.05)  # each process saves about half
        for other in KINDS:
            for said in (first[f"{kind} to {other}"], second[f"{kind} to {other}"]):
                assert said["moments"] == 0.0  # not one bit of them is lost
                assert said["third"] < 1e-5, (kind, other, said)


def refused(folder: Path) -> dict[str, Any]:
    """Moments of which one parameter's took part in fewer updates, and of which one has none."""
    said = {}
    for stage, count in ((2, 1.0), (3, None)):
        fit = Fit(f"zero{stage}", start())
        counts = {f"{i}.step": 2.0 for i in range(len(list(start().parameters())))} | {"3.step": count}
        there = {key: value for key, value in counts.items() if value is not None}
        saved = {key: (torch.Size(()), torch.float32) for key in there}

        def read(tensors: Mapping[str, Tensor], there: dict[str, float] = there) -> None:
            for key, tensor in tensors.items():
                tensor.fill_(there[key])

        assert isinstance(fit.optimiser, Zero)
        try:
            fit.optimiser.restore(saved, read)
        except TrainingError as error:
            said[str(stage)] = str(error)
    return said


@needs_deepspeed
@pytest.mark.slow
def test_parameters_that_were_moved_unequally_often_are_refused(tmp_path: Path) -> None:
    (tmp_path / "refused").mkdir()
    for said in on_two_ranks({"refused": refused}, tmp_path)["refused"]:
        for stage in ("2", "3"):
            assert said[stage] == (
                f"parallel.strategy: deepspeed-zero{stage} counts the updates of all parameters together, and"
                " in the saved state some were moved more often than others; resume with ddp or fsdp2"
            )


@pytest.mark.parametrize(
    ("sizes", "expected"), [([5, 1, 1, 1, 4], [0, 1, 0, 1, 1]), ([2, 2, 2, 2], [0, 1, 0, 1]), ([], [])]
)
def test_the_largest_left_is_saved_by_the_process_that_has_least_to_save(
    sizes: list[int], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragdro.parallel.world.world_size", lambda: 2)
    assert zero.savers([torch.zeros(size) for size in sizes]) == expected


def test_what_the_first_has_already_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragdro.parallel.world.world_size", lambda: 3)
    assert balanced([3, 1, 2, 4], 5) == [2, 1, 2, 1]
