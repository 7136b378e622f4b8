"""What does not go together with asking a question more than once. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragdro.config.answering import NO_UNION
from ragdro.config.http import HttpService
from ragdro.config.objective import ObjectiveSettings
from ragdro.config.retriever import ExternalSettings, GivenSettings
from ragdro.config.training import TrainingSettings

if TYPE_CHECKING:
    from ragdro.config import Config


def check_paths(objective: ObjectiveSettings, settings: TrainingSettings) -> None:
    """Raises `ValueError` naming the key of what learns from, or draws, the lists of one retrieval alone."""
    if not settings.retrieval.asks:
        return
    step, warm_up = settings.e_step, settings.warm_up
    for there, key in (
        (not (objective.learns_paths and objective.draws_lists), f"objective: {objective.kind}"),
        (objective.needs_reference, "objective.kl"),
        (step.replay > 0, "e_step.replay"),
        (step.engine.kind != "transformers", f"e_step.engine: {step.engine.kind}"),
        (step.mixture is not None and step.mixture.teacher > 0, "e_step.mixture.teacher"),
        (warm_up.asks_a_model and bool(warm_up.fits), f"warm_up.teacher: {warm_up.teacher}"),
        (settings.parallel.strategy != "ddp", f"parallel.strategy: {settings.parallel.strategy}"),
    ):
        if there:
            raise ValueError(f"{key}: does not go with {settings.retrieval.because}")


def check_asking(config: Config) -> None:
    """Raises `ValueError` where a config asks more than once without what that takes, or has a rewriter that
    nothing asks."""
    rounds, asked = config.retrieval.rounds, config.retrieval
    if not asked.asks:
        if config.rewriter is not None:
            raise ValueError(
                "rewriter: asks nothing with retrieval.rounds: 1; set it to 2 or more, or leave rewriter out"
            )
        return
    if config.rewriter is None:
        key = f"retrieval.rounds: {rounds} rounds take" if rounds > 1 else "retrieval.rewrite_first: takes"
        raise ValueError(f"{key} a rewriter; give rewriter.model")
    known = next(filter(None, map(_known_alone, _with_members(config.retriever))), None)
    if known is not None:
        key = "rounds" if rounds > 1 else "rewrite_first"
        raise ValueError(
            f"retrieval.{key}: retriever {known} has candidates of known questions alone and cannot be asked"
            " anything else; leave it out, or take a retriever that searches data.corpus, such as bm25"
        )
    if config.corrupt_candidates:
        raise ValueError("corrupt_candidates: does not go with a rewriter; set it to 0")
    if config.answering.kind == "union":
        raise ValueError(NO_UNION)
    most = max(config.retrieval.selected(config.selector.k))
    if most > config.top_n:
        raise ValueError(f"retrieval.k: K = {most} is more than top_n: N = {config.top_n}; give top_n={most}")


def _with_members(retriever: Any) -> list[Any]:
    """A retriever's settings and those of its members."""
    return [retriever, *getattr(retriever, "members", ())]


def _known_alone(retriever: Any) -> str | None:
    """What a retriever that finds nothing but what is listed for a question is called."""
    if isinstance(retriever, GivenSettings):
        return retriever.kind
    if isinstance(retriever, ExternalSettings) and not isinstance(retriever.source, HttpService):
        return f"{retriever.kind} ({retriever.source.type})"
    return None
