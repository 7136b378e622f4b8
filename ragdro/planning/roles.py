"""Whether the models can be loaded and prompted, without loading their weights.

In: a config, a role, a few tasks. Out: `Finding`s, and the bytes that a model's weights take.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ragdro.config import Config
from ragdro.errors import ModelError
from ragdro.hub import Checkpoint, find_checkpoint
from ragdro.lm.load import chat_options, weights_dtype
from ragdro.lm.tokens import TextTokenizer
from ragdro.planning.findings import Finding, check_cuts, sample
from ragdro.planning.stand_in import cut_config, model_config
from ragdro.prompts import PromptTemplate, load_template
from ragdro.prompts.template import Budget
from ragdro.runs.models import settings_of
from ragdro.types import Role, Task

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_NEEDED = {"selector": ("{identifier}", "{text}"), "generator": ("{text}",), "rewriter": ("{text}",)}
_TASKS = 200


def check_model(config: Config, role: Role) -> tuple[Finding, TextTokenizer | None]:
    """Whether the role's model can be loaded, and its tokenizer (None: a model from scratch has none yet).

    Raises `ModelError` for a config or tokenizer that cannot be read, an end token that is not there, or a
    chat template through which texts do not come whole.
    """
    settings = settings_of(config, role)
    hf = model_config(config, role)
    if settings.scratch is not None:
        return Finding(role, "ok", f"a new {hf.model_type} model, random weights"), None
    assert settings.model is not None
    checkpoint = find_checkpoint(settings.model, settings.revision)
    if Path(checkpoint.path).is_dir() and not any(any(Path(checkpoint.path).glob(kind)) for kind in _WEIGHTS):
        return Finding(role, "problem", f"{settings.model}: holds no weights (*.safetensors)"), None
    if type(hf) not in AutoModelForCausalLM._model_mapping and not settings.trust_remote_code:
        return Finding(
            role, "problem", f"{settings.model}: {hf.model_type} is no causal language model"
        ), None
    tokenizer = _tokenizer(config, role, checkpoint)
    chat = "a chat template" if tokenizer.chat is not None else "plain prompts"
    end = tokenizer.hf.convert_ids_to_tokens(tokenizer.end_id)
    return Finding(
        role, "ok", f"{settings.model}: {hf.model_type}, {chat}, answers end with {end}"
    ), tokenizer


def check_prompt(
    config: Config, role: Role, tokenizer: TextTokenizer, tasks: Sequence[Task]
) -> list[Finding]:
    """Whether the role's prompt has every slot, fits the model, and is cut by its limits.

    Raises `ConfigError` for a template that cannot be read.
    """
    settings = settings_of(config, role)
    template = load_template(settings.prompt)
    needed = ("{text}",) if getattr(settings, "kind", "list") == "pointer" else _NEEDED[role]
    missing = [slot for slot in needed if slot not in template.passage]
    if missing:
        text = f"{settings.prompt}: 'passage' has no slot {' and '.join(missing)}, so the model cannot see it"
        return [Finding(f"{role}: prompt", "problem", text)]
    longest = _longest(config, role, template, tokenizer, sample(tasks, _TASKS))
    limit = getattr(model_config(config, role).get_text_config(), "max_position_embeddings", None)
    text = f"{settings.prompt}: every slot is filled; the longest prompt has {longest} tokens"
    if limit is not None and longest > limit:
        text = f"{text}, more than the model's {limit} positions; lower {role}.passage_tokens"
        return [Finding(f"{role}: prompt", "problem", text), check_cuts(role, template.counts)]
    return [Finding(f"{role}: prompt", "ok", text), check_cuts(role, template.counts)]


def parameter_bytes(config: Config, role: Role) -> int:
    """The bytes of the role's whole model, from its config alone. Raises `ModelError`."""
    settings = settings_of(config, role)
    hf = model_config(config, role)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            hf if settings.layers is None else cut_config(hf, settings.layers),
            dtype=weights_dtype(settings, trained=config.trains(role)),
            trust_remote_code=settings.trust_remote_code,
        )
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _tokenizer(config: Config, role: Role, checkpoint: Checkpoint) -> TextTokenizer:
    settings = settings_of(config, role)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.path,
            revision=settings.revision,
            trust_remote_code=settings.trust_remote_code,
            local_files_only=checkpoint.local,
        )
    except (OSError, ValueError, KeyError) as error:
        cause = " ".join(str(error).split())[:200]
        raise ModelError(f"{settings.model}: its tokenizer cannot be loaded: {cause}") from error
    return TextTokenizer(tokenizer, name=settings.model or role, chat=chat_options(settings))


def _longest(
    config: Config, role: Role, template: PromptTemplate, tokenizer: TextTokenizer, tasks: Sequence[Task]
) -> int:
    """The tokens of the longest prompt with what is written behind it; counts what is cut in `template`."""
    settings, ks = settings_of(config, role), config.retrieval.selected(config.selector.k)
    budget = Budget(settings.question_tokens, settings.passage_tokens)
    longest = 0
    for task in tasks:
        passages, k, behind = task.candidates.passages, ks[0], 0
        if role == "generator":
            k, behind = sum(ks), config.generator.answer_tokens + 1 + config.generator.think
            _count_answer(template, tokenizer, task, config.generator.answer_tokens)
        elif role == "rewriter" and config.rewriter is not None:
            k, behind = sum(ks[:-1]), config.rewriter.query_tokens
        if role != "selector":
            passages = passages[:k]
        ids = template.encode(tokenizer, task.question.question, passages, min(k, len(passages)), budget)
        longest = max(longest, len(ids) + behind)
    return longest


def _count_answer(template: PromptTemplate, tokenizer: TextTokenizer, task: Task, limit: int) -> None:
    for answer in task.question.answers[:1]:
        template.counts.answers += 1
        template.counts.answers_cut += tokenizer.length(answer) > limit
