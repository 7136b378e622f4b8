"""How a trained system answers: from its greedy list, or from all the lists that it may select.

Imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from ragdro.config.base import Settings, named
from ragdro.config.words import describe
from ragdro.errors import ConfigError

AnsweringKind: TypeAlias = Literal["greedy", "marginal", "union", "joint"]

NO_UNION = (
    "answering: union takes the lists of one retrieval; where a rewriter asks take greedy, marginal or joint"
)
"""What is said of a union of what several paths have read."""


class Answering(Settings):
    """From which lists a trained system answers (what is measured during training is greedy)."""

    kind: AnsweringKind = Field(
        "greedy",
        description="'greedy' answers from the likeliest list (path, where it searches more than once);"
        " 'marginal' takes the answer with the largest probability over all of them, and gives that"
        " probability as its confidence; 'union' answers from the K passages that are most probably in a"
        " list; 'joint' from the list or path z whose own answer y has the largest p(z|x) p(y|x,d_z)",
    )
    samples: int = Field(
        8,
        ge=1,
        le=1024,
        description="lists (paths, where it searches more than once) drawn for each question (m); not for"
        " greedy answers",
    )
    thoughts: int = Field(
        1, ge=1, le=1024, description="marginal: thoughts drawn for each list or path, with generator.think"
    )
    threshold: float = Field(
        0.0, ge=0, le=1, description="marginal: with less confidence than this there is no answer"
    )
    seed: int = Field(0, ge=0, description="decides the draws")

    @model_validator(mode="after")
    def _one_list_has_no_confidence(self) -> Answering:
        if self.kind != "marginal" and self.threshold:
            raise ValueError(
                f"threshold: a {self.kind} answer has no confidence; it goes with kind: marginal"
            )
        if self.kind != "marginal" and self.thoughts > 1:
            raise ValueError(
                f"thoughts: a {self.kind} answer has the likeliest one; it goes with kind: marginal"
            )
        return self


AnsweringSettings: TypeAlias = Annotated[Answering, BeforeValidator(named)]
"""The settings, or the kind alone."""


def changed(
    own: Answering,
    kind: str | None = None,
    *,
    samples: int | None = None,
    thoughts: int | None = None,
    threshold: float | None = None,
) -> Answering:
    """A run's `own` way of answering with what is asked for in its place (None: as it is).

    Raises `ConfigError` for a kind that there is not, and for samples of greedy answers, thoughts or a
    threshold of any but marginal ones.
    """
    way = kind or own.kind
    if way == "greedy" and samples is not None:
        raise ConfigError(
            "samples: a greedy answer draws no lists; they go with answering: marginal, union or joint"
        )
    if way != "marginal":
        if threshold:
            raise ConfigError(
                f"threshold: a {way} answer has no confidence; it goes with answering: marginal"
            )
        if thoughts is not None and thoughts > 1:
            raise ConfigError(
                f"thoughts: a {way} answer has the likeliest one; they go with answering: marginal"
            )
        threshold, thoughts = 0.0, 1  # the run's are of marginal answers
    return as_answering(own, kind=kind, samples=samples, thoughts=thoughts, threshold=threshold)


def as_answering(value: Answering | AnsweringKind, **changes: Any) -> Answering:
    """The settings that a kind stands for, with `changes` (None: no change).

    Raises `ConfigError` for a value out of range.
    """
    settings = value if isinstance(value, Answering) else None
    values = settings.model_dump() if settings is not None else {"kind": value}
    try:
        return Answering.model_validate({**values, **{k: v for k, v in changes.items() if v is not None}})
    except ValidationError as error:
        raise ConfigError(describe(error, Answering, "answering")) from error
