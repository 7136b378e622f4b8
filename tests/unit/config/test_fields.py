"""Every field of the config, out of range or misspelt, is refused by its dotted name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ragdro.algorithms import Dpo, DroCentered, DroTempered, Marginal, Rejection, Rloo, Rrpo
from ragdro.config import Config, load_config
from ragdro.config.base import fields_by_key
from ragdro.config.engine import OpenAiEngine, VllmEngine, VllmServerEngine
from ragdro.config.retriever import Bm25Settings, ColbertSettings, DenseSettings, HybridSettings
from ragdro.config.stores import PostgresSettings, QdrantSettings
from ragdro.errors import ConfigError

BASE: dict[str, Any] = {
    "data": {"train": "a.jsonl", "validation": "b.jsonl"},
    "selector": {"model": "m"},
    "generator": {"model": "m"},
}
KINDS = {
    ("retriever", "bm25"): Bm25Settings,
    ("retriever", "dense"): DenseSettings,
    ("retriever", "colbert"): ColbertSettings,
    ("retriever", "hybrid"): HybridSettings,
    ("retriever", "postgres"): PostgresSettings,
    ("retriever", "qdrant"): QdrantSettings,
    ("objective", "dro-centered"): DroCentered,
    ("objective", "dro-tempered"): DroTempered,
    ("objective", "marginal"): Marginal,
    ("objective", "rloo"): Rloo,
    ("objective", "rrpo"): Rrpo,
    ("objective", "rejection"): Rejection,
    ("objective", "dpo"): Dpo,
    ("e_step.engine", "vllm"): VllmEngine,
    ("e_step.engine", "vllm-server"): VllmServerEngine,
    ("e_step.engine", "openai-compatible"): OpenAiEngine,
}


def kinds_of(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation, `Annotated` and unions taken apart."""
    if get_origin(annotation) in (None, list, tuple, dict, Literal):
        return (annotation,)
    return tuple(kind for part in get_args(annotation) for kind in kinds_of(part) if kind is not ...)


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[Any, ...], list[Any]]]:
    """(dotted key, alternatives, bounds) of every field below `model`, sections of several kinds left out."""
    for name, field in fields_by_key(model).items():
        if prefix + name in ("retriever", "objective", "e_step.engine"):
            continue
        kinds = kinds_of(field.annotation)
        yield prefix + name, kinds, field.metadata
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from fields_of(kind, f"{prefix}{name}.")


FIELDS = {key: (kinds, bounds) for key, kinds, bounds in fields_of(Config)}
FIELDS |= {
    f"{section}.{key}": (kinds, bounds)
    for (section, _), model in KINDS.items()
    for key, kinds, bounds in fields_of(model)
    if key != "kind" and "." not in key
}
KIND_OF = {
    f"{section}.{key}": (section, kind)
    for (section, kind), model in KINDS.items()
    for key in fields_by_key(model)
}


THEIR_WORDS = (
    "Input should",
    "required",
    "unable to",
    "Value error",
    "valid ",
    "instance",
    "_kind_of",
    "[key]",
)
"""Of the checker's own messages."""


def out_of_range(kinds: tuple[Any, ...], bounds: list[Any]) -> st.SearchStrategy[Any]:
    """Values that a field with these alternatives and bounds must refuse."""
    wrong: list[st.SearchStrategy[Any]] = [st.just({"no": {"such": 1}}), st.just([[1]])]
    numbers = {int, float} & {k for k in kinds if isinstance(k, type)}
    for bound in bounds:
        if isinstance(bound, Ge):
            wrong.append(st.integers(max_value=int(bound.ge) - 1))  # type: ignore[call-overload]
        elif isinstance(bound, Gt):
            wrong.append(st.integers(max_value=int(bound.gt)))  # type: ignore[call-overload]
        elif isinstance(bound, Le):
            wrong.append(st.integers(min_value=int(bound.le) + 1))  # type: ignore[call-overload]
        elif isinstance(bound, Lt):
            wrong.append(st.integers(min_value=int(bound.lt)))  # type: ignore[call-overload]
    if numbers:
        wrong += [st.just("three"), st.just(math.nan), st.just(math.inf), st.just(-math.inf)]
    if numbers == {int}:
        wrong.append(st.just(2.5))
    if bool in kinds:
        wrong.append(st.sampled_from([7, "perhaps", 0.5]))
    if any(get_origin(k) is Literal for k in kinds):
        wrong.append(st.text(min_size=1).map(lambda s: f"no-{s}"))
    if type(None) not in kinds:
        wrong.append(st.none())
    return st.one_of(wrong)


def written(folder: Path, key: str, value: Any) -> Path:
    """A config that is right but for `key`."""
    values = yaml.safe_load(yaml.safe_dump(BASE))
    if key in KIND_OF:
        section, kind = KIND_OF[key]
        *above, name = section.split(".")
        chosen = (values.setdefault(above[0], {}) if above else values).setdefault(name, {"kind": kind})
        if kind in ("dense", "colbert", "openai-compatible"):
            chosen["model"] = "m"
        if kind == "qdrant" and key != "retriever.url":
            chosen["path"] = "folder"
        if kind == "hybrid":
            chosen["members"] = [{"kind": "bm25"}]
        if kind == "openai-compatible":
            chosen["url"] = "http://host/v1"
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if parent == "scratch":
            values[parents[0]].pop("model", None)
    place[last] = value
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configs")


def test_the_fields_are_all_there() -> None:
    assert len(FIELDS) > 100 and {"m_step.selector.beta2", "retriever.k1", "seed"} <= set(FIELDS)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_value_out_of_range_is_refused_by_its_dotted_name(folder: Path, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(FIELDS)))
    kinds, bounds = FIELDS[key]
    value = data.draw(out_of_range(kinds, bounds))
    if get_origin(kinds[0]) in (dict, tuple) or kinds == (Path,):
        value = 7.5
    path = written(folder, key, value)
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    message = str(refused.value)
    assert "\n" not in message and len(message) < 600
    assert not any(theirs in message for theirs in THEIR_WORDS)
    assert message.startswith((f"{path}: {key}", f"{path}: unknown key '{key}.", f"{path}: not YAML"))


def misspelt(word: str, place: int, letter: str, how: int) -> str:
    """One letter dropped, doubled, changed, or two exchanged."""
    place %= len(word)
    if how == 0:
        return word[:place] + word[place + 1 :]
    if how == 1:
        return word[:place] + word[place] + word[place:]
    if how == 2:
        return word[:place] + letter + word[place + 1 :]
    return word[:place] + word[place : place + 2][::-1] + word[place + 2 :]


LONG = sorted(k for k in FIELDS if len(k.rpartition(".")[2]) >= 4 and k not in KIND_OF)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(LONG), st.integers(0, 30), st.sampled_from("abcxyz_"), st.integers(0, 3))
def test_the_nearest_key_is_suggested_for_a_misspelt_one(
    folder: Path, key: str, place: int, letter: str, how: int
) -> None:
    section, dot, last = key.rpartition(".")
    wrong = section + dot + misspelt(last, place, letter, how)
    if wrong in FIELDS or not wrong.rpartition(".")[2]:
        return
    path = written(folder, wrong, 1)
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    said, suggestion = str(refused.value).removesuffix("'?").split("'; did you mean '")
    assert said == f"{path}: unknown key '{wrong}"
    # `_step` is as near to e_step as to m_step: another key may be meant if it is as near.
    assert suggestion == key or (suggestion in FIELDS and nearness(suggestion, wrong) >= nearness(key, wrong))


def nearness(key: str, wrong: str) -> float:
    return difflib.SequenceMatcher(None, wrong, key).ratio()
