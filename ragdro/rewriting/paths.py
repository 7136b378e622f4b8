"""Paths: the rounds in which a question is asked and what is found is read, for many questions at once.

In: the lists of the first round, how queries are written and how lists are chosen (drawn, or the likeliest).
Out: paths with the log-probability of every decision. All paths of all questions go through a round together:
what is alike (a question with the same passages read, the same candidates) is computed once, whatever number
of paths comes by, and all distinct queries are searched for in one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ragdro.generation.reading import Reading
from ragdro.retrieval.queries import QuerySearch, unread
from ragdro.rewriting.rewriter import WrittenQuery
from ragdro.types import Candidates, Draw, Passage, Permutation, QuestionPath, Round, Task


@dataclass(frozen=True, slots=True)
class State:
    """Where paths of a question stand alike: the `owner`-th question, which of its paths (`members`), what it
    reads (`task`; without candidates: it asks)."""

    owner: int
    members: tuple[int, ...]
    task: Task

    @property
    def reading(self) -> Reading:
        """The question with what was read."""
        return Reading(self.task.question, self.task.read)


Write: TypeAlias = Callable[[int, Sequence[State]], Sequence[Sequence[WrittenQuery]]]
"""The queries of a round (counted from 1): one for each member of each state."""
Choose: TypeAlias = Callable[[int, Sequence[State]], Sequence[Sequence[Draw]]]
"""The lists of a round, one for each member of each state."""


def first_rounds(
    task: Task, draws: Sequence[Draw], finalists: Sequence[int] | None = None
) -> list[QuestionPath]:
    """Paths that have read a list of the question's own candidates, or of the `finalists` among them."""
    asked = Round(task.question.question, (), task.candidates)
    if finalists is not None and len(finalists) < len(task.candidates.passages):
        asked = replace(asked, finalists=tuple(finalists))
        draws = [replace(draw, permutation=tuple(finalists[i] for i in draw.permutation)) for draw in draws]
    return [QuestionPath((_read(asked, draw),)) for draw in draws]


def unasked(counts: Sequence[int]) -> list[list[QuestionPath]]:
    """So many paths of each question, in which nothing was asked yet."""
    return [[QuestionPath(())] * count for count in counts]


def walk(
    tasks: Sequence[Task],
    paths: Sequence[Sequence[QuestionPath]],
    search: QuerySearch,
    write: Write,
    choose: Choose,
    *,
    rounds: int,
    stop: bool,
) -> list[list[QuestionPath]]:
    """The paths of each question, continued up to `rounds` rounds; with `stop` a query of `ENOUGH` ends one.
    A query that finds nothing that was not read ends it as well. Those of `unasked` begin with a query."""
    now = [list(own) for own in paths]
    for number in range(1, rounds + 1):
        asking = _states(tasks, now, _going(now, number - 1), lambda path: Candidates("", ()))
        if not asking:
            continue  # in the first round, where the question was asked itself
        queries = {
            (state.owner, member): query
            for state, own in zip(asking, write(number, asking), strict=True)
            for member, query in zip(state.members, own, strict=True)
        }
        candidates = search.search([q.text for q in queries.values() if not (stop and q.is_enough)])
        for state in asking:
            for member in state.members:
                query = queries[state.owner, member]
                ends = stop and query.is_enough
                fresh = Candidates("", ()) if ends else candidates[query.text]
                _append(now, state, member, _asked(query, unread(fresh, state.task, search.top_n)))
        # What was given in place of a first query has been read already.
        searched = [place for place in _going(now, number) if place in queries]
        reading = _states(tasks, now, searched, lambda path: path.rounds[-1].candidates)
        chosen = choose(number, reading) if reading else ()
        for state, drawn in zip(reading, chosen, strict=True):
            for member, draw in zip(state.members, drawn, strict=True):
                path = now[state.owner][member]
                now[state.owner][member] = QuestionPath((*path.rounds[:-1], _read(path.rounds[-1], draw)))
    return now


def pooled(task: Task, paths: Sequence[QuestionPath]) -> tuple[Task, list[Permutation]]:
    """The question with everything that its paths have found, in the order found, and of each path what it
    read, in order, as places there. It has no scores: those of two queries are not of one kind."""
    passages = (passage for path in paths for one in path.rounds for passage in one.candidates.passages)
    pool: dict[str, Passage] = {}
    for passage in passages:
        pool.setdefault(passage.id, passage)
    places = {name: i for i, name in enumerate(pool)}
    whole = Task(task.question, Candidates(task.question.id, tuple(pool.values())))
    return whole, [tuple(places[passage.id] for passage in path.read) for path in paths]


def decisions(task: Task, path: QuestionPath) -> Iterable[tuple[Task, Round]]:
    """Each round of a path with what it was decided from: the question, what was read before it, and the
    candidates that were found in it."""
    read: tuple[Passage, ...] = ()
    for one in path.rounds:
        yield replace(task, candidates=one.candidates, read=read), one
        read += one.read


def _going(paths: Sequence[Sequence[QuestionPath]], rounds: int) -> list[tuple[int, int]]:
    """Those of so many rounds that have not ended, by question and number."""
    return [
        (owner, member)
        for owner, own in enumerate(paths)
        for member, path in enumerate(own)
        if len(path.rounds) == rounds and (not path.rounds or path.rounds[-1].candidates.passages)
    ]


def _states(
    tasks: Sequence[Task],
    paths: Sequence[Sequence[QuestionPath]],
    going: Sequence[tuple[int, int]],
    candidates_of: Callable[[QuestionPath], Candidates],
) -> list[State]:
    """Those paths by what they have read and what they choose from."""
    members: dict[tuple[int, tuple[str, ...], tuple[str, ...]], list[int]] = {}
    states: list[tuple[int, list[int], Task]] = []
    for owner, member in going:
        path, task = paths[owner][member], tasks[owner]
        candidates = candidates_of(path)
        key = (owner, _ids(path.read), _ids(candidates.passages))
        if key not in members:
            members[key] = []
            states.append((owner, members[key], Task(task.question, candidates, path.read)))
        members[key].append(member)
    return [State(owner, tuple(own), task) for owner, own, task in states]


def _ids(passages: Sequence[Passage]) -> tuple[str, ...]:
    return tuple(passage.id for passage in passages)


def _asked(query: WrittenQuery, candidates: Candidates) -> Round:
    log_p, log_q = query.log_prior, query.log_proposal
    return Round(query.text, query.tokens, candidates, log_query=log_p, log_query_proposal=log_q)


def _read(one: Round, draw: Draw) -> Round:
    log_p, log_q = draw.log_prior, draw.log_proposal
    return replace(one, permutation=draw.permutation, log_list=log_p, log_list_proposal=log_q)


def _append(paths: list[list[QuestionPath]], state: State, member: int, one: Round) -> None:
    paths[state.owner][member] = QuestionPath((*paths[state.owner][member].rounds, one))
