"""What does not go together with a retriever that the loop trains. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ragdro.config.retriever import DEFAULT_KIND
from ragdro.config.teaching import TaughtByTheLoop

if TYPE_CHECKING:
    from ragdro.config import Config

_TRAINABLE = ("dense", "colbert")
_KEY = "retriever.train_every"


def refuse_untrainable(values: Any) -> None:
    """Raises `ValueError` where the retriever of a config that is not read yet has no model to train."""
    retriever = values.get("retriever") if isinstance(values, Mapping) else None
    if not isinstance(retriever, Mapping) or retriever.get("train_every") is None:
        return
    kind = retriever.get("kind", DEFAULT_KIND)
    if kind not in _TRAINABLE:
        raise ValueError(
            f"{_KEY}: retriever.kind {kind} has no model that a run trains; take"
            f" {' or '.join(_TRAINABLE)}, or leave train_every out"
        )


def check_taught(config: Config) -> None:
    """Raises `ValueError` naming the key of what cannot be had while the retriever is trained on the way."""
    for number, member in enumerate(getattr(config.retriever, "members", ())):
        if getattr(member, "train_every", None) is not None:
            raise ValueError(
                f"retriever.members.{number}.train_every: a run trains no member of a fusion; leave it out"
            )
    retriever = config.retriever
    if not isinstance(retriever, TaughtByTheLoop) or retriever.train_every is None:
        return
    loss = retriever.training.loss
    if retriever.kind == "colbert" and loss not in ("kl", "infonce"):
        raise ValueError(f"retriever.training.loss: {loss} is for bi-encoders; ColBERT takes kl and infonce")
    step, warm_up = config.e_step, config.warm_up
    by_model = warm_up.asks_a_model and step.mixture is not None and step.mixture.teacher > 0
    posterior = retriever.training.labels == "posterior"
    for there, key, instead in (
        (config.retrieval.rounds > 1, f"retrieval.rounds: {config.retrieval.rounds}", "set rounds: 1"),
        (config.retrieval.rewrite_first, "retrieval.rewrite_first", "set it to false"),
        (
            posterior and not config.objective.selects,
            f"objective: {config.objective.kind} draws no lists, and",
            "take retriever.training.labels: gold or distant",
        ),
        (step.replay > 0, "e_step.replay: lists of other candidates cannot be drawn again;", "set replay: 0"),
        (by_model, "e_step.mixture.teacher: a model orders the first candidates alone;", "set teacher: 0"),
    ):
        if there:
            raise ValueError(f"{key}: does not go with {_KEY}; {instead}")
