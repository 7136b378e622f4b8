"""The multi-level loss: how far the model's scores of lists are from their labels, as distributions.

In: vectors of questions and of n passages each, the best first, and labels. Both matrices, [questions, n],
are read as samples of an n-dimensional normal distribution, and the loss is their squared 2-Wasserstein
distance

    |mu_s - mu_y|^2 + tr(C_s) + tr(C_y) - 2 tr((C_s^1/2 C_y C_s^1/2)^1/2)

(Esfandiarpoor et al. 2025, "Beyond contrastive learning", arXiv 2503.23239, compare whole lists of graded
passages so). A row of scores is the softmax over its n passages, a row of labels is made to sum to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class WassersteinLoss(nn.Module):
    """Of a sentence-transformers bi-encoder; columns are the question and its passages, the best first."""

    def __init__(self, model: Any, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(
        self, sentence_features: Iterable[MutableMapping[str, Any]], labels: Float[Tensor, "questions n"]
    ) -> Float[Tensor, ""]:
        """The loss of a batch; `scale` multiplies the cosines before the softmax."""
        vectors = [
            nn.functional.normalize(self.model(features)["sentence_embedding"], dim=-1)
            for features in sentence_features
        ]
        cosines = torch.einsum("qw,nqw->qn", vectors[0], torch.stack(vectors[1:]))
        scores = torch.softmax(self.scale * cosines, dim=-1)
        return squared_distance(scores, labels / labels.sum(dim=-1, keepdim=True))


def squared_distance(
    first: Float[Tensor, "samples n"], second: Float[Tensor, "samples n"]
) -> Float[Tensor, ""]:
    """W2² of the normal distributions that have the means and (population) covariances of two samples.

    With centred samples A and B over the square root of their number, C = AᵀA, and the last trace is the sum
    of the singular values of A Bᵀ: no square root of a matrix has to be taken.
    """
    root = float(len(first)) ** 0.5
    a, b = (first - first.mean(dim=0)) / root, (second - second.mean(dim=0)) / root
    means = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    shared = torch.linalg.svdvals(a @ b.T).sum()
    distance: Tensor = means + a.square().sum() + b.square().sum() - 2 * shared
    return distance
