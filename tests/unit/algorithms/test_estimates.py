"""The public weights and bound, against sums written out."""

from __future__ import annotations

import math

import pytest
import torch

import ragdro
from ragdro.errors import DataError

LIKELIHOOD = torch.tensor([[-1.0, -2.0, -4.0], [0.0, -1.0, -1.0]], dtype=torch.float64)
PRIOR = torch.tensor([[-1.0, -1.5, -0.5], [-2.0, -2.0, -0.1]], dtype=torch.float64)
PROPOSAL = torch.tensor([[-0.5, -1.0, -2.0], [-1.0, -3.0, -0.2]], dtype=torch.float64)


def test_weights_and_bound_are_the_normalised_ratios_and_the_log_of_their_mean() -> None:
    for row in range(2):
        raw = [math.exp(float(y + p - q)) for y, p, q in zip(LIKELIHOOD[row], PRIOR[row], PROPOSAL[row])]
        expected = [value / sum(raw) for value in raw]
        found = ragdro.importance_weights(LIKELIHOOD, PRIOR, PROPOSAL)[row]
        assert found.tolist() == pytest.approx(expected)
        alone = ragdro.importance_weights(LIKELIHOOD[row], PRIOR[row], PROPOSAL[row])
        assert alone.tolist() == pytest.approx(expected)
        size = 1 / sum(w * w for w in expected)
        assert float(ragdro.effective_sample_size(alone)) == pytest.approx(size)
        value = math.log(sum(raw) / 3)
        assert float(ragdro.bound(LIKELIHOOD, PRIOR, PROPOSAL)[row]) == pytest.approx(value)
        assert float(ragdro.bound(LIKELIHOOD[row], PRIOR[row], PROPOSAL[row])) == pytest.approx(value)


def test_lists_of_the_selector_itself_need_no_prior() -> None:
    assert torch.allclose(ragdro.importance_weights(LIKELIHOOD), LIKELIHOOD.softmax(1))
    assert ragdro.bound(LIKELIHOOD, PRIOR, PRIOR).tolist() == pytest.approx(ragdro.bound(LIKELIHOOD).tolist())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LIKELIHOOD, PRIOR), "go together"),
        ((LIKELIHOOD, PRIOR, PROPOSAL[:1]), r"log_proposal: is \[1, 3\]"),
        ((torch.tensor([0.0, math.nan]),), "log_likelihood: holds NaN"),
        ((torch.zeros(()),), r"not \[\]"),
        ((torch.zeros(2, 0),), r"not \[2, 0\]"),
    ],
)
def test_what_is_no_sample_is_refused(arguments: tuple[torch.Tensor, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ragdro.importance_weights(*arguments)
