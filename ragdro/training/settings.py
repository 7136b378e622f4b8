"""What `ragdro.train` was given, checked before anything is trained: settings, and what asks again."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ragdro.algorithms.base import Algorithm
from ragdro.config import TrainingSettings
from ragdro.config.objective import check_proposals
from ragdro.config.paths import check_paths
from ragdro.config.thinking import check_thinking
from ragdro.config.words import describe
from ragdro.errors import ConfigError
from ragdro.generation.generator import Generator
from ragdro.retrieval.queries import as_find
from ragdro.rewriting.asking import Asking
from ragdro.rewriting.rewriter import Rewriter
from ragdro.selection.selector import Selector


def asking_of(
    rewriter: Rewriter | None, retriever: Any, settings: TrainingSettings, selector: Selector
) -> Asking | None:
    """What asks again, where anything is to. Raises `ConfigError` where a part of it is missing."""
    if not settings.retrieval.asks:
        if rewriter is not None:
            raise ConfigError("rewriter: asks nothing with retrieval.rounds = 1; set it to 2 or more")
        return None
    if rewriter is None or retriever is None:
        missing = "rewriter" if rewriter is None else "retriever"
        key, what = (
            ("rounds", "ask more than once")
            if settings.retrieval.rounds > 1
            else ("rewrite_first", "write queries")
        )
        raise ConfigError(f"retrieval.{key}: to {what} takes a {missing}: pass {missing}=...")
    return Asking(rewriter, as_find(retriever), settings.retrieval, selector)


def settings_of(
    settings: TrainingSettings | None, algorithm: Algorithm, changes: dict[str, Any], generator: Generator
) -> TrainingSettings:
    """The settings with what the keywords and the algorithm say of them.

    Raises `ConfigError` for what does not go together.
    """
    given = settings or TrainingSettings()
    if changes:
        try:
            given = type(given).model_validate({**dict(given), **changes})
        except ValidationError as error:
            raise ConfigError(describe(error, type(given))) from error
    if given.warm_up.start is not None:
        raise ConfigError(
            "warm_up.from: is a run's; in memory, load the pair with ragdro.load(RUN, stage='warm-up') and"
            " train it with warm_up=WarmUp(selector=None, generator=None)"
        )
    if algorithm.samples is not None:
        step = given.e_step.model_copy(update={"samples": algorithm.samples})
        given = given.model_copy(update={"e_step": step})
    try:
        check_proposals(algorithm, given.e_step)
        check_paths(algorithm, given)
        if generator.thinking is not None:
            check_thinking(algorithm, given)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return given
