"""Everything a run needs before its first step: questions with candidates, and both models.

In: a `Config`. Out: a `Prepared` set-up. All input is read and checked here, so that what cannot be used
is refused before anything is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ragdro.config import Config, Marginal, Sft
from ragdro.data import load_questions, read_corpus
from ragdro.errors import ConfigError
from ragdro.generation.generator import Generator
from ragdro.lm.engines import open_engine
from ragdro.lm.engines.base import Engine
from ragdro.lm.model import LanguageModel
from ragdro.lm.token_store import token_store
from ragdro.parallel.world import is_main
from ragdro.parallel.zero import require_deepspeed
from ragdro.profiling import phase
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.rag import Rag, Retrieve
from ragdro.retrieval.cache import cached_candidates
from ragdro.retrieval.degrade import degrade
from ragdro.selection.selector import Selector
from ragdro.sources import resolve
from ragdro.training.models import load_pair
from ragdro.training.optimisers import require_optimisers
from ragdro.training.reporters import require
from ragdro.types import Candidates, Task


@dataclass(frozen=True, slots=True)
class Prepared:
    """The system, the splits (`test` is None where the config names none) and what samples in the E-step."""

    rag: Rag
    train: list[Task]
    validation: list[Task]
    test: list[Task] | None
    engine: Engine

    @property
    def reported(self) -> list[Task]:
        """The questions whose figures are reported."""
        return self.validation if self.test is None else self.test

    def fingerprint(self) -> str:
        """A hash of all questions and of which candidates they have, in order."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test or []):
            for task in split:
                ids = [p.id for p in task.candidates.passages]
                digest.update(json.dumps([task.question.id, task.question.question, ids]).encode())
            digest.update(b"\n")
        return digest.hexdigest()


def prepare(config: Config) -> Prepared:
    """Read, retrieve, load. Raises a `RagdroError` naming whatever cannot be used."""
    require(config.report_to)
    engine = open_engine(config.e_step.engine, Path(config.cache) / "engines" / config.name)
    require_optimisers(config)
    require_deepspeed(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    data = config.data
    train = load_tasks(config, data.train)[: data.train_questions]
    validation = load_tasks(config, data.validation)[: config.evaluation.questions]
    test = None if data.test is None else load_tasks(config, data.test)[: config.evaluation.questions]
    rag = build_rag(config)
    tasks = [*train, *validation, *(test or [])]
    _tokenise(rag, tasks, Path(config.cache))
    for task in tasks:
        rag.selector.prompt(task)
    return Prepared(rag, train, validation, test, engine)


@phase("retrieve")
def load_tasks(config: Config, source: str) -> list[Task]:
    """The questions of a source with their candidates (cached). Every question needs an answer."""
    questions = load_questions(resolve(source), skip_bad=config.data.skip_bad)
    corpus = None if config.data.corpus is None else resolve(config.data.corpus)
    found = cached_candidates(
        questions, corpus, config.retriever, config.top_n, Path(config.cache), show_progress=is_main()
    )
    worse = degradation(config)
    return [Task(q, worse(c)) for q, c in zip(questions, found, strict=True)]


def degradation(config: Config) -> Callable[[Candidates], Candidates]:
    """What `degrade` makes of a question's candidates. Raises `ConfigError` where there is no corpus."""
    if not config.degrade:
        return lambda candidates: candidates
    if config.data.corpus is None:
        raise ConfigError("degrade: needs data.corpus, to take other passages from")
    corpus = list(read_corpus(resolve(config.data.corpus)))
    return lambda candidates: degrade(candidates, config.degrade, corpus, config.seed)


def build_rag(config: Config, checkpoint: Path | None = None, retrieve: Retrieve | None = None) -> Rag:
    """The system with new models, or with those saved in `checkpoint`."""
    selector, generator = behind_prompts(config, *load_pair(config, checkpoint))
    return Rag(
        selector,
        generator,
        retrieve,
        config.evaluation.tokens_per_batch,
        selects=not isinstance(config.objective, Sft),
    )


def behind_prompts(
    config: Config, selector: LanguageModel, generator: LanguageModel
) -> tuple[Selector, Generator]:
    """Both models as the roles that the config describes."""
    chooser, reader = config.selector, config.generator
    return (
        Selector(
            selector,
            load_template(chooser.prompt),
            k=chooser.k,
            n=config.top_n,
            budget=Budget(chooser.question_tokens, chooser.passage_tokens),
            independent=isinstance(config.objective, Marginal),
            stop=chooser.stop,
        ),
        Generator(
            generator,
            load_template(reader.prompt),
            budget=Budget(reader.question_tokens, reader.passage_tokens),
            answer_tokens=reader.answer_tokens,
            order=reader.order,
        ),
    )


@phase("tokenise")
def _tokenise(rag: Rag, tasks: Sequence[Task], cache: Path) -> None:
    """Have both tokenizers look up what users wrote in these tasks, tokenised once and kept in the cache."""
    texts = {task.question.question for task in tasks}
    for task in tasks:
        for passage in task.candidates.passages:
            texts |= {passage.title, passage.text}
    for tokenizer in (rag.selector.model.tokenizer, rag.generator.model.tokenizer):
        tokenizer.memory = token_store(tokenizer, texts, cache).get
