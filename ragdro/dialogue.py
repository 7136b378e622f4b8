"""Several turns as one question: how dialogues stand in training data."""

from __future__ import annotations

from collections.abc import Iterable


def as_question(turns: Iterable[str]) -> str:
    """The turns of both sides in order, a line each, the last one the question; empty ones are left out."""
    stripped = (turn.strip() for turn in turns)
    return "\n".join(turn for turn in stripped if turn)
