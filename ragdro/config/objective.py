"""What is maximised: one settings class for each objective.

Written `objective: dro` or, with settings of its own, `objective: {kind: dro-tempered, floor: 3}`;
docs/objectives.md says what each is for.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag

from ragdro.config.base import Settings, kind_or, named


class Dro(Settings):
    """The paper's: both models follow the posterior weights."""

    kind: Literal["dro"] = "dro"


class DroCentered(Settings):
    """The selector follows the weights minus their mean: equal weights move nothing."""

    kind: Literal["dro-centered"] = "dro-centered"
    clip: float = Field(
        0.2, gt=0, lt=1, description="change of a list's probability at which it pulls no more"
    )


class DroTempered(Settings):
    """The weights raised to a power that keeps the effective sample size above a floor."""

    kind: Literal["dro-tempered"] = "dro-tempered"
    floor: float = Field(2.0, ge=1, description="least effective sample size of a question's weights")


class Marginal(Settings):
    """Passages are independent (RAG-Sequence): the selector's first choice is the latent variable, summed
    over and not sampled; the generator reads one passage at a time while it is trained."""

    kind: Literal["marginal"] = "marginal"
    passages: int | None = Field(
        None, ge=1, description="the likeliest first choices alone are summed over; null: all candidates"
    )


class Rloo(Settings):
    """Policy gradient of a reward with a leave-one-out baseline; the generator learns from all samples."""

    kind: Literal["rloo"] = "rloo"
    reward: Literal["log_likelihood", "exact_match", "f1"] = Field(
        "log_likelihood", description="of the gold answer, or the score of the generator's greedy answer"
    )
    kl: float = Field(
        0.0, ge=0, description="what a nat of distance from the warmed-up selector costs; 0: nothing"
    )
    clip: float = Field(
        0.2, gt=0, lt=1, description="change of a list's probability at which it pulls no more"
    )


class Dpo(Settings):
    """The best of the samples against the worst as a preference pair; the generator reads the best."""

    kind: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, description="how firmly a model is held to where it stood")
    generator: Literal["sft", "dpo"] = Field(
        "sft", description="learn the gold answer, or to prefer it to a wrong one of its own"
    )


class Sft(Settings):
    """No latent variable: the generator learns from the retriever's first K, and reads them."""

    kind: Literal["sft"] = "sft"


Objective: TypeAlias = Annotated[
    Annotated[
        Annotated[Dro, Tag("dro")]
        | Annotated[DroCentered, Tag("dro-centered")]
        | Annotated[DroTempered, Tag("dro-tempered")]
        | Annotated[Marginal, Tag("marginal")]
        | Annotated[Rloo, Tag("rloo")]
        | Annotated[Dpo, Tag("dpo")]
        | Annotated[Sft, Tag("sft")],
        Discriminator(
            kind_or("dro"),
            custom_error_type="objective",
            custom_error_message="must be dro, dro-centered, dro-tempered, marginal, rloo, dpo or sft",
        ),
    ],
    BeforeValidator(named),
]
"""Settings of any objective, or its name alone; a mapping without `kind` means the paper's."""
