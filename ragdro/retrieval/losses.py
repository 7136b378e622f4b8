"""The losses of a bi-encoder that sentence-transformers lacks. Both take graded labels.

In: the token ids of a batch of questions and of n passages each (columns: the question, its passages, the
best first), and labels [questions, n]. Out: a number to make small.

    ListwiseLoss     KL(y_i / sum y_i || softmax over all passages of the batch of s_i), a mean over i. With
                     one passage worth anything this is InfoNCE with hard and in-batch negatives. With
                     several it asks for the scores of equal ones to be equal, so it pulls the first down.
    WassersteinLoss  The matrices of scores (softmax over a question's own passages) and of labels (made to
                     sum to 1) are read as samples of n-dimensional normal distributions. Their distance is

        |mu_s - mu_y|^2 + tr(C_s) + tr(C_y) - 2 tr((C_s^1/2 C_y C_s^1/2)^1/2)

                     (multi-level: Esfandiarpoor et al. 2025, "Beyond contrastive learning", arXiv 2503.23239)
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Columns = Iterable[MutableMapping[str, Any]]


class _OfVectors(nn.Module):
    """A loss of the vectors of questions [questions, width] and passages [n, questions, width]."""

    def __init__(self, model: Any, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def _vectors(
        self, columns: Columns
    ) -> tuple[Float[Tensor, "questions width"], Float[Tensor, "n questions width"]]:
        """Of length 1."""
        asked, *read = (
            nn.functional.normalize(self.model(features)["sentence_embedding"], dim=-1)
            for features in columns
        )
        return asked, torch.stack(read)


class ListwiseLoss(_OfVectors):
    """The divergence of the labels' distribution from the model's; `scale` multiplies cosines."""

    def forward(self, sentence_features: Columns, labels: Float[Tensor, "questions n"]) -> Float[Tensor, ""]:
        """The loss of a batch in which no passage occurs twice."""
        asked, read = self._vectors(sentence_features)
        scores = self.scale * torch.einsum("qw,npw->qpn", asked, read)
        targets = torch.diag_embed((labels / labels.sum(dim=-1, keepdim=True)).T).permute(1, 2, 0)
        log_p = torch.log_softmax(scores.flatten(1), dim=-1)
        return nn.functional.kl_div(log_p, targets.flatten(1), reduction="batchmean")


class WassersteinLoss(_OfVectors):
    """How far scores are from labels, as distributions; `scale` multiplies cosines."""

    def forward(self, sentence_features: Columns, labels: Float[Tensor, "questions n"]) -> Float[Tensor, ""]:
        """The loss of a batch."""
        asked, read = self._vectors(sentence_features)
        scores = torch.softmax(self.scale * torch.einsum("qw,nqw->qn", asked, read), dim=-1)
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
