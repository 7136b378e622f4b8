"""How a question was asked and read, round by round, as a person reads it.

In: a record with `path` and `selection`: of a predictions file, or of a JSON answer. Out: words, and HTML.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ragdro.evaluation.diagnosis import Record
from ragdro.report import html
from ragdro.report.choices import in_words, ordinal
from ragdro.report.html import Html
from ragdro.types import ENOUGH
from ragdro.units import probability


@dataclass(frozen=True, slots=True)
class Choice:
    """A passage that a round selected: its entry in `selection`, its rank among what the round found (from
    1), the score there, and what its probability says."""

    entry: Mapping[str, Any]
    rank: int
    score: str
    words: str


@dataclass(frozen=True, slots=True)
class ShownRound:
    """A round: which it is, the query, what is to be said of it, what was selected in order, how many
    passages it found, and the others of them as rank, title and score."""

    label: str
    query: str
    note: str
    choices: tuple[Choice, ...]
    found: int
    others: str


def rounds(record: Record) -> list[ShownRound]:
    """The rounds of a record."""
    path, selection = record["path"], iter(record["selection"])
    shown = []
    for number, one in enumerate(path, start=1):
        ranks = {place: rank for rank, place in enumerate(one["found"], start=1)}
        scores = [_score(s) for s in one["scores"] or [None] * len(ranks)]
        choices = tuple(
            Choice(entry, ranks[candidate], scores[ranks[candidate] - 1], in_words(record, place, entry))
            for place, (candidate, entry) in enumerate(zip(one["selected"], selection, strict=False))
        )
        taken = {choice.rank for choice in choices}
        others = (
            " ".join(filter(None, [f"[{rank}]", title, score]))
            for rank, (title, score) in enumerate(zip(one["titles"], scores, strict=True), start=1)
            if rank not in taken
        )
        label = f"round {number}" if len(path) > 1 else "one round"
        note = _note(one)
        shown.append(ShownRound(label, _asked(one["query"]), note, choices, len(ranks), "; ".join(others)))
    return shown


def further_queries(record: Record) -> list[str]:
    """What was asked beside the question itself; none of a record without a path."""
    return [_asked(one["query"]) for one in record.get("path", []) if _written(one)]


def _written(one: Mapping[str, Any]) -> bool:
    """Whether a rewriter wrote the query: a question that asks itself has no probability."""
    return one["log_query"] is not None


def thought_of(record: Record) -> str | None:
    """What was written before the answer; None where no thought comes first."""
    thought = record.get("thought")
    return None if thought is None else str(thought).strip() or "(nothing)"


def _asked(query: str) -> str:
    return query.strip() or "(nothing)"


def _note(one: Mapping[str, Any]) -> str:
    written, said = _written(one), []
    if written:
        said.append(f"written with probability {probability(math.exp(one['log_query']))}")
    if not one["found"]:
        said.append("there is enough" if written and one["query"] == ENOUGH else "finds nothing to read")
    return "; ".join(said)


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.4g}"


def path(record: Record) -> Html:
    """Each round's query, what was selected and what else was found."""
    parts = []
    for one in rounds(record):
        heading = [html.escaped(f"{one.label}:"), Html(" "), html.inline(one.query, "said")]
        if one.note:
            heading += [Html(" "), html.inline(f"({one.note})", "dim")]
        parts.append(Html(f"<p>{html.join(heading)}</p>\n"))
        if one.choices:
            parts.append(
                html.items([_chosen(choice, one.found) for choice in one.choices], "read", ordered=True)
            )
        if one.others:
            parts.append(html.paragraph(f"found too: {one.others}", "dim"))
    return html.join(parts)


def _chosen(choice: Choice, count: int) -> Html:
    entry = choice.entry
    said = [choice.words, f"{ordinal(choice.rank)} of {count} found"]
    note = "; ".join([*said, *([f"score {choice.score}"] if choice.score else [])])
    title = html.inline(f"{entry['title']}: ", "said") if entry["title"] else Html("")
    return html.join(
        [title, Html(" "), html.escaped(entry["text"]), Html(" "), html.inline(f"({note})", "dim")]
    )
