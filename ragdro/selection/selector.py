"""The selector p(z|x): a causal LM that reads the candidates and writes an ordered list of K of them.

In: questions with their candidates. Out: permutations with exact log-probabilities (METHOD: p(z|x) =
prod_t p(z_t | z_<t, x, d)), sampled or greedy, and the scored sequences that training needs. Sampling,
greedy decoding and scoring agree to numerical precision because all three see the same tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ragdro.data.passages import PassageLike, as_passages
from ragdro.errors import ConfigError, DataError, RetrievalError
from ragdro.lm.batching import batches_by_tokens
from ragdro.lm.decoding import branch_decoder
from ragdro.lm.engines.base import DecoderOf
from ragdro.lm.model import LanguageModel
from ragdro.lm.pretrained import pretrained
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.lm.tree import Ints, ScoredSequence
from ragdro.profiling import phase
from ragdro.prompts import PromptTemplate, load_template
from ragdro.prompts.template import Budget
from ragdro.selection.identifiers import IdentifierGrammar
from ragdro.selection.inclusion import likeliest
from ragdro.selection.rerank import Reranking, rerank
from ragdro.selection.writing import DrawnList, Lists, Prompt, Writing, write_lists
from ragdro.types import Candidates, Permutation, Question, Selection, Task

_ONE_QUESTION = 1
"""A budget of tokens that puts each question into a batch of its own."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A sampled permutation with log q(z) of the distribution it was drawn from and log p(z|x) (nats)."""

    permutation: Permutation
    log_proposal: float
    log_prior: float


class Selector:
    """`model` behind the list-wise prompt `template`; selects `k` of up to `n` candidates.

    Of a question with fewer than k candidates all are ordered; a list of one candidate is certain (log p 0).
    `independent`: `greedy` gives the k likeliest first choices instead of a list (`objective: marginal`).
    `stop`: it may select fewer than k.
    """

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
        if k > n:
            raise ConfigError(f"selector.k: K = {k} passages cannot be selected out of N = {n} candidates")
        self.model = model
        self.template = template
        self.k = k
        self.budget = budget
        self.independent = independent
        self._stop = stop
        self._grows = False
        self.grammar = self._grammar(n)

    @classmethod
    def from_pretrained(
        cls,
        path_or_name: str | Path,
        k: int = 5,
        *,
        n: int | None = None,
        prompt: str = "selector",
        question_tokens: int = 256,
        passage_tokens: int = 256,
        stop: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> Selector:
        """A selector of `k` passages, ready to `rerank`: a checkpoint folder, a hub name or a `tiny:` name.

        `n`: the most passages that a question may have (None: as many as come). `prompt`: a template by name,
        or the path of a YAML file. A question longer than `question_tokens` and a passage (title and text)
        longer than `passage_tokens` are cut. `stop`: it may select fewer than k. The rest is in
        `ragdro.lm.pretrained`. Raises `ModelError` for what cannot be loaded, `ConfigError` for a value out
        of range or an unknown template.
        """
        if k < 1:
            raise ConfigError(f"k: at least 1 passage has to be selected, not {k}")
        budget = Budget(question_tokens, passage_tokens)
        template = load_template(prompt)
        model = pretrained(
            path_or_name, device=device, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code
        )
        made = cls(model, template, k=k, n=max(k, 20) if n is None else n, budget=budget, stop=stop)
        made._grows = n is None
        return made

    def _make_room(self, candidates: int) -> None:
        """Identifiers for so many candidates, where no N was given."""
        if self._grows and candidates > self.grammar.candidates:
            self.grammar = self._grammar(candidates)

    def _grammar(self, n: int) -> IdentifierGrammar:
        tokenizer = self.model.tokenizer
        return IdentifierGrammar(
            tokenizer,
            n,
            self.template.output_start(tokenizer),
            border=self.template.output_border(tokenizer),
            stop=self._stop,
        )

    def list_length(self, candidates: Candidates) -> int:
        """How many are selected (with `stop`, at most): K, or all where there are fewer."""
        return min(self.k, len(candidates.passages))

    @phase("tokenise")
    def prompt(self, task: Task) -> Ints:
        """The prompt's token ids. Raises `RetrievalError` for no candidates or more than N, `ConfigError` for
        a prompt that the model has no positions for."""
        passages, most = task.candidates.passages, self.grammar.candidates
        if not passages:
            raise RetrievalError(f"question '{task.question.id}' has no candidates to select from")
        if len(passages) > most:
            raise RetrievalError(
                f"question '{task.question.id}' has {len(passages)} candidates, more than the N = {most} that"
                " the selector was made for; give it a larger n (top_n)"
            )
        k = self.list_length(task.candidates)
        ids = self.template.encode(self.model.tokenizer, task.question.question, passages, k, self.budget)
        longest = len(ids) + sum(sorted(map(len, self.grammar.later[: len(passages)]))[-k:]) + 1
        limit = self.model.max_positions
        if limit is not None and longest > limit:
            raise ConfigError(
                f"selector.passage_tokens: the prompt of question '{task.question.id}' needs {longest} "
                f"tokens, more than the model's {limit} positions; lower passage_tokens or top_n"
            )
        return np.array(ids)

    def scored(self, task: Task, permutation: Permutation) -> ScoredSequence:
        """The sequence whose log-probability is log p(z|x)."""
        return self._scored(self.prompt(task).tolist(), permutation, len(task.candidates.passages))

    def group(self, task: Task, permutations: Sequence[Permutation]) -> SequenceGroup:
        """All of a question's permutations over one shared prompt."""
        prompt, count = self.prompt(task).tolist(), len(task.candidates.passages)
        return SequenceGroup.of([self._scored(prompt, z, count) for z in permutations])

    def _scored(self, prompt: list[int], permutation: Permutation, candidates: int) -> ScoredSequence:
        """A list may be of any length unless it might have continued: then it must be known how far."""
        most = min(self.k, candidates) if self.grammar.stop else None
        return self.grammar.scored(prompt, permutation, candidates, most)

    def log_prob(self, task: Task, permutations: Sequence[Permutation], max_tokens: int) -> list[float]:
        """log p(z|x) of each permutation, in nats, without gradients."""
        return score_all(self.model, [self.group(task, permutations)], max_tokens)[0]

    def sample(
        self,
        tasks: Sequence[Task],
        uniforms: Sequence[np.ndarray],
        *,
        temperature: float,
        max_tokens: int,
        decoder: DecoderOf = branch_decoder,
    ) -> list[list[Draw]]:
        """m permutations for each question by inverse transform sampling.

        `uniforms[question]` [samples, steps]: numbers in [0, 1) that decide the choices, at least as many
        steps as the grammar has choices (`choices_per_list`). Who draws them decides what is shared: the
        outcome of a question depends on its own numbers alone, not on the batch it is in. `decoder` says what
        is drawn from: with another engine's, `log_prior` is the engine's too.
        """
        lists = self._write(tasks, uniforms, Writing(temperature=temperature), max_tokens, decoder)
        return [list(map(_draw, written.drawn)) for written in lists]

    def select_and_sample(
        self,
        tasks: Sequence[Task],
        uniforms: Sequence[np.ndarray],
        max_tokens: int,
        decoder: DecoderOf = branch_decoder,
    ) -> list[tuple[Selection, list[Draw]]]:
        """What `greedy` selects and what `sample` draws at temperature 1, from one reading of the prompt."""
        lists = self._write(tasks, uniforms, Writing(greedy=True), max_tokens, decoder)
        return [(self._selection(written), list(map(_draw, written.drawn))) for written in lists]

    def survey(
        self, tasks: Sequence[Task], uniforms: Sequence[np.ndarray], max_tokens: int
    ) -> list[tuple[Selection, list[float], list[Draw]]]:
        """Of each question what `greedy` selects, log p of being chosen first (nats) of every candidate, and
        what `sample` draws at temperature 1 (see there), from one reading of it all."""
        written = self._write(
            tasks, uniforms, Writing(greedy=True, all_first=True), max_tokens, branch_decoder
        )
        return [(self._selection(of), of.log_first, list(map(_draw, of.drawn))) for of in written]

    def rerank(
        self, question: str, passages: Sequence[PassageLike], *, samples: int = 64, seed: int = 0
    ) -> Reranking:
        """The passages in the selector's order, with their probabilities (see `Reranking`).

        First those that it selects, the likeliest identifier at each place (K of them, or all where there are
        fewer); then the others by their probability of being in the list at all. That one is exact where no
        more than 720 lists are possible; elsewhere it is estimated from `samples` lists (at least 2), drawn
        with random numbers that `seed` decides.

        Raises `DataError` for what is no passage, `RetrievalError` for none, `ConfigError` for a prompt that
        the model has no positions for, `ModelError` for more passages than its tokenizer can tell apart.
        """
        if samples < 2:
            raise ConfigError(f"samples: at least 2 lists have to be drawn, not {samples}")
        if not question.strip():
            raise DataError("question: is empty")
        given = as_passages(passages)
        self._make_room(len(given))
        asked = Question(question, question, ())
        return rerank(self, [Task(asked, Candidates(asked.id, given))], samples, seed, _ONE_QUESTION)[0]

    def first_choices(self, tasks: Sequence[Task], max_tokens: int) -> list[list[float]]:
        """log p of being chosen first (nats), for each candidate of each question; they sum to 1."""
        groups = []
        for task in tasks:
            prompt, count = self.prompt(task).tolist(), len(task.candidates.passages)
            groups.append(
                SequenceGroup.of([self.grammar.scored(prompt, (i,), count, 1) for i in range(count)])
            )
        return score_all(self.model, groups, max_tokens)

    def greedy(
        self, tasks: Sequence[Task], max_tokens: int, decoder: DecoderOf = branch_decoder
    ) -> list[Selection]:
        """The list that takes the most probable identifier at each place (ties: the lowest index), with the
        probability of each given those before it.

        With `stop`, a list ends where ending is at least as probable as going on.
        """
        if self.independent:
            return [self._top(log_p) for log_p in self.first_choices(tasks, max_tokens)]
        nothing = [np.empty((0, 0))] * len(tasks)
        lists = self._write(tasks, nothing, Writing(greedy=True), max_tokens, decoder)
        return list(map(self._selection, lists))

    def _top(self, log_p: Sequence[float]) -> Selection:
        best = likeliest(log_p, self.k)
        return Selection(tuple(best), tuple(math.exp(log_p[i]) for i in best), self.k)

    def _selection(self, lists: Lists) -> Selection:
        assert lists.greedy is not None
        return Selection(lists.greedy.chosen, tuple(map(math.exp, lists.greedy.log_choices)), self.k)

    @property
    def choices_per_list(self) -> int:
        """The most choices that one list can take: identifiers of several tokens may choose several times."""
        return self.k * self.grammar.longest(self.grammar.candidates)

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
