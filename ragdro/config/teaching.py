"""How a retriever is trained on labels: the options of `ragdro retriever train`, and of a retriever that the
loop trains on the way. Imports no heavy library."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from ragdro.config.base import Settings
from ragdro.config.changes import Changes

LabelSource: TypeAlias = Literal["posterior", "gold", "distant"]
RetrieverLoss: TypeAlias = Literal["kl", "infonce", "margin", "wasserstein"]


class RetrieverTraining(Settings):
    """What a retriever learns from, by which loss, how long and how fast."""

    labels: LabelSource = Field(
        default="posterior",
        description="what a passage is worth: 'posterior' (the fraction of the weight of the run's lists that"
        " read it), 'gold' (the data's labels) or 'distant' (it holds an answer)",
    )
    loss: RetrieverLoss = Field(
        default="infonce",
        description="'infonce' (one positive, hard and in-batch negatives), 'kl' (list-wise, graded),"
        " 'margin' (differences of labels) or 'wasserstein' (multi-level)",
    )
    epochs: float = Field(default=1.0, gt=0, description="passes over the questions; fractions are fine")
    learning_rate: float = Field(default=2e-5, gt=0, description="peak learning rate, linear to 0")
    batch_size: int = Field(default=16, ge=2, description="questions an update")
    passages: int = Field(
        default=8,
        ge=2,
        description="passages a question is compared with: half the best (infonce: one), the rest negatives",
    )
    likely: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="infonce: passages whose label is at least this are positives; where none is, the best",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=8,
        description="a longer passage is cut to so many tokens while training; null: the model's",
    )
    questions: int | None = Field(default=None, ge=1, description="at most so many, at equal distances")
    seed: int = Field(default=0, ge=0, description="of the order of questions, dropout and filled-up lists")


class TaughtByTheLoop(Settings):
    """A retriever whose model the loop may train on the way."""

    train_every: Annotated[int | None, Changes.NOTHING] = Field(
        default=None,
        ge=1,
        description="after every so many iterations of a run, train the model on what the run's lists say"
        " each passage was worth; the iterations after it search with that one; null: never",
    )
    training: Annotated[RetrieverTraining, Changes.NOTHING] = Field(
        default=RetrieverTraining(), description="with train_every: what it learns from, and how"
    )
