"""The paper's selector p(z|x): a causal LM that reads the candidates and writes an ordered list of K of them.

In: questions with their candidates. Out: permutations with exact log-probabilities (METHOD: p(z|x) =
prod_t p(z_t | z_<t, x, d)), sampled or greedy, and the scored sequences that training needs. Sampling,
greedy decoding and scoring agree to numerical precision because all three see the same tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ragdro.lm.batching import batches_by_tokens
from ragdro.lm.decoding import BranchDecoder, branch_decoder
from ragdro.lm.engines.base import DecoderOf
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, choice_table, score_all
from ragdro.lm.tree import Ints, ScoredSequence
from ragdro.profiling import phase
from ragdro.prompts import PromptTemplate
from ragdro.prompts.template import Budget
from ragdro.selection.identifiers import IdentifierGrammar
from ragdro.selection.selector import Selector
from ragdro.selection.writing import DrawnList, Lists, Prompt, Writing, write_lists
from ragdro.types import Draw, Permutation, Selection, Task


class ListSelector(Selector):
    """`model` behind the list-wise prompt `template`; see `Selector`."""

    kind = "list"

    def __init__(
        self,
        model: LanguageModel,
        template: PromptTemplate,
        *,
        k: int,
        n: int,
        budget: Budget,
        independent: bool = False,
        stop: bool = False,
    ) -> None:
        super().__init__(model, template, k=k, n=n, budget=budget, independent=independent, stop=stop)
        self.grammar = self._grammar(n)

    def _make_room(self, candidates: int) -> None:
        """Identifiers for so many candidates, where no N was given."""
        self.grammar = self._grammar(candidates)
        super()._make_room(candidates)

    def _grammar(self, n: int) -> IdentifierGrammar:
        tokenizer = self.model.tokenizer
        return IdentifierGrammar(
            tokenizer,
            n,
            self.template.output_start(tokenizer),
            border=self.template.output_border(tokenizer),
            stop=self.stop,
        )

    @phase("tokenise")
    def prompt(self, task: Task) -> Ints:
        """See `Selector`."""
        self.check(task)
        passages, k = task.candidates.passages, self.list_length(task.candidates)
        ids = self.template.encode(
            self.model.tokenizer, task.question.question, passages, k, self.budget, task.read
        )
        self._check_length(task, len(ids) + self.room(len(passages)))
        return np.array(ids)

    def room(self, candidates: int) -> int:
        """See `Selector`."""
        return sum(sorted(map(len, self.grammar.later[:candidates]))[-min(self.k, candidates) :]) + 1

    def scored(self, task: Task, permutation: Permutation) -> ScoredSequence:
        """The sequence whose log-probability is log p(z|x)."""
        return self._scored(self.prompt(task).tolist(), permutation, len(task.candidates.passages))

    def group(self, task: Task, permutations: Sequence[Permutation]) -> SequenceGroup:
        """All of a question's permutations over one shared prompt."""
        prompt, count = self.prompt(task).tolist(), len(task.candidates.passages)
        return SequenceGroup.of([self._scored(prompt, z, count) for z in permutations])

    def taught(self, task: Task, permutation: Permutation, *, whole: bool) -> SequenceGroup:
        """See `Selector`."""
        sequence = self.scored(task, permutation)
        return SequenceGroup.of([sequence.whole() if whole else sequence])

    def _scored(self, prompt: list[int], permutation: Permutation, candidates: int) -> ScoredSequence:
        """A list may be of any length unless it might have continued: then it must be known how far."""
        most = min(self.k, candidates) if self.stop else None
        return self.grammar.scored(prompt, permutation, candidates, most)

    def sample(
        self,
        tasks: Sequence[Task],
        uniforms: Sequence[np.ndarray],
        *,
        temperature: float,
        max_tokens: int,
        decoder: DecoderOf = branch_decoder,
    ) -> list[list[Draw]]:
        """See `Selector`."""
        lists = self._write(tasks, uniforms, Writing(temperature=temperature), max_tokens, decoder)
        return [list(map(_draw, written.drawn)) for written in lists]

    def select_and_sample(
        self, tasks: Sequence[Task], uniforms: Sequence[np.ndarray], max_tokens: int
    ) -> list[tuple[Selection, list[Draw]]]:
        """See `Selector`."""
        lists = self._write(tasks, uniforms, Writing(greedy=True), max_tokens, branch_decoder)
        return [(self._selection(written), list(map(_draw, written.drawn))) for written in lists]

    def survey(
        self, tasks: Sequence[Task], uniforms: Sequence[np.ndarray], max_tokens: int
    ) -> list[tuple[Selection, list[float], list[Draw]]]:
        """See `Selector`."""
        written = self._write(
            tasks, uniforms, Writing(greedy=True, all_first=True), max_tokens, branch_decoder
        )
        return [(self._selection(lists), lists.log_first, list(map(_draw, lists.drawn))) for lists in written]

    def first_choices(self, tasks: Sequence[Task], max_tokens: int) -> list[list[float]]:
        """See `Selector`."""
        groups = []
        for task in tasks:
            prompt, count = self.prompt(task).tolist(), len(task.candidates.passages)
            groups.append(
                SequenceGroup.of([self.grammar.scored(prompt, (i,), count, 1) for i in range(count)])
            )
        return score_all(self.model, groups, max_tokens)

    def _greedy(self, tasks: Sequence[Task], max_tokens: int, decoder: DecoderOf) -> list[Selection]:
        nothing = [np.empty((0, 0))] * len(tasks)
        lists = self._write(tasks, nothing, Writing(greedy=True), max_tokens, decoder)
        return list(map(self._selection, lists))

    def _selection(self, lists: Lists) -> Selection:
        assert lists.greedy is not None
        return Selection(lists.greedy.chosen, tuple(map(math.exp, lists.greedy.log_choices)), self.k)

    def place_probabilities(
        self, chosen: Sequence[tuple[Task, Permutation]], max_tokens: int
    ) -> list[tuple[float, ...]]:
        """See `Selector`."""
        groups = []
        for task, z in chosen:
            prompt, count = self.prompt(task).tolist(), len(task.candidates.passages)
            beginnings = [self.grammar.scored(prompt, z[:t], count, t) for t in range(1, len(z) + 1)]
            groups.append(SequenceGroup.of(beginnings))
        scores = score_all(self.model, groups, max_tokens)
        return [tuple(np.exp(np.diff(values, prepend=0.0)).clip(max=1.0).tolist()) for values in scores]

    def steps(self, candidates: int) -> int:
        """Identifiers of several tokens may choose several times."""
        return self.grammar.longest(candidates)

    def rehearse(self, prompt: Ints, rows: int, samples: int, candidates: int) -> Iterator[int]:
        """See `Selector`: lists that are alike in nothing, of the longest identifiers, to the end."""
        state = self.grammar.begin(candidates, self.k)
        longest = sorted(range(candidates), key=lambda i: -len(self.grammar.later[i]))
        decoder = BranchDecoder(self.model, [prompt] * rows, samples)
        yield decoder.cache_bytes
        places = [(r, b) for r in range(rows) for b in range(samples)]
        decoder.feed([[state.pending] * samples] * rows)
        while state.competing is not None:
            choices, allowed, _ = choice_table([state.competing] * len(places))
            decoder.choice_logits(places, choices, allowed).cpu().double().log_softmax(-1)
            yield decoder.cache_bytes
            place = len(state.chosen)
            state.take(self.grammar.item(longest[place], first=not place)[len(state.path)])
            apart = [[b, *state.pending[1:]] for b in range(samples)]  # a token that no other branch has
            decoder.feed([apart] * rows)
        yield decoder.cache_bytes

    def _write(
        self,
        tasks: Sequence[Task],
        uniforms: Sequence[np.ndarray],
        writing: Writing,
        max_tokens: int,
        decoder: DecoderOf,
    ) -> list[Lists]:
        """The lists of every question, in batches of like length."""
        written: dict[int, Lists] = {}
        prompts = [
            Prompt(self.prompt(t), len(t.candidates.passages), self.list_length(t.candidates)) for t in tasks
        ]
        for batch in batches_by_tokens([len(p.ids) for p in prompts], max_tokens):
            lists = write_lists(
                self.model,
                self.grammar,
                [prompts[i] for i in batch],
                np.stack([uniforms[i] for i in batch]),
                writing,
                decoder,
            )
            written.update(zip(batch, lists, strict=True))
        return [written[i] for i in range(len(tasks))]


def _draw(drawn: DrawnList) -> Draw:
    return Draw(drawn.state.chosen, drawn.log_proposal, drawn.log_prior)
