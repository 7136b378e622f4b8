"""Lists drawn as a tree, where what they have in common is computed once, against whole sequences."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from ragdro.config import LoraAdapter
from ragdro.lm.adapters import with_adapter
from ragdro.lm.decoding import BranchDecoder, SeparateDecoder
from ragdro.lm.model import LanguageModel
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.selection.list_selector import ListSelector
from tests.conftest import byte_level, random_model
from tests.unit.selection.test_selector import task

UNIFORM = 1e9
"""A temperature at which every choice that is left is as likely as another."""


def adapted(base: LanguageModel, role: str) -> LanguageModel:
    """With an adapter that changes what the model says."""
    model = with_adapter(base, role, LoraAdapter(rank=2, alpha=8.0), seed=0)
    with torch.no_grad():
        for name, parameter in model.hf.named_parameters():
            if f"lora_B.{role}" in name:
                parameter.normal_(std=0.3)
    return model


def made(kind: str, k: int, n: int) -> ListSelector:
    model = random_model(byte_level())
    if kind == "float64":
        model.hf.double()
    if kind == "bfloat16":
        model.autocast = torch.bfloat16
    if kind in ("lora", "shared"):
        model = adapted(model, "selector")
    if kind == "shared":  # the other role's adapter lies on the same weights
        adapted(model, "generator")
    return ListSelector(model, load_template("tiny-selector"), k=k, n=n, budget=Budget(20, 20))


def log_p(chooser: ListSelector, z: tuple[int, ...], count: int) -> float:
    """log p(z|x) from one plain forward pass of the whole sequence."""
    sequence = chooser.scored(task(count), z)
    with chooser.model.precision(), torch.no_grad():
        logits = chooser.model.hf(input_ids=torch.from_numpy(sequence.tokens)[None]).logits[0].double()
    total = 0.0
    for target, allowed in zip(sequence.targets, sequence.allowed or (), strict=True):
        row = logits[target - 1, torch.from_numpy(allowed)].log_softmax(-1)
        total += float(row[int(np.flatnonzero(allowed == sequence.tokens[target])[0])])
    return total


def test_all_lists_are_drawn_with_their_enumerated_probability() -> None:
    """Numbers at the middle of every choice's interval: each of the 60 lists once. float64."""
    chooser, lists = made("float64", 3, 5), list(permutations(range(5), 3))
    numbers = [
        [(a + 0.5) / 5, (b + 0.5) / 4, (c + 0.5) / 3] for a in range(5) for b in range(4) for c in range(3)
    ]
    (drawn,) = chooser.sample([task(5)], [np.array(numbers)], temperature=UNIFORM, max_tokens=10_000)
    assert [d.permutation for d in drawn] == lists
    assert [d.log_prior for d in drawn] == pytest.approx([log_p(chooser, z, 5) for z in lists], abs=2e-6)
    assert [d.log_proposal for d in drawn] == pytest.approx([-np.log(60)] * 60, abs=1e-6)
    assert sum(np.exp(d.log_prior) for d in drawn) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", ["float32", "float64", "lora", "shared", "bfloat16"])
@pytest.mark.parametrize("n", [5, 12])
def test_the_lists_and_their_probabilities_are_those_of_separate_sequences(kind: str, n: int) -> None:
    """From the same random numbers, two questions beside each other, 40 lists each."""
    chooser, tasks = made(kind, 3, n), [task(n), task(4, "Zorba is based in Freedonia, near the sea.")]
    numbers = [np.random.default_rng(i).random((40, chooser.choices_per_list)) for i in range(2)]
    tree, textbook = (
        chooser.sample(tasks, numbers, temperature=1.0, max_tokens=10_000, decoder=decoder)
        for decoder in (BranchDecoder, SeparateDecoder)
    )
    rounding = 0.15 if kind == "bfloat16" else 1e-4
    same = 0
    for ours, theirs in zip(tree, textbook, strict=True):
        by_list = {d.permutation: d for d in ours}
        assert len(by_list) > 5
        for one, other in zip(ours, theirs, strict=True):
            assert one.log_prior == pytest.approx(by_list[one.permutation].log_prior, abs=1e-6)  # one state
            assert one.log_proposal == pytest.approx(one.log_prior, abs=1e-9)
            if one.permutation == other.permutation:
                same += 1
                assert one.log_prior == pytest.approx(other.log_prior, abs=rounding)
    assert same == 80 if kind != "bfloat16" else same >= 72
