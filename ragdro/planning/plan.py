"""What an iteration will take, before anything is loaded: memory of each phase, tokens and FLOPs.

In: a `Config`, the number of questions of an iteration. Out: for each phase (sampling, the writing of queries
where a question is asked more than once, that of thoughts where they come first, scoring, the update of each
role) the bytes that a device holds at the worst moment, by what they are, and what is computed. Each phase's
own code runs once on tensors without data (`ragdro.planning.live`), at its largest batch, with every text as
long as its budget and no two lists or paths of a question alike. A decoder's layers are alike, so models
deeper than that are run with two and four layers and the difference is carried on to their depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from ragdro.algorithms.base import algorithm_of
from ragdro.algorithms.examples import list_example, query_example
from ragdro.config import Config, Optimisation
from ragdro.errors import ConfigError
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.lm.batching import batches_by_tokens
from ragdro.lm.groups import JoinedGroup, log_probs
from ragdro.lm.load import autocast_dtype, weights_dtype
from ragdro.lm.sampling import rehearse_writing
from ragdro.lm.scoring import SequenceGroup
from ragdro.parallel.zero import zero_stage
from ragdro.planning.labels import with_labels
from ragdro.planning.live import most_bytes, most_bytes_of_steps, without_data
from ragdro.planning.phases import Layers, Phase
from ragdro.planning.side import Side, size
from ragdro.planning.stand_in import longest_samples, longest_thought, model_config, stand_in
from ragdro.rewriting.decisions import Decided, lists_of, queries_of
from ragdro.rewriting.rewriter import Rewriter
from ragdro.runs.models import settings_of
from ragdro.selection.selector import Selector
from ragdro.system import reading
from ragdro.types import Role, WeightedTask

_DEPTHS = (2, 4)
_STATE_BYTES = {"adamw": None, "adamw-8bit": 2.0 + 8 / 256, "paged-adamw-8bit": 2.0 + 8 / 256}
"""An optimiser's bytes a trained number; None: two moments of the number's own dtype."""


def plan(config: Config, questions: int, device: torch.device, processes: int = 1) -> dict[str, Any]:
    """The phases of an iteration over `questions` questions on `device` (which need not be there), memory
    being that of one of `processes` processes with a device each.

    Raises `ModelError` for a model whose config cannot be read, `ConfigError` for prompts that it has no
    positions for, and for DeepSpeed, whose own buffers are not counted here.
    """
    strategy = config.parallel.strategy
    if zero_stage(config.parallel) is not None:
        raise ConfigError(f"parallel.strategy: a plan does not count {strategy}; plan with ddp or fsdp2")
    kept, config = _without_passage_memory(config)
    depths = {role: _depth(config, role) for role in config.roles}
    last = config.generator.full_layers  # those that are not like the others
    upper = {role: min(last + _DEPTHS[1], depth) for role, depth in depths.items()}
    lower = {role: min(most, max(last + 1, min(last + _DEPTHS[0], most - 1))) for role, most in upper.items()}
    first, second = (_phases(config, questions, device, cut, processes) for cut in (lower, upper))
    phases = {}
    for name, steps in first.items():
        role = _ROLE_OF[name]
        more = 1 / max(1, upper[role] - lower[role])
        wholes = []
        for phase, second_phase in zip(steps, second[name], strict=True):
            whole = phase.deeper(second_phase, more * (depths[role] - lower[role]))
            if strategy == "fsdp2" and processes > 1:
                deeper, half = phase.deeper(second_phase, more), _computes_in_half(config, role, device)
                layers = Layers(phase, deeper, depths[role], processes, half)
                whole = layers.sharded(whole) if name.endswith("update") else layers.unsharded(whole)
            wholes.append(whole)
        phases[name] = max(wholes, key=lambda whole: whole.memory)
    weights = {
        _ROLE_OF[name]: phases[name].weights for name in ("sampling", "queries", "scoring") if name in phases
    }
    described = {}
    for name, phase in phases.items():
        beside = [size for role, size in weights.items() if role != _ROLE_OF[name]]
        other = 0.0 if config.shared_backbone else sum(beside)
        values = {**asdict(phase), "weights": phase.weights + other, "passages": kept}
        described[name] = {"memory": phase.memory + other + kept, **values}
    return {
        "questions": questions,
        "queries": questions * config.e_step.samples * config.retrieval.queries,
        "memory": max(p["memory"] for p in described.values()),
        "tokens": sum(p["tokens"] for p in described.values()),
        "flops": sum(p["flops"] for p in described.values()),
        "phases": described,
    }


def _without_passage_memory(config: Config) -> tuple[float, Config]:
    """The most bytes of passages that are kept, in every phase: what a question has left stays until the next
    one is read with other weights. And the config without them."""
    generator = config.generator.model_copy(update={"passage_memory": 0.0})
    return config.generator.passage_memory * 2**30, config.model_copy(update={"generator": generator})


def _depth(config: Config, role: Role) -> int:
    """How many decoder layers the role's model has."""
    layers = settings_of(config, role).layers
    return layers or int(model_config(config, role).get_text_config().num_hidden_layers)


def _computes_in_half(config: Config, role: Role, device: torch.device) -> bool:
    """Whether the role's model has float32 weights and multiplies in 16 bits."""
    settings, trained = settings_of(config, role), config.trains(role)
    computed = autocast_dtype(settings, device, trained=trained)
    return computed is not None and weights_dtype(settings, trained=trained) == torch.float32


_ROLE_OF: dict[str, Role] = {
    "sampling": "selector",
    "queries": "rewriter",
    "thinking": "generator",
    "scoring": "generator",
    "selector update": "selector",
    "rewriter update": "rewriter",
    "generator update": "generator",
}


def _phases(
    config: Config, questions: int, device: torch.device, layers: dict[Role, int], processes: int
) -> dict[str, list[Phase]]:
    """Every phase of models cut to `layers`: each of its steps, for one may be the worst of a shallow model
    and another that of a deep one."""
    with without_data():
        selector, generator, rewriter = stand_in(config, device, layers)
        longest = longest_samples(config)
        weights = [sample.weight for sample in longest.samples]
        thought = longest_thought(generator)
        readings = [reading(longest.task, s.permutation, thought) for s in longest.samples]
        shard = math.ceil(min(questions, config.e_step.questions_per_shard) / processes)
        budget = config.e_step.max_tokens_per_micro_batch

        lists = Side(config, "selector", selector.model, list_example(selector, longest, weights).group)
        read = Side(config, "generator", generator.model, generator.group(readings))
        phases = {"sampling": _choosing(lists, selector, longest, shard)}
        if rewriter is not None:
            written = Side(
                config, "rewriter", rewriter.model, query_example(rewriter, longest, weights).group
            )
            phases["queries"] = _writing(written, rewriter, longest, shard)
        if generator.thinking is not None:
            apart = tuple(SequenceGroup.of([generator.scored_thought(one)]) for one in readings)
            thought_of = Side(config, "generator", generator.model, JoinedGroup(apart))
            phases["thinking"] = _thinking(thought_of, generator, readings, shard)
        phases["scoring"] = [_scoring(read, shard, budget)]
        phases = with_labels(phases, lists, selector, generator, longest, readings)
        if config.train_selector and algorithm_of(config).selects:
            phases["selector update"] = [_update(lists, config.m_step.selector, processes)]
        if rewriter is not None and config.train_rewriter:
            phases["rewriter update"] = [_update(written, config.m_step.rewriter, processes)]
        if config.train_generator:
            learned = generator.turns[-1].learned(readings)
            costliest = Side(config, "generator", generator.model, learned)
            phases["generator update"] = [_update(costliest, config.m_step.generator, processes)]
    reads = {name: questions * _passes(config, name) for name in phases}
    return {
        name: [replace(p, tokens=p.tokens * reads[name], flops=p.flops * reads[name]) for p in steps]
        for name, steps in phases.items()
    }


def _passes(config: Config, phase: str) -> float:
    """How often a phase reads each question."""
    if not phase.endswith("update"):
        return 1.0
    role = _ROLE_OF[phase]
    folds = role == "generator" and config.cross_fitted  # together they are fitted to every question
    epochs: float = getattr(config.m_step, role).epochs
    return epochs * (1 + folds)


def _choosing(side: Side, selector: Selector, longest: WeightedTask, shard: int) -> list[Phase]:
    """What an objective proposes: lists that are drawn, or every candidate's probability of being first; of
    one that selects nothing the selector is there, and computes nothing."""
    objective = algorithm_of(side.config)
    if objective.draws_lists:
        return _sampling(side, selector, longest, shard)
    if not objective.selects:
        return [replace(side.phase(0, 0.0), tokens=0.0)]
    alone = selector.group(longest.task, [(i,) for i in range(side.config.top_n)])
    every = Side(side.config, "selector", selector.model, alone)
    return [_scoring(every, shard, side.config.e_step.max_tokens_per_micro_batch)]


def _sampling(side: Side, selector: Selector, longest: WeightedTask, shard: int) -> list[Phase]:
    """All lists of a batch, written as `Selector.sample` writes them, step by step; of every round."""
    config, measured = side.config, list[tuple[int, int]]()
    by_round: dict[int, list[Decided]] = {}
    for decided in lists_of(longest, [0.0] * len(longest.samples)):
        by_round.setdefault(decided.number, []).append(decided)
    side.model.hf.eval()
    for number, states in by_round.items():
        selects = selector if config.rewriter is None else selector.in_round(number)
        prompt, most = selects.prompt(states[0].task), max(len(state.weights) for state in states)
        lists = config.e_step.samples if len(states) == 1 else most
        budget = config.e_step.max_tokens_per_micro_batch
        rows = len(batches_by_tokens([len(prompt)] * (shard * len(states)), budget)[0])
        with torch.no_grad():
            steps = selects.rehearse(prompt, rows, lists, config.top_n)
            measured += most_bytes_of_steps(steps, side.held)
    return [side.phase(most, 1.0, kv_cache=cache, head=side.head) for most, cache in measured]


def _writing(side: Side, rewriter: Rewriter, longest: WeightedTask, shard: int) -> list[Phase]:
    """All queries of a batch, of every round, likewise."""
    budget, measured = side.config.e_step.max_tokens_per_micro_batch, list[tuple[int, int]]()
    by_round: dict[int, list[Decided]] = {}
    for decided in queries_of(longest, [0.0] * len(longest.samples)):
        by_round.setdefault(decided.number, []).append(decided)
    side.model.hf.eval()
    for states in by_round.values():
        prompt = rewriter.prompt(Reading(states[0].task.question, states[0].task.read))
        lengths = [len(prompt) + rewriter.query_tokens] * (shard * len(states))
        rows, most = len(batches_by_tokens(lengths, budget)[0]), max(len(state.weights) for state in states)
        with torch.no_grad():
            steps = rehearse_writing(side.model, [prompt] * rows, most, rewriter.query_tokens)
            measured += most_bytes_of_steps(steps, side.held)
    return [side.phase(most, 1.0, kv_cache=cache, head=side.head) for most, cache in measured]


def _thinking(side: Side, generator: Generator, readings: Sequence[Reading], shard: int) -> list[Phase]:
    """Thoughts of the greatest length behind everything that is read, each prompt read by itself."""
    assert generator.thinking is not None
    prompt = max((generator.prompt(one) for one in readings), key=len)
    count, budget = shard * len(readings), side.config.e_step.max_tokens_per_micro_batch
    rows = len(generator.thinking.batches([len(prompt)] * count, [1] * count, budget)[0])
    side.model.hf.eval()
    with torch.no_grad():
        measured = most_bytes_of_steps(generator.thinking.rehearse(prompt, rows), side.held)
    steps = [(most, cache) for most, cache in measured if cache is not None]
    return [side.phase(most, 1.0, kv_cache=cache, head=side.head) for most, cache in steps]


def _scoring(side: Side, shard: int, max_tokens: int) -> Phase:
    """The largest batch of answers under every list."""
    groups, _ = side.largest(shard, max_tokens)
    side.model.hf.eval()
    with torch.no_grad():
        most = most_bytes(lambda: log_probs(side.model, groups), side.held)
    return side.phase(most, 1.0, head=side.head)


def _update(side: Side, settings: Optimisation, processes: int) -> Phase:
    """The largest micro-batch of an update that is not the first, so that the optimiser has its state."""
    local_questions = math.ceil(settings.batch_size / processes)
    groups, one_of_several = side.largest(local_questions, settings.max_tokens_per_micro_batch)
    model, held = side.model, side.held
    if one_of_several:  # gradients of the micro-batches before are there
        for parameter in side.trained:
            parameter.grad = torch.zeros_like(parameter)
        held = [*held, *(p.grad for p in side.trained if p.grad is not None)]
    model.hf.train()

    def step() -> None:
        loss = -torch.cat(log_probs(model, groups)).sum()
        loss.backward()  # type: ignore[no-untyped-call]

    most = most_bytes(step, held)
    for parameter in side.trained:
        parameter.grad = None
    gradients = sum(map(size, side.trained))
    each = _STATE_BYTES[settings.optimiser]
    numbers = sum(p.numel() for p in side.trained)
    state = 2.0 * gradients if each is None else each * numbers
    frozen = not any(p.requires_grad for p in model.hf.parameters())
    passes = 1.0 if frozen else 3.0 if model.adapter is None else 2.0
    return side.phase(most, passes, gradients=gradients, optimiser=state, head=side.head)
