"""A world of paths small enough to enumerate: six passages, two rounds of two, three things to find.

A query is one word of a vocabulary of about thirty. By its number a word finds one of three lists of four
passages, or nothing; `ENOUGH` stops. `Exact` sums over all paths in float64, from plain forward passes of
whole sequences and nothing of the product's own scoring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations

import torch
from torch import Tensor

from ragdro.config.retrieval import Retrieval
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.lm.tree import ScoredSequence
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.rewriting.asking import Asking
from ragdro.rewriting.rewriter import Rewriter
from ragdro.selection.list_selector import ListSelector
from ragdro.system import Rag
from ragdro.types import ENOUGH, Candidates, Passage, Permutation, Question, QuestionPath, Task
from tests.conftest import random_model, word_level
from tests.invariant.by_hand import Enumerated, textbook_all

SENTENCES = [
    "Passages: Question: where is Bo? Selection: [1] > [2] > [3] > [4] > [5] > [6] Find: Answer",
    "Bo is by the lake. the mill the inn the gate the tower the bridge",
]
PASSAGES = tuple(
    Passage(word, word, f"Bo is by the {word}") for word in ("lake", "mill", "inn", "gate", "tower", "bridge")
)
FOUND = ((0, 1, 2, 3), (2, 3, 4, 5), (5, 4, 1, 0))
"""What the three kinds of queries find; the fourth finds nothing."""
NOTHING = 3
TASK = Task(Question("q", "where is Bo?", ("the mill",)), Candidates("q", PASSAGES))
Choices = tuple[Permutation, int, Permutation]
"""A path: its first list, what its query finds, its second list (of the candidates left)."""


def kind_of(text: str) -> int:
    """Which of the lists a query finds."""
    words = sorted(set(" ".join(SENTENCES).replace("[", " [ ").replace("]", " ] ").split()))
    if not text.strip() or text == ENOUGH or text not in words:
        return NOTHING
    return words.index(text) % 4


def find(texts: Sequence[str], top_n: int) -> list[Candidates]:
    """The world's retriever."""
    kinds = [kind_of(text) for text in texts]
    found = [() if kind == NOTHING else tuple(PASSAGES[i] for i in FOUND[kind]) for kind in kinds]
    return [Candidates(str(i), passages[:top_n]) for i, passages in enumerate(found)]


def path_rag(
    seed: int = 0,
    ks: tuple[int, ...] | None = None,
    *,
    stop: bool = False,
    think: int = 0,
    retrieval: Retrieval | None = None,
) -> Rag:
    """Three random models of different seeds. `ks`: how many each round selects, with `stop` at most;
    `think`: tokens before the answer; `retrieval`: in place of two rounds."""
    budget, tokenizer = Budget(12, 12), word_level(SENTENCES)
    chooser, reader, writer = (random_model(tokenizer, seed=3 * seed + i) for i in range(3))
    template = load_template("tiny-selector")
    if ks is not None:  # the prompt says how many, as those for pretrained models do
        template = replace(template, user=template.user.replace("Selection:", "[{k}] Selection:"))
    selector = ListSelector(chooser, template, k=2, n=6, budget=budget, stop=stop)
    asked = load_template("tiny-thinking" if think else "tiny-generator")
    generator = Generator(reader, asked, budget=budget, answer_tokens=6, think=think)
    rewriter = Rewriter(writer, load_template("tiny-rewriter"), budget=budget, query_tokens=1)
    asking = Asking(rewriter, find, retrieval or Retrieval(rounds=2, k=ks, stop=True), selector)
    return Rag(selector, generator, asking=asking)


def choices_of(path: QuestionPath) -> Choices:
    """What the product's path decided, as `Exact` has it."""
    first, second = path.rounds
    kind = kind_of(second.query) if second.permutation else NOTHING
    return first.permutation, kind, second.permutation


def left(first: Permutation, kind: int) -> tuple[Passage, ...]:
    """What a query of a kind finds that the first list has not read."""
    return () if kind == NOTHING else tuple(PASSAGES[i] for i in FOUND[kind] if i not in first)


@dataclass(frozen=True)
class Exact(Enumerated):
    """All paths with their log p(h|x) and log p(y|x,h), and log p of every word as a query, by first list."""

    paths: list[Choices]
    prior: Tensor
    likelihood: Tensor
    words: dict[Permutation, Tensor]


def enumerate_paths(rag: Rag) -> Exact:
    """Every path of `TASK`, with gradients; the models are float64 from here on."""
    assert rag.asking is not None and isinstance(rag.selector, ListSelector)
    selector, rewriter = rag.selector, rag.asking.rewriter
    chooser, reader, writer = (m.hf.double() for m in (selector.model, rag.generator.model, rewriter.model))
    firsts = list(permutations(range(6), 2))
    log_first = textbook_all(chooser, [selector.scored(TASK, z) for z in firsts])
    words = _words(writer, rewriter, firsts)
    kinds = _kinds(rewriter)
    paths = list[Choices]()
    log_queries, states = list[Tensor](), list[ScoredSequence | None]()
    for first in firsts:
        read = tuple(PASSAGES[i] for i in first)
        for kind in range(4):
            task = Task(TASK.question, Candidates("q", left(first, kind)), read)
            seconds = list(permutations(range(len(task.candidates.passages)), 2)) or [()]
            log_query = words[first][kinds == kind].logsumexp(0)
            for second in seconds:
                paths.append((first, kind, second))
                log_queries.append(log_query)
                states.append(selector.scored(task, second) if second else None)
    scored = [s for s in states if s is not None]
    second_values = iter(textbook_all(chooser, scored))
    log_second = torch.stack(
        [torch.zeros((), dtype=torch.float64) if s is None else next(second_values) for s in states]
    )
    by_first = dict(zip(firsts, log_first, strict=True))
    prior = torch.stack([by_first[first] for first, _, _ in paths]) + torch.stack(log_queries) + log_second
    readings = [Reading(TASK.question, read_of(path)) for path in paths]
    distinct = {tuple(p.id for p in r.passages): r for r in readings}
    values = textbook_all(reader, [rag.generator.scored(r) for r in distinct.values()])
    by_reading = dict(zip(distinct, values, strict=True))
    likelihood = torch.stack([by_reading[tuple(p.id for p in r.passages)] for r in readings])
    return Exact(paths, prior, likelihood, words)


def read_of(path: Choices) -> tuple[Passage, ...]:
    """What a path reads, in order."""
    first, kind, second = path
    found = left(first, kind)
    return (*(PASSAGES[i] for i in first), *(found[i] for i in second))


def _words(
    writer: torch.nn.Module, rewriter: Rewriter, firsts: Sequence[Permutation]
) -> dict[Permutation, Tensor]:
    readings = [Reading(TASK.question, tuple(PASSAGES[i] for i in z)) for z in firsts]
    ids = torch.stack([torch.from_numpy(rewriter.prompt(r)) for r in readings])
    return dict(zip(firsts, writer(input_ids=ids).logits[:, -1].log_softmax(-1), strict=True))


def _kinds(rewriter: Rewriter) -> Tensor:
    """What each word of the vocabulary finds as a query."""
    size, decode = rewriter.model.hf.config.vocab_size, rewriter.model.tokenizer.decode
    return torch.tensor([kind_of(decode([i])) for i in range(size)])


@cache
def exact(seed: int = 0) -> Exact:
    """The same without gradients."""
    with torch.no_grad():
        return enumerate_paths(path_rag(seed))
