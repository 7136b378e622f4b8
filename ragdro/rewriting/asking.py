"""What asks for a question: the rewriter, what searches for its queries, and how often.

In: questions with the candidates of the first round. Out: the likeliest path of each: the greedy list, the
greedy query, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from ragdro.config.retrieval import Retrieval
from ragdro.errors import ConfigError
from ragdro.retrieval.queries import Find, QuerySearch
from ragdro.rewriting.paths import State, decisions, first_rounds, pooled, unasked, walk
from ragdro.rewriting.rewriter import Rewriter, WrittenQuery
from ragdro.selection import tournament
from ragdro.selection.lists import log_prior
from ragdro.selection.selector import Selector
from ragdro.types import Draw, Permutation, QuestionPath, Round, Selection, Task

Finals: TypeAlias = Callable[[Sequence[Task]], Sequence[tuple[Task, Sequence[int] | None]]]
"""Each question with the candidates that are left to select from, and their places (None: all of them)."""


class Asking:
    """`rewriter` asks `find` in up to `retrieval.rounds` rounds (in the first only if that one is written),
    beside a `selector` that reads what was found, in each round the round's K. Raises `ConfigError` for a
    selector whose prompt does not say what was read."""

    def __init__(self, rewriter: Rewriter, find: Find, retrieval: Retrieval, selector: Selector) -> None:
        if not selector.template.shows_read:
            raise ConfigError(
                "selector.prompt: has no slot {read}, where a selector sees what earlier rounds have read;"
                " add {read} to 'user' and the key 'read', as in the packaged templates, or set"
                " retrieval.rounds: 1"
            )
        self.rewriter = rewriter
        self.rounds, self.stop = retrieval.rounds, retrieval.stop
        self.rewrite_first = retrieval.rewrite_first
        self.ks = selector.round_ks = retrieval.selected(selector.k)
        self.search = QuerySearch(find, selector.n, sum(self.ks[:-1]))

    @property
    def most(self) -> int:
        """Passages that a path reads at most."""
        return sum(self.ks)

    def greedy(self, selector: Selector, tasks: Sequence[Task], max_tokens: int) -> list[Selection]:
        """What the likeliest decisions of each question read, as places in what its path has found."""
        chosen: list[list[Selection]] = [[] for _ in tasks]

        def write(number: int, states: Sequence[State]) -> list[list[WrittenQuery]]:
            return [[q] for q in self.rewriter.greedy([state.reading for state in states], max_tokens)]

        def choose(number: int, states: Sequence[State]) -> list[list[Draw]]:
            selects, result = selector.in_round(number), list[list[Draw]]()
            greedy = selects.greedy([state.task for state in states], max_tokens)
            for state, one in zip(states, greedy, strict=True):
                chosen[state.owner].append(one)
                log_p = log_prior(selects, state.task, one, max_tokens)
                result.append([Draw(one.permutation, 0.0, log_p)])
            return result

        def first(asked: Sequence[Task]) -> list[list[Draw]]:
            """The lists of the question's own candidates, with their log-probabilities."""
            selects = selector.in_round(1)
            places = [place for place, task in enumerate(tasks) if not self.writes_first(task)]
            result = list[list[Draw]]()
            for place, task, one in zip(places, asked, selects.greedy(asked, max_tokens), strict=True):
                chosen[place].append(one)
                result.append([Draw(one.permutation, 0.0, log_prior(selects, task, one, max_tokens))])
            return result

        paths = self.begun(tasks, 1, first, self.play_off(selector, max_tokens))
        walked = walk(tasks, paths, self.search, write, choose, rounds=self.rounds, stop=self.stop)
        return [
            self._joined(task, path, own) for task, (path,), own in zip(tasks, walked, chosen, strict=True)
        ]

    def selections(
        self, selector: Selector, chosen: Sequence[tuple[Task, QuestionPath]], max_tokens: int
    ) -> list[tuple[Task, Selection]]:
        """Of each question the path that was chosen: the question with what the path has found, and what it
        has read of that, with the probability of each choice."""
        probabilities: list[tuple[float, ...]] = [()] * len(chosen)
        for number in range(1, self.rounds + 1):
            selects, made = selector.in_round(number), list[tuple[int, Task, Permutation]]()
            for place, (task, path) in enumerate(chosen):
                for before, one in list(decisions(task, path))[number - 1 : number]:
                    if one.permutation:
                        made.append((place, *_decided(before, one)))
            known = selects.place_probabilities([(before, z) for _, before, z in made], max_tokens)
            for (place, _, _), own in zip(made, known, strict=True):
                probabilities[place] += own
        result = []
        for (task, path), own in zip(chosen, probabilities, strict=True):
            whole, (permutation,) = pooled(task, [path])
            result.append((whole, Selection(permutation, own, self.most, path)))
        return result

    def writes_first(self, task: Task) -> bool:
        """Whether the first query of the task is written: not where its candidates were given."""
        return self.rewrite_first and not task.given

    def begun(
        self,
        tasks: Sequence[Task],
        count: int,
        lists: Callable[[Sequence[Task]], Sequence[Sequence[Draw]]],
        finals: Finals | None = None,
    ) -> list[list[QuestionPath]]:
        """`count` paths of each task as they begin: with nothing where the first query is written, else with
        the `lists` of its candidates, or of those that `finals` leave."""
        paths = unasked([count] * len(tasks))
        places = [i for i, task in enumerate(tasks) if not self.writes_first(task)]
        if places:
            asked = [tasks[i] for i in places]
            left = [(task, None) for task in asked] if finals is None else finals(asked)
            drawn = lists([final for final, _ in left])
            for i, own, (_, finalists) in zip(places, drawn, left, strict=True):
                paths[i] = first_rounds(tasks[i], own, finalists)
        return paths

    def play_off(self, selector: Selector, max_tokens: int) -> Finals:
        """The rounds before the last one of a tournament, greedy, for more candidates than the selector
        reads."""
        return partial(tournament.last_round, selector.in_round(1), max_tokens=max_tokens)

    def _joined(self, task: Task, path: QuestionPath, rounds: Sequence[Selection]) -> Selection:
        (permutation,) = pooled(task, [path])[1]
        known = [one.probabilities for one in rounds]
        assert all(own is not None for own in known)
        probabilities = tuple(p for own in known for p in own or ())
        return Selection(permutation, probabilities, self.most, path)


def _decided(before: Task, made: Round) -> tuple[Task, Permutation]:
    """What a list was selected from, and the list as places there."""
    if made.finalists is None:
        return before, made.permutation
    return tournament.part(before, made.finalists), tuple(made.finalists.index(i) for i in made.permutation)
