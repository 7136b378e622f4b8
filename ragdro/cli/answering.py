"""The options that say how a trained system answers, of every command that asks one."""

from __future__ import annotations

from typing import Annotated, Literal, Optional

import typer

from ragdro.config.answering import Answering, AnsweringKind, changed
from ragdro.errors import ConfigError

AnsweringOption = Annotated[
    Optional[AnsweringKind],  # noqa: UP045
    typer.Option(
        help="'greedy', from the likeliest list (path, where it searches more than once), 'marginal', over"
        " all of them, 'union', from the passages that most lists have, or 'joint', from the likeliest pair"
        " of list and answer; default: the run's"
    ),
]
SamplesOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        min=1,
        help="lists (paths, where it searches more than once) drawn for each question; not for greedy"
        " answers",
    ),
]
ThoughtsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="marginal: thoughts drawn for each list or path, where the generator thinks"),
]
ThresholdOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(min=0, max=1, help="marginal: with less confidence than this there is no answer"),
]
PassageAttentionOption = Annotated[
    Optional[Literal["full", "blocks"]],  # noqa: UP045
    typer.Option(help="read passages with 'full' attention or in 'blocks'; default: as the run does"),
]
PassageMemoryOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(min=0, help="GiB for passages read in blocks, kept for later questions; default: the run's"),
]


def answering_of(
    own: Answering,
    kind: AnsweringKind | None,
    samples: int | None,
    thoughts: int | None,
    threshold: float | None,
) -> Answering:
    """The run's own way of answering with what the command line changes of it.

    Raises `ConfigError` for a kind that there is not, for samples of greedy answers, and for thoughts or a
    threshold of any but marginal ones.
    """
    way = kind or own.kind
    if samples is not None and way == "greedy":
        raise ConfigError(
            "--samples: a greedy answer draws no lists; add --answering marginal, union or joint"
        )
    if thoughts is not None and way != "marginal":
        raise ConfigError(f"--thoughts: a {way} answer has the likeliest one; add --answering marginal")
    if threshold and way != "marginal":
        raise ConfigError(f"--threshold: a {way} answer has no confidence; add --answering marginal")
    return changed(own, kind, samples=samples, thoughts=thoughts, threshold=threshold)
