"""What can be said of questions and their candidates before anything is trained.

In: questions, tasks, counts of what was cut. Out: `Finding`s, each a problem (the run will fail, or cannot
mean what it says), a note, or fine. Pure functions: nothing is read, searched or tokenised here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from ragdro.evaluation.ranking import recall_at_k, support_scores
from ragdro.prompts.template import CutCounts
from ragdro.types import Question, Task
from ragdro.units import counted, number

Level: TypeAlias = Literal["problem", "note", "ok"]
LEVELS: tuple[Level, ...] = ("problem", "note", "ok")
_Item = TypeVar("_Item")

MANY = 0.1
"""A larger fraction of texts that are cut, or of questions that match nothing, is a problem."""
LOW_RECALL = 0.2
"""A retriever that finds less than this leaves nothing to select from."""
_SAMPLE = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a preflight: what was looked at, how bad it is, and what was seen."""

    check: str
    level: Level
    text: str


def sample(items: Sequence[_Item], count: int = _SAMPLE) -> list[_Item]:
    """At most `count` of the items, at equal distances."""
    step = max(1, -(-len(items) // count))
    return list(items[::step])


def check_answers(split: str, questions: Sequence[Question]) -> Finding:
    """Whether every question has an answer to learn or to be measured by."""
    without = [q for q in questions if not q.answers]
    if without:
        text = f"without an answer: {len(without)} of {counted(len(questions))}, such as '{without[0].id}'"
        return Finding(split, "problem", text)
    return Finding(split, "ok", f"{counted(len(questions))}, each with an answer")


def check_overlap(splits: Mapping[str, Sequence[Question]]) -> Finding:
    """Whether a question of one split is one of another: what is measured must not be trained on."""
    texts = {name: {_plain(q.question) for q in questions} for name, questions in splits.items()}
    names = list(texts)
    shared = [
        f"in both {one} and {other}: {counted(len(both))}, such as '{min(both)[:60]}'"
        for i, one in enumerate(names)
        for other in names[i + 1 :]
        if (both := texts[one] & texts[other])
    ]
    if shared:
        return Finding("overlap", "problem", "; ".join(shared))
    return Finding("overlap", "ok", f"no question is in two of {', '.join(names)}")


def check_number(tasks: Sequence[Task], top_n: int) -> Finding:
    """How many candidates there are."""
    counts = [len(task.candidates.passages) for task in tasks]
    fewer = sum(count < top_n for count in counts)
    if max(counts) < 2:
        return Finding("candidates", "problem", "no question has two of them: there is nothing to select")
    if fewer:
        text = f"fewer than N = {top_n}: {fewer} of {counted(len(counts))} (the fewest: {min(counts)})"
        return Finding("candidates", "note", f"{text}; all of them are taken")
    return Finding("candidates", "ok", f"N = {top_n} for each question")


def check_matches(tasks: Sequence[Task]) -> Finding:
    """Whether the retriever scores anything above 0: what matches nothing gets passages at random."""
    scored = [t.candidates.scores for t in tasks if t.candidates.scores]
    nothing = sum(not any(scores) for scores in scored)
    text = f"no passage matches: {nothing} of {counted(len(tasks))} (are both in one language?)"
    if nothing > MANY * len(tasks):
        return Finding("matches", "problem", text)
    return Finding(
        "matches", "note" if nothing else "ok", text if nothing else "every question matches something"
    )


def check_recall(tasks: Sequence[Task], rounds: int = 1) -> Finding:
    """The recall ceiling: no selector can find what is not among the candidates, unless `rounds` of further
    queries find it."""
    seen = sample(tasks)
    recalls = [
        s.recall for t in seen if (s := support_scores(t.candidates.passages, t.question.gold_passages))
    ]
    what = "gold passages among the candidates"
    if not recalls:
        what = "questions with an answer in a candidate"
        recalls = [
            recall_at_k(t.candidates.passages, t.question.answers, len(t.candidates.passages))
            for t in seen
            if t.question.answers
        ]
    if not recalls:
        return Finding("recall", "note", "not looked at: no question has an answer or a gold passage")
    ceiling = sum(recalls) / len(recalls)
    text = f"{number(ceiling)} of the {what} ({counted(len(recalls))})"
    if rounds > 1:
        return Finding("recall", "ok", f"{text} of the first search; what is missing is left to further ones")
    text += ": the ceiling of any selection"
    return Finding("recall", "problem" if ceiling < LOW_RECALL else "ok", text)


def check_cuts(role: str, counts: CutCounts) -> Finding:
    """Whether the role's token limits cut what it reads and writes."""
    cut = {name: fraction for name, fraction in counts.fractions().items() if fraction > 0}
    if not cut:
        return Finding(f"{role}: limits", "ok", "no text is longer than its token limit")
    parts = ", ".join(f"{number(fraction)} of the {name}" for name, fraction in cut.items())
    level: Level = "problem" if max(cut.values()) > MANY else "note"
    singular = [name.removesuffix("s") for name in cut]
    keys = ", ".join(f"{role}.{name}_tokens" for name in singular)
    return Finding(f"{role}: limits", level, f"{parts} are cut; raise {keys}")


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
