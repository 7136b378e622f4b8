"""What the warm-up teaches of a question: a teacher's lists, its queries, and what the answer is read from.

In: questions with candidates. Out: a `Lesson` each. Of a question that is asked once that is one list. Where
it is asked more than once the teacher walks a path: its list, its next query, its list out of what that
finds, and so on. Its queries are those that the data has; where there are none, the titles of gold passages
that it has not read. Its first query, where that is written, is the question; of a dialogue the last turn as
it stands alone (`standalone`), by the data or with the title of the gold passage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragdro.config import WarmUp
from ragdro.dialogue import standalone
from ragdro.errors import warn
from ragdro.generation.reading import Reading
from ragdro.rewriting.asking import Asking
from ragdro.rewriting.paths import State, decisions, pooled, walk
from ragdro.rewriting.rewriter import Rewriter, WrittenQuery
from ragdro.selection.selector import Selector
from ragdro.training.teachers import Orders, teacher_permutation
from ragdro.types import ENOUGH, Draw, Permutation, QuestionPath, Task
from ragdro.units import counted


@dataclass(frozen=True, slots=True)
class TaughtList:
    """What `selector` is to select in a state."""

    selector: Selector
    task: Task
    permutation: Permutation


@dataclass(frozen=True, slots=True)
class TaughtQuery:
    """What the rewriter is to write in a state."""

    reading: Reading
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question's: its lists, its queries, and what was read in the end of all that was found (`task`)."""

    task: Task
    permutation: Permutation
    lists: tuple[TaughtList, ...]
    queries: tuple[TaughtQuery, ...] = ()
    path: QuestionPath | None = None


def lessons(
    selector: Selector,
    tasks: Sequence[Task],
    settings: WarmUp,
    orders: Orders,
    asking: Asking | None = None,
) -> list[Lesson]:
    """What `settings.teacher` teaches of each question; `orders`: those of a teacher that is a model, of the
    questions' own candidates."""

    def listed(selects: Selector, task: Task, orders: Orders) -> Permutation:
        order = orders.get(task.question.id)
        return teacher_permutation(task, selects.k, settings.teacher, stop=selects.stop, order=order)

    if asking is None:
        return [_of_one_list(selector, task, listed(selector, task, orders)) for task in tasks]

    def choose(number: int, states: Sequence[State]) -> list[list[Draw]]:
        selects = selector.in_round(number)
        return [[Draw(listed(selects, state.task, {}), 0.0, 0.0)] for state in states]

    def write(number: int, states: Sequence[State]) -> list[list[WrittenQuery]]:
        if number == 1:
            return [[_written(asking.rewriter, standalone(state.task.question))] for state in states]
        return [[_query(asking.rewriter, state, number - 2, stop=asking.stop)] for state in states]

    first = selector.in_round(1)
    begun = asking.begun(
        tasks, 1, lambda asked: [[Draw(listed(first, task, orders), 0.0, 0.0)] for task in asked]
    )
    walked = walk(tasks, begun, asking.search, write, choose, rounds=asking.rounds, stop=asking.stop)
    taught = []
    for task, (path,) in zip(tasks, walked, strict=True):
        states = list(enumerate(decisions(task, path), start=1))
        lists = [
            TaughtList(selector.in_round(number), before, one.permutation)
            for number, (before, one) in states
            if one.permutation
        ]
        queries = [
            TaughtQuery(Reading(before.question, before.read), one.tokens)
            for _, (before, one) in states
            if one.tokens
        ]
        whole, (permutation,) = pooled(task, [path])
        taught.append(Lesson(whole, permutation, tuple(lists), tuple(queries), path))
    _say_what_is_cut(asking.rewriter, [query for lesson in taught for query in lesson.queries])
    return taught


def _say_what_is_cut(rewriter: Rewriter, queries: Sequence[TaughtQuery]) -> None:
    tokenizer = rewriter.model.tokenizer
    cut = sum(query.tokens[-1] != tokenizer.end_id for query in queries)
    if cut:
        warn(
            f"{tokenizer.name}: cut to rewriter.query_tokens = {rewriter.query_tokens}: {cut:,} of"
            f" {counted(len(queries), 'queries')} that the warm-up teaches"
        )


def _of_one_list(selector: Selector, task: Task, permutation: Permutation) -> Lesson:
    return Lesson(task, permutation, (TaughtList(selector, task, permutation),))


def _query(rewriter: Rewriter, state: State, further: int, *, stop: bool) -> WrittenQuery:
    """The teacher's `further`-th query (from 0), or that there is enough; where it knows of none and there is
    no way to stop, an empty one, which is not taught."""
    question, read = state.task.question, {passage.content for passage in state.task.read}
    if question.queries is None:
        missing = [p.title for p in question.gold_passages if p.title.strip() and p.content not in read]
        text = missing[0] if missing else ""
    else:
        text = question.queries[further] if further < len(question.queries) else ""
    if not text.strip() and stop:
        text = ENOUGH
    return _written(rewriter, text)


def _written(rewriter: Rewriter, text: str) -> WrittenQuery:
    """What is taught of a text. Of one that is cut, what is left is searched for, as when it is written."""
    tokens, tokenizer = rewriter.query_ids(text) if text.strip() else (), rewriter.model.tokenizer
    cut = bool(tokens) and tokens[-1] != tokenizer.end_id
    return WrittenQuery(tokenizer.decode(list(tokens)) if cut else text.strip(), tokens, 0.0, 0.0)
