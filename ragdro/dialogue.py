"""Several turns as one question: how dialogues stand in training data, and what their last turn asks."""

from __future__ import annotations

from collections.abc import Iterable

from ragdro.types import Question


def as_question(turns: Iterable[str]) -> str:
    """The turns of both sides in order, a line each, the last one the question; empty ones are left out."""
    stripped = (turn.strip() for turn in turns)
    return "\n".join(turn for turn in stripped if turn)


def last_turn(question: str) -> str:
    """The last line: what is asked, of a question that is a dialogue."""
    lines = [line.strip() for line in question.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def standalone(question: Question) -> str:
    """A query that needs no dialogue around it, as a teacher knows it: what the data has; else the question;
    of a dialogue its last turn, followed by the title of the first gold passage that has one."""
    if question.standalone is not None:
        return question.standalone
    turn = last_turn(question.question)
    titles = [passage.title for passage in question.gold_passages if passage.title.strip()]
    if turn == question.question.strip() or not titles or titles[0].lower() in turn.lower():
        return turn
    return f"{turn} {titles[0]}"
