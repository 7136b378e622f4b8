"""A first config for somebody's data: what `ragdro init` writes.

In: where the data is and which model is meant. Out: plain values of a config and the reason of each. N, K and
the limits follow the data; whether all weights are trained or an adapter follows the memory, by the plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError

from ragdro.config import Config
from ragdro.config.words import describe
from ragdro.errors import ConfigError
from ragdro.lm.load import pick_device
from ragdro.planning.look import Seen
from ragdro.planning.machine import memory_of
from ragdro.planning.plan import plan
from ragdro.planning.room import Room, shows_attention
from ragdro.types import Role
from ragdro.units import as_bytes, counted

TINY = "tiny:base"
_MOST_N, _MOST_K = 20, 5
_FEW = 2_000
"""Fewer training questions than this get small updates, so that there are enough of them."""
_ROOM = 0.9
"""The fraction of the memory that a plan may take: the rest is for what it does not count."""
_MOST_TOKENS = 256
_HEADS = {"projection_learning_rate": 1e-2, "epochs": 8, "batch_size": 8, "warm_up_fraction": 0}
_FITS_OF_HEADS = {"warm_up": _HEADS, "m_step": {**_HEADS, "projection_learning_rate": 2e-3, "epochs": 4}}
"""How weights of attention heads are fitted: as `configs/smollm2-135m.yaml` does."""
_WHY_HEADS = {
    "selector.pointer": (
        "some heads of a pretrained model look at the passages that answer a question already; which ones is"
        " learned from a few hundred questions"
    ),
    "warm_up.selector": "a frozen model reads each question once: more epochs cost next to nothing",
    "m_step.selector": "smaller steps than the warm-up's, whose weights are adjusted",
}


@dataclass(frozen=True, slots=True)
class StarterOptions:
    """What the user said. `corpus` None: questions bring their candidates; `memory` in GiB, None: the
    device's own."""

    name: str
    train: str
    validation: str
    test: str | None
    corpus: str | None
    model: str
    device: str = "auto"
    memory: float | None = None
    language: str | None = None
    given: bool = False
    selector: str = "list"


@dataclass(frozen=True, slots=True)
class Starter:
    """The config's values, and the reasons of those that have one, by dotted key."""

    values: Mapping[str, Any]
    reasons: Mapping[str, str]


def prompts_of(model: str, selector: str = "list") -> tuple[str, str]:
    """The selector's (of that kind) and the generator's prompt: the embedded model was made on its own."""
    name = {"list": "selector", "pointer": "pointer"}[selector]
    return (f"tiny-{name}", "tiny-generator") if model == TINY else (name, "generator")


def starter(options: StarterOptions, seen: Seen, passages: int, room: Room) -> Starter:
    """The config for data of which `seen` is known, over a corpus of so many `passages` (0: none), for a
    model with `room`.

    Raises `ConfigError` for data that leaves nothing to select from.
    """
    values, reasons = _of_data(options, seen, passages, room)
    device = pick_device(options.device)
    available = memory_of(device) if options.memory is None else int(options.memory * 2**30)
    chosen, why = _trained(values, max(1, seen.questions), device, available)
    role = _trained_roles(values)[0]
    key = f"{role}.adapter" if "adapter" in chosen[role] else role
    return Starter(chosen, {**reasons, key: why})


def _trained(
    values: dict[str, Any], questions: int, device: torch.device, available: int | None
) -> tuple[dict[str, Any], str]:
    """The first way to train that fits the memory, with the reason; the smallest where none does."""
    ways = list(_ways(values))
    room = "unknown memory" if available is None else as_bytes(available)
    for name, changed in ways:
        needed = plan(_checked(changed), questions, device)["memory"]
        if available is None or needed <= _ROOM * available:
            return changed, f"{name}: {as_bytes(needed)} of {room} by the plan"
    return ways[-1][1], f"the smallest way: {as_bytes(needed)} of {room} by the plan, which is too much"


def _of_data(
    options: StarterOptions, seen: Seen, passages: int, room: Room
) -> tuple[dict[str, Any], dict[str, str]]:
    given = options.given or options.corpus is None
    if given and not seen.brings_candidates:
        way = "--corpus: needed" if options.corpus is None else "--candidates: leave it out"
        raise ConfigError(f"{way}, for not every question brings candidates or passages")
    if given and seen.references and options.corpus is None:
        raise ConfigError("--corpus: needed, for the candidates are ids of passages")
    there = seen.most_brought if given else passages
    if there < 2:
        raise ConfigError(
            f"--corpus: {counted(there, 'passages')}: nothing to select from; at least 2 are needed"
        )
    asked, read = _rounded(seen.question_tokens), _rounded(seen.passage_tokens)
    n, fitting = room.fit(min(_MOST_N, there), asked, read)
    k = max(1, min(_MOST_K, n // 2), min(seen.most_gold, _MOST_K, n))
    said = f"a question brings {there} at most" if given else f"the corpus has {counted(there, 'passages')}"
    retriever: dict[str, Any] = {"kind": "given"} if given else {"kind": "bm25"}
    if options.language is not None and not given:
        retriever["language"] = options.language
    data = {"train": options.train, "validation": options.validation}
    data |= {"test": options.test} if options.test else {}
    data |= {"corpus": options.corpus} if options.corpus else {}
    prompts, limits = (
        prompts_of(options.model, options.selector),
        {"question_tokens": asked, "passage_tokens": fitting},
    )
    kind = {} if options.selector == "list" else {"kind": options.selector}
    fit = {"learning_rate": 1e-4} if options.model == TINY else {}
    fit |= {"batch_size": 16} if seen.questions < _FEW else {}
    values: dict[str, Any] = {
        "name": options.name,
        "device": options.device,
        "data": data,
        "retriever": retriever,
        "top_n": n,
        "selector": {**kind, "model": options.model, "prompt": prompts[0], "k": k, **limits},
        "generator": {"model": options.model, "prompt": prompts[1], **limits}
        | {"answer_tokens": _rounded(seen.answer_tokens + 1, 8)},
    }
    if fit:
        values |= {stage: {"selector": fit, "generator": fit} for stage in ("warm_up", "m_step")}
    reasons = {
        "top_n": said,
        "retriever.kind": "what each question brings" if given else "BM25 over the corpus",
    }
    if options.selector == "pointer" and options.model != TINY and shows_attention(options.model):
        values["selector"]["pointer"] = {"score": "attention", "frozen": True}
        values |= {stage: {"selector": heads, "generator": fit} for stage, heads in _FITS_OF_HEADS.items()}
        reasons |= _WHY_HEADS
    if n < min(_MOST_N, there):
        reasons["top_n"] = f"{said}, and so many fit the model's {room.positions} positions"
    if fitting < read:
        reasons["selector.passage_tokens"] = (
            f"98 % have at most {seen.passage_tokens}, too many for the model; shorter passages: ragdro"
            " ingest --tokens N"
        )
    if seen.most_gold:
        reasons["selector.k"] = f"a question has {counted(seen.most_gold, 'gold passages')} at most"
    return values, reasons


def _ways(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ways to train, the one that takes the most memory first."""
    yield "all weights are trained", values
    yield "all weights are trained", _with_trained(values, {"gradient_checkpointing": True})
    lora = _with_adapters(_with_trained(values, {"gradient_checkpointing": True, "adapter": "lora"}))
    yield "an adapter is trained", lora
    smaller = {role: {**lora[role], "dtype": "bfloat16"} for role in ("selector", "generator")}
    shared = {"shared_backbone": True} if len(_trained_roles(values)) == 2 else {}
    yield "an adapter is trained", {**lora, **smaller, **shared}


def _trained_roles(values: Mapping[str, Any]) -> tuple[Role, ...]:
    """Those whose model is trained: not that of a frozen pointer."""
    return ("generator",) if "pointer" in values["selector"] else ("selector", "generator")


def _with_trained(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {**values, **{role: {**values[role], **changes} for role in _trained_roles(values)}}


def _with_adapters(values: dict[str, Any]) -> dict[str, Any]:
    """Adapters learn at a higher rate than whole models."""
    changed = dict(values)
    for stage in ("warm_up", "m_step"):
        fits = values.get(stage, {"selector": {}, "generator": {}})
        rates = {role: {"learning_rate": 1e-4, **fits[role]} for role in _trained_roles(values)}
        changed[stage] = {**fits, **rates}
    return changed


def _checked(values: Mapping[str, Any]) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"init: {describe(error, Config)}") from error


def _rounded(tokens: int, step: int = 16) -> int:
    """A limit with a little room, in whole steps."""
    return min(_MOST_TOKENS, max(step, step * math.ceil(tokens / step)))
