"""The selector p(z|x): a causal LM that reads the candidates and writes an ordered list of K of them.

In: questions with their candidates. Out: permutations with exact log-probabilities (METHOD: p(z|x) =
prod_t p(z_t | z_<t, x, d)), sampled or greedy, and the scored sequences that training needs. Sampling,
greedy decoding and scoring agree to numerical precision because all three see the same tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ragdro.errors import ConfigError, RetrievalError
from ragdro.lm.batching import batches_by_tokens
from ragdro.lm.decoding import Decoder, branch_decoder
from ragdro.lm.engines.base import DecoderOf
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, choice_table, score_all
from ragdro.lm.tree import Ints, ScoredSequence
from ragdro.profiling import phase
from ragdro.prompts import PromptTemplate
from ragdro.prompts.template import Budget
from ragdro.selection.identifiers import IdentifierGrammar, Walk
from ragdro.types import Permutation, Selection, Task


@dataclass(frozen=True, slots=True)
class Draw:
    """A sampled permutation with log q(z) of the distribution it was drawn from and log p(z|x) (nats)."""

    permutation: Permutation
    log_proposal: float
    log_prior: float


class Selector:
    """`model` behind the list-wise prompt `template`; selects `k` of up to `n` candidates.

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
        self.grammar = IdentifierGrammar(
            model.tokenizer, n, template.output_start(model.tokenizer), stop=stop
        )

    @phase("tokenise")
    def prompt(self, task: Task) -> Ints:
        """The prompt's token ids. Raises `RetrievalError` for fewer than K candidates, `ConfigError` for a
        prompt that the model has no positions for."""
        count = len(task.candidates.passages)
        if count < max(self.k, 2):
            raise RetrievalError(
                f"question '{task.question.id}' has {count} candidates, "
                f"fewer than K = {max(self.k, 2)} to select"
            )
        ids = self.template.encode(
            self.model.tokenizer, task.question.question, task.candidates.passages, self.k, self.budget
        )
        longest = len(ids) + sum(map(len, self.grammar.later[: self.k])) + 1
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
        """A list may be of any length unless it might have gone on: then it must be known how far."""
        return self.grammar.scored(prompt, permutation, candidates, self.k if self.grammar.stop else None)

    def log_prob(self, task: Task, permutations: Sequence[Permutation], tokens_per_batch: int) -> list[float]:
        """log p(z|x) of each permutation, in nats, without gradients."""
        return score_all(self.model, [self.group(task, permutations)], tokens_per_batch)[0]

    def sample(
        self,
        tasks: Sequence[Task],
        uniforms: Sequence[np.ndarray],
        *,
        temperature: float,
        tokens_per_batch: int,
        decoder: DecoderOf = branch_decoder,
    ) -> list[list[Draw]]:
        """m permutations for each question by inverse transform sampling.

        `uniforms[question]` [samples, steps]: numbers in [0, 1) that decide the choices, at least as many
        steps as the grammar has choices (`choices_per_list`). Who draws them decides what is shared: the
        outcome of a question depends on its own numbers alone, not on the batch it is in. `decoder` says what
        is drawn from: with another engine's, `log_prior` is the engine's too.
        """
        pick = partial(_Pick, temperature=temperature, greedy=False)
        return [
            list(map(_draw, row)) for row in self._write(tasks, uniforms, tokens_per_batch, pick, decoder)
        ]

    def select_and_sample(
        self, tasks: Sequence[Task], uniforms: Sequence[np.ndarray], tokens_per_batch: int
    ) -> list[tuple[Selection, list[Draw]]]:
        """What `greedy` selects and what `sample` draws at temperature 1, from one reading of the prompt."""
        rows = self._write(tasks, uniforms, tokens_per_batch, partial(_Pick, temperature=1.0, greedy=True))
        return [(self._selection(first), list(map(_draw, others))) for first, *others in rows]

    def first_choices(self, tasks: Sequence[Task], tokens_per_batch: int) -> list[list[float]]:
        """log p of being chosen first (nats), for each candidate of each question; they sum to 1."""
        groups = [self.group(t, [(i,) for i in range(len(t.candidates.passages))]) for t in tasks]
        return score_all(self.model, groups, tokens_per_batch)

    def greedy(self, tasks: Sequence[Task], tokens_per_batch: int) -> list[Selection]:
        """The list that takes the most probable token at each choice, with each choice's probability."""
        if self.independent:
            return [self._top(log_p) for log_p in self.first_choices(tasks, tokens_per_batch)]
        nothing = [np.empty((0, self.choices_per_list))] * len(tasks)
        rows = self._write(tasks, nothing, tokens_per_batch, partial(_Pick, temperature=1.0, greedy=True))
        return [self._selection(first) for (first,) in rows]

    def _top(self, log_p: Sequence[float]) -> Selection:
        best = likeliest(log_p, self.k)
        return Selection(tuple(best), tuple(math.exp(log_p[i]) for i in best))

    @property
    def choices_per_list(self) -> int:
        """The most choices that one list can take: identifiers of several tokens may choose several times."""
        return self.k * max(map(len, self.grammar.later + self.grammar.first))

    def _selection(self, branch: _Branch) -> Selection:
        chosen = branch.walk.chosen
        return Selection(chosen, tuple(map(math.exp, branch.log_choices[: len(chosen)])), self.k)

    def _write(
        self,
        tasks: Sequence[Task],
        uniforms: Sequence[np.ndarray],
        tokens_per_batch: int,
        pick: Callable[[np.ndarray], _Pick],
        decoder: DecoderOf = branch_decoder,
    ) -> list[list[_Branch]]:
        """The lists of every question, in batches of like length."""
        rows: list[list[_Branch]] = [[] for _ in tasks]
        prompts = [self.prompt(t) for t in tasks]
        for batch in batches_by_tokens([len(p) for p in prompts], tokens_per_batch):
            picked = pick(np.stack([uniforms[i] for i in batch]))
            written = self._decode([tasks[i] for i in batch], [prompts[i] for i in batch], picked, decoder)
            for i, row in zip(batch, written, strict=True):
                rows[i] = row
        return rows

    @phase("decode")
    def _decode(
        self, tasks: Sequence[Task], prompts: Sequence[Ints], pick: _Pick, decoder_of: DecoderOf
    ) -> list[list[_Branch]]:
        """Write the lists of a batch, all branches of all questions one choice a step."""
        rows = [
            [_Branch(self.grammar.walk(len(t.candidates.passages), self.k)) for _ in range(pick.branches)]
            for t in tasks
        ]
        self.model.hf.eval()
        with torch.no_grad():
            decoder = decoder_of(self.model, prompts, pick.branches)
            while any(b.walk.competing is not None for row in rows for b in row):
                decoder.feed(
                    [[b.walk.pending if b.walk.competing is not None else [] for b in r] for r in rows]
                )
                self._choose(decoder, rows, pick)
        return rows

    def _choose(self, decoder: Decoder, rows: list[list[_Branch]], pick: _Pick) -> None:
        """One choice for every branch that is not done."""
        active = [
            (r, b) for r, row in enumerate(rows) for b, x in enumerate(row) if x.walk.competing is not None
        ]
        sets = [c for r, b in active if (c := rows[r][b].walk.competing) is not None]
        choices, allowed, _ = choice_table(sets)
        device = self.model.device
        logits = decoder.choice_logits(
            torch.tensor(active, device=device), choices.to(device), allowed.to(device)
        )
        log_p = logits.cpu().double().log_softmax(-1).numpy()  # some devices have no float64
        columns, log_q = pick(log_p, active)
        ids = choices.numpy()
        for at, (r, b) in enumerate(active):
            rows[r][b].take(int(ids[columns[at]]), float(log_p[at, columns[at]]), float(log_q[at]))


def likeliest(log_p: Sequence[float], count: int | None) -> list[int]:
    """The places of the `count` largest (None: all), the largest first; ties keep their order."""
    return sorted(range(len(log_p)), key=lambda i: -log_p[i])[:count]


class _Branch:
    """One list being written, with its log-probabilities so far."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.log_proposal = 0.0
        self.log_prior = 0.0
        self.log_choices = [0.0] * walk.k

    def take(self, token: int, log_p: float, log_q: float) -> None:
        self.log_choices[len(self.walk.chosen)] += log_p
        self.log_prior += log_p
        self.log_proposal += log_q
        self.walk.take(token)


def _draw(branch: _Branch) -> Draw:
    return Draw(branch.walk.chosen, branch.log_proposal, branch.log_prior)


class _Pick:
    """Inverse transform sampling at a temperature; `uniforms` [questions, samples, steps].

    `greedy` puts a branch before the samples that takes the most probable choice (ties: the lowest token id).
    """

    def __init__(self, uniforms: np.ndarray, *, temperature: float, greedy: bool) -> None:
        self.branches = uniforms.shape[1] + greedy
        self._uniforms = np.pad(uniforms, ((0, 0), (int(greedy), 0), (0, 0)))
        self._greedy = greedy
        self._temperature = temperature
        self._step = 0

    def __call__(self, log_p: np.ndarray, active: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """The column that each active (question, branch) takes, and its log q (0 of a greedy one)."""
        scaled = log_p / self._temperature
        scaled -= scaled.max(-1, keepdims=True)
        q = np.exp(scaled)
        q /= q.sum(-1, keepdims=True)
        where = np.array(active)
        u = self._uniforms[where[:, 0], where[:, 1], self._step]
        self._step += 1
        cumulative = q.cumsum(-1)
        columns = (cumulative <= (u * cumulative[:, -1])[:, None]).sum(-1)
        greedy = self._greedy & (where[:, 1] == 0)
        columns = np.where(greedy, log_p.argmax(-1), columns)
        log_q = np.log(np.take_along_axis(q, columns[:, None], -1)[:, 0])
        return columns, np.where(greedy, 0.0, log_q)
