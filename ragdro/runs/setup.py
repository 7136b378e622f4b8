"""From a config to the objects that a run is made of: questions with candidates, both models, the objective.

In: a `Config`. Out: a `Setup`. All input is read and checked here, so that what cannot be used is refused
before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from ragdro.algorithms.base import Algorithm, algorithm_of
from ragdro.config import Config
from ragdro.config.engine import VllmServerEngine
from ragdro.config.models import RewriterSettings
from ragdro.data import load_questions, read_corpus
from ragdro.data.named import named_source
from ragdro.errors import ConfigError
from ragdro.evaluation.evaluate import own_metrics
from ragdro.generation.generator import Generator
from ragdro.lm.engines import open_engine
from ragdro.lm.engines.base import Engine
from ragdro.lm.model import LanguageModel
from ragdro.lm.quantised import bitsandbytes
from ragdro.lm.token_store import FILES, TokenStore, token_stores
from ragdro.parallel.world import broadcast_from_rank0, visible
from ragdro.parallel.zero import require_deepspeed
from ragdro.profiling import phase
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.retrieval.cache import found_candidates
from ragdro.retrieval.candidates import read_candidates
from ragdro.retrieval.corrupt import corrupt
from ragdro.retrieval.queries import Find
from ragdro.rewriting.asking import Asking
from ragdro.rewriting.rewriter import Rewriter
from ragdro.runs.models import load_pair, load_rewriter
from ragdro.runs.searching import OwnRetriever
from ragdro.runs.trackers import require_trackers
from ragdro.runs.warm_start import WarmStart, warm_start
from ragdro.selection.selector import Selector, selector_class
from ragdro.sources import resolve
from ragdro.system import Rag, Retrieve
from ragdro.training.limits import refuse_long_prompts
from ragdro.training.tasks import Splits
from ragdro.types import Candidates, Task


@dataclass(frozen=True, slots=True)
class Setup:
    """The system, the objective, the splits (`test` is None where the config names none) what samples in the
    E-step, and the other run's pair that it starts from, if any."""

    rag: Rag
    algorithm: Algorithm
    train: list[Task]
    validation: list[Task]
    test: list[Task] | None
    engine: Engine
    warm_start: WarmStart | None

    @property
    def splits(self) -> Splits:
        """The training, validation and test questions."""
        return self.train, self.validation, self.test


def set_up(config: Config, checkpoint: Path | None = None) -> Setup:
    """Read, retrieve, load: new models, or those in `checkpoint`, of a run that is extended. Raises a
    `RagdroError` naming whatever cannot be used."""
    algorithm = algorithm_of(config)
    require_trackers(config.report_to)
    _require_teaching(config)
    own_metrics(config.evaluation.metrics)
    engine = _engine(config)
    _require_optimisers(config)
    require_deepspeed(config)
    start = warm_start(config) if checkpoint is None else None
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    splits = load_splits(config)
    rag = build_rag(config, checkpoint if start is None else start.checkpoint)
    prepare(config, rag, splits)
    return Setup(rag, algorithm, *splits, engine, start)


def prepare(config: Config, rag: Rag, splits: Splits) -> None:
    """Tokenise what users wrote in these questions and their candidates, once. Raises what
    `refuse_long_prompts` raises."""
    train, validation, test = splits
    tasks = [*train, *validation, *(test or [])]
    _tokenise(rag, tasks, Path(config.cache))
    broadcast_from_rank0(partial(refuse_long_prompts, rag.selector, tasks))


def load_splits(config: Config) -> Splits:
    """The training, validation and test questions (None: the config names none), with their candidates."""
    data = config.data
    train = load_tasks(config, data.train)[: data.train_questions]
    validation = load_tasks(config, data.validation)[: config.evaluation.questions]
    test = None if data.test is None else load_tasks(config, data.test)[: config.evaluation.questions]
    return train, validation, test


@phase("retrieve")
def load_tasks(config: Config, source: str) -> list[Task]:
    """The questions of a source with their candidates (cached). Every question needs an answer."""
    data = config.data
    key = next((f"data.{k}" for k in ("train", "validation", "test") if getattr(data, k) == source), "data")
    questions = load_questions(named_source(source, key), skip_bad=data.skip_bad, fields=data.names)
    corpus = None if data.corpus is None else named_source(data.corpus, "data.corpus")
    searched = broadcast_from_rank0(
        partial(
            found_candidates,
            questions,
            corpus,
            config.retriever,
            config.top_n,
            Path(config.cache),
            show_progress=True,
            fields=data.names,
        )
    )
    candidates = list(read_candidates(visible(searched))) if isinstance(searched, Path) else searched
    worse = corruption(config)
    return [Task(q, worse(c)) for q, c in zip(questions, candidates, strict=True)]


def corruption(config: Config) -> Callable[[Candidates], Candidates]:
    """What `corrupt` makes of a question's candidates. Raises `ConfigError` where there is no corpus."""
    if not config.corrupt_candidates:
        return lambda candidates: candidates
    if config.data.corpus is None:
        raise ConfigError("corrupt_candidates: needs data.corpus, to take other passages from")
    corpus = list(read_corpus(resolve(config.data.corpus), fields=config.data.names))
    return lambda candidates: corrupt(candidates, config.corrupt_candidates, corpus, config.seed)


def build_rag(
    config: Config,
    checkpoint: Path | None = None,
    retrieve: Retrieve | None = None,
    find: Find | None = None,
) -> Rag:
    """The system with new models, or with those saved in `checkpoint`. `find`: what queries search, where the
    config asks more than once (None: the config's own retriever)."""
    selector, generator = behind_prompts(config, *load_pair(config, checkpoint))
    return Rag(
        selector,
        generator,
        retrieve,
        config.evaluation.max_tokens_per_micro_batch,
        selects=algorithm_of(config).selects,
        asking=_asking(config, checkpoint, selector, find),
    )


def _asking(config: Config, checkpoint: Path | None, selector: Selector, find: Find | None) -> Asking | None:
    """What asks again, where the config has a rewriter."""
    settings = config.rewriter
    if settings is None:
        return None
    rewriter = rewriter_behind_prompt(settings, load_rewriter(config, checkpoint, selector.model))
    return Asking(rewriter, find or OwnRetriever(config).find, config.retrieval, selector)


def rewriter_behind_prompt(settings: RewriterSettings, model: LanguageModel) -> Rewriter:
    """The rewriter that its part of a config describes."""
    return Rewriter(
        model,
        load_template(settings.prompt),
        budget=Budget(settings.question_tokens, settings.passage_tokens),
        query_tokens=settings.query_tokens,
    )


def behind_prompts(
    config: Config, selector: LanguageModel, generator: LanguageModel
) -> tuple[Selector, Generator]:
    """Both models as the roles that the config describes."""
    of_selector, of_generator = config.selector, config.generator
    return (
        selector_class(of_selector.kind)(
            selector,
            load_template(of_selector.prompt),
            k=of_selector.k,
            n=config.top_n,
            budget=Budget(of_selector.question_tokens, of_selector.passage_tokens),
            independent=algorithm_of(config).independent,
            stop=of_selector.stop,
        ),
        Generator(
            generator,
            load_template(of_generator.prompt),
            budget=Budget(of_generator.question_tokens, of_generator.passage_tokens),
            answer_tokens=of_generator.answer_tokens,
            order=of_generator.order,
            passage_attention=of_generator.passage_attention,
            passage_memory=of_generator.passage_memory,
            full_layers=of_generator.full_layers,
            link_tokens=of_generator.link_tokens,
            linked=of_generator.linked,
            think=of_generator.think,
        ),
    )


def _engine(config: Config) -> Engine:
    """What samples in the E-step. Raises `ConfigError` for what it needs and is not here."""
    if isinstance(config.e_step.engine, VllmServerEngine):
        try:
            from ragdro.runs.vllm_server import VllmServer
        except ImportError as error:
            raise ConfigError(f"e_step.engine: needs httpx (pip install 'ragdro[http]'): {error}") from error
        return VllmServer(config)
    return open_engine(
        config.e_step.engine,
        Path(config.cache) / "engines" / config.name,
        trust_remote_code=config.selector.trust_remote_code,
    )


def _require_teaching(config: Config) -> None:
    """Raises `ConfigError` where the retriever is to be trained on the way and a library for that is not
    installed."""
    if getattr(config.retriever, "train_every", None) is None:
        return
    missing = [
        name for name in ("sentence_transformers", "datasets", "accelerate") if find_spec(name) is None
    ]
    if missing:
        raise ConfigError(
            f"retriever.train_every: needs {' and '.join(missing)}, not installed: pip install"
            " 'ragdro[retriever]'"
        )


def _require_optimisers(config: Config) -> None:
    """Raises `ConfigError` naming the key of an optimiser whose library is not installed."""
    for stage, fits in (("warm_up", config.warm_up), ("m_step", config.m_step)):
        for role in config.roles:
            settings = getattr(fits, role)
            if settings is not None and settings.optimiser != "adamw":
                bitsandbytes(f"{stage}.{role}.optimiser: {settings.optimiser}")


@phase("tokenise")
def _tokenise(rag: Rag, tasks: Sequence[Task], cache: Path) -> None:
    """Have the tokenizers look up what users wrote in these tasks: one process tokenises it, once, and keeps
    it in the cache."""
    models = [rag.selector.model, rag.generator.model]
    if rag.asking is not None:
        models.append(rag.asking.rewriter.model)
    tokenizers = [model.tokenizer for model in models]

    def stored() -> list[Path]:
        texts = {task.question.question for task in tasks}
        for task in tasks:
            for passage in task.candidates.passages:
                texts |= {passage.title, passage.text}
        return token_stores(tokenizers, texts, cache)

    for tokenizer, folder in zip(tokenizers, broadcast_from_rank0(stored), strict=True):
        for name in FILES:
            visible(folder / name)
        tokenizer.memory = TokenStore(folder).get
