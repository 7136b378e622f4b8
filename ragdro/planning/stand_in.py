"""Models of the right shapes and questions of the greatest length, made from a config alone.

In: a `Config` and, optionally, a depth. Out: a selector, a generator and, where there is one, a rewriter
whose weights are random (inside `ragdro.planning.live.without_data`: none at all), and tasks with samples in
which every question, passage, query and answer takes all the tokens that the config allows it. The tokenizer
is trained on the prompts, so that a prompt's own words are about as many tokens as with the model's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from unittest.mock import patch

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from ragdro.algorithms.base import algorithm_of
from ragdro.config import Config
from ragdro.errors import ModelError
from ragdro.generation.generator import Generator
from ragdro.hub import find_checkpoint
from ragdro.lm.adapters import with_adapter
from ragdro.lm.head import LogitTransform
from ragdro.lm.heads import HeadWeights
from ragdro.lm.load import autocast_dtype, weights_dtype
from ragdro.lm.model import LanguageModel
from ragdro.lm.projections import Projections
from ragdro.lm.scratch import make_config, train_tokenizer
from ragdro.lm.tokens import TextTokenizer
from ragdro.prompts import load_template
from ragdro.rewriting.paths import pooled
from ragdro.rewriting.rewriter import Rewriter
from ragdro.runs.models import settings_of
from ragdro.runs.setup import behind_prompts, rewriter_behind_prompt
from ragdro.selection.selector import Selector
from ragdro.types import (
    Candidates,
    Passage,
    Permutation,
    Question,
    QuestionPath,
    Role,
    Round,
    Task,
    Thought,
    WeightedSample,
    WeightedTask,
)

_VOCABULARY = 1024


def model_config(config: Config, role: Role) -> PretrainedConfig:
    """The Hugging Face config of a role's model. Raises `ModelError` where it has none."""
    settings = settings_of(config, role)
    if settings.scratch is not None:
        return make_config(settings.scratch, settings.scratch.vocabulary)
    assert settings.model is not None
    checkpoint = find_checkpoint(settings.model, settings.revision)
    try:
        return AutoConfig.from_pretrained(
            checkpoint.path,
            revision=settings.revision,
            local_files_only=checkpoint.local,
            trust_remote_code=settings.trust_remote_code,
        )
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{settings.model}: its config cannot be read: {reason}") from error


class StandIn(NamedTuple):
    """The models behind their prompts; `rewriter`: None where a question is asked once."""

    selector: Selector
    generator: Generator
    rewriter: Rewriter | None


def stand_in(config: Config, device: torch.device, layers: Mapping[Role, int]) -> StandIn:
    """Every role with `layers` decoder layers, on the CPU; `device` decides what `amp: auto` comes to."""
    selector = _model(config, "selector", device, layers["selector"])
    if config.selector.kind == "pointer":
        pointer = config.selector.pointer
        by_heads = pointer.score == "attention"
        selector.projections = (
            HeadWeights(selector.heads) if by_heads else Projections(selector.width, pointer.width)
        )
        if pointer.frozen:
            selector.hf.requires_grad_(False)
    shared = selector if config.shared_backbone else None
    generator = _model(config, "generator", device, layers["generator"], shared)
    whole = config.selector.model_copy(update={"stop": False})  # the worst: no list ends early
    chooser, reader = behind_prompts(config.model_copy(update={"selector": whole}), selector, generator)
    reader.template.counts.answers_cut = 1  # answers here are cut on purpose: that warns of nothing
    if config.rewriter is None:
        return StandIn(chooser, reader, None)
    chooser.round_ks = config.retrieval.selected(config.selector.k)
    model = _model(config, "rewriter", device, layers["rewriter"], shared)
    return StandIn(chooser, reader, rewriter_behind_prompt(config.rewriter, model))


def _model(
    config: Config, role: Role, device: torch.device, layers: int, shared: LanguageModel | None = None
) -> LanguageModel:
    settings = settings_of(config, role)
    base = shared
    if base is None:
        hf = AutoModelForCausalLM.from_config(
            cut_config(model_config(config, role), layers),
            dtype=weights_dtype(settings, trained=config.trains(role)),
            attn_implementation=settings.attention,
            trust_remote_code=settings.trust_remote_code,
        ).eval()
        if settings.gradient_checkpointing:
            hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        template = load_template(settings.prompt)
        words = [template.user, template.passage, *filter(None, [template.answer])]
        tokenizer = train_tokenizer(words * 9, _VOCABULARY)
        computed = autocast_dtype(settings, device, trained=config.trains(role))
        base = LanguageModel(hf, TextTokenizer(tokenizer, name=role), computed)
    model = base
    if settings.adapter is not None:
        # PEFT moves what it adds, by swapping parameters, which those without data do not allow.
        with patch.object(torch.nn.Module, "to", lambda module, *_, **__: module):
            model = with_adapter(base, role, settings.adapter, seed=0)
    # A run checks that sharing is exact; it nearly always is.
    model.shares_prefixes = model.shares_blocks = model.shares_cache = True
    model.batches_attention = device.type == "cuda"
    model.logit_transform = LogitTransform()
    return model


def cut_config(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The config with its first `layers` layers alone."""
    config = copy.deepcopy(config)
    inner = config.get_text_config()
    inner.num_hidden_layers = layers
    if getattr(inner, "layer_types", None):
        inner.layer_types = inner.layer_types[:layers]
    return config


def longest_tasks(config: Config, count: int) -> list[Task]:
    """`count` questions whose texts all fill their budgets; no two passages of a question begin alike."""
    words = _words(config)
    tasks = []
    for i in range(count):
        passages = tuple(_passage(i, j, words) for j in range(config.top_n))
        question = Question(f"{i}", f"{i} " + "question " * words, ("answer " * words,))
        tasks.append(Task(question, Candidates(question.id, passages)))
    return tasks


def longest_thought(generator: Generator) -> Thought | None:
    """A thought that is as long as it may be and has not ended; None of a generator that does not think."""
    if generator.thinking is None:
        return None
    word = generator.model.tokenizer.template("x")[0]
    return Thought("", (word,) * generator.thinking.most, 0.0, 0.0)


def unlike_lists(config: Config, count: int) -> list[list[Permutation]]:
    """For each of `count` questions as many distinct lists as an E-step of its objective weights at most (m,
    and those that are replayed), with as little in common as there can be: while there are candidates, no two
    begin with the same one."""
    objective, step = algorithm_of(config), config.e_step
    lists = step.samples * (1 + step.replay)
    if not objective.draws_lists:
        lists = objective.answers_scored(step.samples, config.top_n)
    return [_unlike(config.top_n, 1 if objective.independent else config.selector.k, lists)] * count


def longest_samples(config: Config, number: int = 0) -> WeightedTask:
    """The longest question of that `number` with its samples, alike in nothing where that can be: lists, or
    paths of which each asks, finds and reads something else. All weights are alike."""
    (task,), m = longest_tasks(config, number + 1)[number:], config.e_step.samples
    if config.rewriter is None:
        lists = unlike_lists(config, 1)[0]
        return _weighted(task, [WeightedSample(z, 1, 0.0, 0.0, 0.0, 1 / len(lists)) for z in lists])
    paths = _unlike_paths(config, task, number, m)
    whole, permutations = pooled(task, paths)
    return _weighted(
        whole,
        [
            WeightedSample(z, 1, 0.0, 0.0, 0.0, 1 / m, path=path)
            for z, path in zip(permutations, paths, strict=True)
        ],
    )


def _weighted(task: Task, samples: Sequence[WeightedSample]) -> WeightedTask:
    return WeightedTask(task, tuple(samples), 0.0, float(len(samples)), False)


def _unlike(n: int, k: int, count: int) -> list[Permutation]:
    """At most `count` distinct lists of k out of n."""
    steps = (tuple((first + i * by) % n for i in range(k)) for by in range(1, n + 1) for first in range(n))
    distinct = dict.fromkeys(z for z in steps if len(set(z)) == k)
    return list(distinct)[:count]


def _unlike_paths(config: Config, task: Task, number: int, count: int) -> list[QuestionPath]:
    """Paths of all rounds: the first lists differ where there are as many, every query does, and each finds N
    passages that were not read."""
    assert config.rewriter is not None
    ks, words = config.retrieval.selected(config.selector.k), _words(config)
    further = tuple(_passage(number, j, words) for j in range(config.top_n, config.top_n + sum(ks)))
    lists, paths = _unlike(config.top_n, ks[0], count), list[QuestionPath]()
    for i in range(count):
        written = (i,) * config.rewriter.query_tokens
        rounds = [Round(task.question.question, (), task.candidates, lists[i % len(lists)])]
        if config.retrieval.rewrite_first:
            own = task.candidates.passages
            turned = Candidates(task.question.id, (*own[i % len(own) :], *own[: i % len(own)]))
            rounds = [Round(str(i), written, turned, tuple(range(ks[0])))]
        for k in ks[1:]:
            read = {passage.id for one in rounds for passage in one.read}
            left = [p for p in (*task.candidates.passages, *further) if p.id not in read]
            candidates = Candidates(task.question.id, tuple(left[: config.top_n]))
            rounds.append(Round(str(i), written, candidates, tuple(range(k))))
        paths.append(QuestionPath(tuple(rounds)))
    return paths


def _words(config: Config) -> int:
    """As many of them as the longest text may have tokens, and more."""
    longest = max(max(s.question_tokens, s.passage_tokens) for s in config.roles.values())
    return longest + config.generator.answer_tokens


def _passage(question: int, number: int, words: int) -> Passage:
    return Passage(f"{question}-{number}", f"{number}", f"{number} " + "passage " * words)
