"""A pair of models of the right shapes and questions of the greatest length, made from a config alone.

In: a `Config` and, optionally, a depth. Out: a selector and a generator whose weights are random (inside
`ragdro.planning.live.without_data`: none at all), and tasks in which every question, passage and answer
takes all the tokens that the config allows it. The tokenizer is trained on the prompts, so that a prompt's
own words are about as many tokens as with the model's.
"""

from __future__ import annotations

import copy
from unittest.mock import patch

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

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
from ragdro.runs.models import settings_of
from ragdro.runs.setup import behind_prompts
from ragdro.selection.selector import Selector
from ragdro.types import Candidates, Passage, Permutation, Question, Role, Task, Thought

_VOCABULARY = 1024


def model_config(config: Config, role: Role) -> PretrainedConfig:
    """The Hugging Face config of a role's model. Raises `ModelError` where it has none."""
    settings = settings_of(config, role)
    if settings.scratch is not None:
        return make_config(settings.scratch, settings.scratch.vocabulary)
    assert settings.model is not None
    at = find_checkpoint(settings.model, settings.revision)
    try:
        return AutoConfig.from_pretrained(
            at.path,
            revision=settings.revision,
            local_files_only=at.local,
            trust_remote_code=settings.trust_remote_code,
        )
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{settings.model}: its config cannot be read: {reason}") from error


def stand_in_pair(
    config: Config, device: torch.device, layers: dict[Role, int]
) -> tuple[Selector, Generator]:
    """Both roles with `layers` decoder layers, on the CPU; `device` decides what `amp: auto` comes to."""
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
    return chooser, reader


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
    words = (
        max(max(s.question_tokens, s.passage_tokens) for s in (config.selector, config.generator))
        + config.generator.answer_tokens
    )
    tasks = []
    for i in range(count):
        passages = tuple(
            Passage(f"{i}-{j}", f"{j}", f"{j} " + "passage " * words) for j in range(config.top_n)
        )
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
    """m distinct lists for each of `count` questions, with as little in common as there can be: while there
    are candidates, no two begin with the same one."""
    n, k = config.top_n, config.selector.k
    steps = (tuple((first + i * by) % n for i in range(k)) for by in range(1, n) for first in range(n))
    lists = [z for z in steps if len(set(z)) == k]
    return [lists[: config.e_step.samples]] * count
