"""What a selector p(z|x) is to everything that uses one; the kinds of it are in the files beside this one.

In: questions with their candidates. Out: ordered lists of K of them with exact log-probabilities, sampled or
greedy, and what training needs of them. `list` (the paper's) writes identifiers (`list_selector`), `pointer`
scores all passages in one pass (`pointer`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import numpy as np

from ragdro.data.passages import PassageLike, as_passages
from ragdro.errors import ConfigError, DataError, ModelError, RetrievalError
from ragdro.lm.decoding import branch_decoder
from ragdro.lm.engines.base import DecoderOf
from ragdro.lm.groups import ScoredGroup
from ragdro.lm.model import LanguageModel
from ragdro.lm.pretrained import pretrained
from ragdro.lm.projections import PROJECTIONS_FILE, saved_projections
from ragdro.lm.scoring import score_all
from ragdro.lm.tree import Ints
from ragdro.prompts import PromptTemplate, load_template
from ragdro.prompts.template import Budget
from ragdro.selection.inclusion import likeliest
from ragdro.selection.rerank import Reranking, rerank
from ragdro.types import Candidates, Draw, Permutation, Question, Selection, Task

_ONE_QUESTION = 1
"""A budget of tokens that puts each question into a batch of its own."""
_CLASSES = {
    "list": ("ragdro.selection.list_selector", "ListSelector"),
    "pointer": ("ragdro.selection.pointer", "PointerSelector"),
}


class Selector(ABC):
    """`model` behind the prompt `template`; selects `k` of up to `n` candidates.

    Of a question with fewer than k candidates all are ordered; a list of one candidate is certain (log p 0).
    `independent`: `greedy` gives the k likeliest first choices instead of a list (`objective: marginal`).
    `stop`: it may select fewer than k.
    """

    kind: ClassVar[str]

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
            raise ConfigError(f"selector.k: K = {k} cannot be selected out of N = {n} candidates")
        self.model = model
        self.template = template
        self.k = k
        self.n = n
        self.budget = budget
        self.independent = independent
        self.stop = stop
        self.round_ks: tuple[int, ...] = ()  # where a question is asked more than once
        self._grows = False

    @classmethod
    def from_pretrained(
        cls,
        path_or_name: str | Path,
        k: int = 5,
        *,
        n: int | None = None,
        prompt: str | None = None,
        question_tokens: int = 256,
        passage_tokens: int = 256,
        stop: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> Selector:
        """A selector of `k` passages, ready to `rerank`: a checkpoint folder, a hub name or a `tiny:` name.

        Which kind it is follows from what was saved: a pointer's folder holds its projections. (Called on
        `PointerSelector` it is a pointer in any case, with new projections where there are none.)
        `n`: the most passages that a question may have (None: as many as come). `prompt`: a template by name,
        or the path of a YAML file (None: the kind's own). A question longer than `question_tokens` and a
        passage (title and text) longer than `passage_tokens` are cut. `stop`: it may select fewer than k. The
        rest is in `ragdro.lm.pretrained`. Raises `ModelError` for what cannot be loaded, `ConfigError` for a
        value out of range or an unknown template.
        """
        if k < 1:
            raise ConfigError(f"k: at least 1 passage has to be selected, not {k}")
        budget = Budget(question_tokens, passage_tokens)
        named = None if prompt is None else load_template(prompt)
        model = pretrained(
            path_or_name, device=device, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code
        )
        saved = saved_projections(str(path_or_name), model.width, model.heads, revision)
        if saved is not None:
            model.projections = saved.to(model.device)
        made_of = cls if cls is not Selector else selector_class("list" if saved is None else "pointer")
        if saved is not None and made_of.kind != "pointer":
            raise ModelError(
                f"{path_or_name}: holds a pointer's projections ({PROJECTIONS_FILE}); load it with"
                " PointerSelector.from_pretrained"
            )
        template = named or load_template(made_of.kind if made_of.kind != "list" else "selector")
        made = made_of(model, template, k=k, n=max(k, 20) if n is None else n, budget=budget, stop=stop)
        made._grows = n is None
        return made

    def in_round(self, number: int) -> Selector:
        """The same selector, which selects that round's K (from 1)."""
        other = copy(self)
        other.k = self.round_ks[number - 1]
        return other

    def list_length(self, candidates: Candidates) -> int:
        """How many are selected (with `stop`, at most): K, or all where there are fewer."""
        return min(self.k, len(candidates.passages))

    @abstractmethod
    def prompt(self, task: Task) -> Ints:
        """The prompt's token ids. Raises `RetrievalError` for no candidates or more than N, `ConfigError` for
        a prompt that the model has no positions for."""

    def room(self, candidates: int) -> int:
        """How many tokens may be written behind the prompt of so many candidates."""
        return 0

    @abstractmethod
    def group(self, task: Task, permutations: Sequence[Permutation]) -> ScoredGroup:
        """What gives log p(z|x) of a question's permutations, one each, with gradients where they are on."""

    def taught(self, task: Task, permutation: Permutation, *, whole: bool) -> ScoredGroup:
        """What the warm-up fits to a teacher's permutation; `whole`: to all tokens of the prompt too, where
        the selector writes tokens."""
        return self.group(task, [permutation])

    def log_prob(self, task: Task, permutations: Sequence[Permutation], max_tokens: int) -> list[float]:
        """log p(z|x) of each permutation, in nats, without gradients."""
        return score_all(self.model, [self.group(task, permutations)], max_tokens)[0]

    @abstractmethod
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
        steps as a list may take (`choices_per_list`). Who draws them decides what is shared: the
        outcome of a question depends on its own numbers alone, not on the batch it is in. `decoder` says what
        is drawn from: with another engine's, `log_prior` is the engine's too.
        """

    @abstractmethod
    def survey(
        self, tasks: Sequence[Task], uniforms: Sequence[np.ndarray], max_tokens: int
    ) -> list[tuple[Selection, list[float], list[Draw]]]:
        """Of each question what `greedy` selects, log p of being chosen first (nats) of every candidate, and
        what `sample` draws at temperature 1 (see there), from one reading of it all."""

    def select_and_sample(
        self, tasks: Sequence[Task], uniforms: Sequence[np.ndarray], max_tokens: int
    ) -> list[tuple[Selection, list[Draw]]]:
        """What `greedy` selects and what `sample` draws at temperature 1, from one reading of the prompt."""
        surveyed = self.survey(tasks, uniforms, max_tokens)
        return [(selection, draws) for selection, _, draws in surveyed]

    @abstractmethod
    def first_choices(self, tasks: Sequence[Task], max_tokens: int) -> list[list[float]]:
        """log p of being chosen first (nats), for each candidate of each question; they sum to 1."""

    def greedy(
        self, tasks: Sequence[Task], max_tokens: int, decoder: DecoderOf = branch_decoder
    ) -> list[Selection]:
        """The list that takes the most probable candidate at each place (ties: the lowest index), with the
        probability of each given those before it.

        With `stop`, a list ends where ending is at least as probable as going on.
        """
        if self.independent:
            return [self._top(log_p) for log_p in self.first_choices(tasks, max_tokens)]
        return self._greedy(tasks, max_tokens, decoder)

    @abstractmethod
    def _greedy(self, tasks: Sequence[Task], max_tokens: int, decoder: DecoderOf) -> list[Selection]: ...

    @abstractmethod
    def place_probabilities(
        self, chosen: Sequence[tuple[Task, Permutation]], max_tokens: int
    ) -> list[tuple[float, ...]]:
        """Of each list the probability of each passage where it stands, given those before it."""

    @abstractmethod
    def steps(self, candidates: int) -> int:
        """The most choices that a place of a list of so many candidates can take."""

    @property
    def choices_per_list(self) -> int:
        """The most choices that one list can take."""
        return self.k * self.steps(self.n)

    @abstractmethod
    def rehearse(self, prompt: Ints, rows: int, samples: int, candidates: int) -> Iterator[int]:
        """Compute the most that `sample` may for `rows` questions with this prompt, whatever is drawn; yields
        after each forward pass the bytes of the key-value cache."""

    def rerank(
        self, question: str, passages: Sequence[PassageLike], *, samples: int = 64, seed: int = 0
    ) -> Reranking:
        """The passages in the selector's order, with their probabilities (see `Reranking`).

        First those that it selects, the likeliest at each place (K of them, or all where there are fewer);
        then the others by their probability of being in the list at all. That one is exact where no
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
        if self._grows and len(given) > self.n:
            self._make_room(len(given))
        asked = Question(question, question, ())
        return rerank(self, [Task(asked, Candidates(asked.id, given))], samples, seed, _ONE_QUESTION)[0]

    def _make_room(self, candidates: int) -> None:
        """Read so many candidates at once from here on."""
        self.n = candidates

    def check(self, task: Task) -> None:
        """Raises `RetrievalError` for no candidates or more than N."""
        passages = task.candidates.passages
        if not passages:
            raise RetrievalError(f"question '{task.question.id}' has no candidates to select from")
        if len(passages) > self.n:
            raise RetrievalError(
                f"question '{task.question.id}' has {len(passages)} candidates, more than the N = {self.n}"
                " that the selector was made for; give it a larger n (top_n)"
            )

    def _check_length(self, task: Task, longest: int) -> None:
        """Raises `ConfigError` for more tokens than the model has positions for."""
        limit = self.model.max_positions
        if limit is not None and longest > limit:
            raise ConfigError(
                f"selector.passage_tokens: the prompt of question '{task.question.id}' needs {longest} "
                f"tokens, more than the model's {limit} positions; lower passage_tokens or top_n"
            )

    def _top(self, log_p: Sequence[float]) -> Selection:
        best = likeliest(log_p, self.k)
        probabilities = tuple(math.exp(log_p[i]) for i in best)
        return Selection(tuple(best), probabilities, self.k, probability_of="first_choice")


def selector_class(kind: str) -> type[Selector]:
    """The class of `selector.kind`."""
    module, name = _CLASSES[kind]
    kind_class: type[Selector] = getattr(import_module(module), name)
    return kind_class
