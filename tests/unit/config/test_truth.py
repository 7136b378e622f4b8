"""`true` and `false` are no numbers, whichever key has one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import ragdro.config
from ragdro.config.annotations import type_name
from ragdro.config.base import Settings, fields_by_key
from ragdro.config.load import load_config
from ragdro.config.objective import objective_classes
from ragdro.errors import ConfigError

TINY = Path(__file__).parents[3] / "configs/tiny.yaml"


def classes() -> Iterator[type[Settings]]:
    """Every settings class of the package."""
    for module in pkgutil.iter_modules(ragdro.config.__path__, "ragdro.config."):
        importlib.import_module(module.name)
    objective_classes()
    kinds = [Settings]
    for one in kinds:
        kinds += one.__subclasses__()
    yield from (one for one in dict.fromkeys(kinds) if one.__module__.startswith("ragdro."))


def complaints(one: type[Settings], key: str, value: Any) -> list[str]:
    """What is wrong with a value by itself; other keys may be missing."""
    try:
        one.model_validate({key: value})
    except ValidationError as error:
        places = [(*e["loc"], *e.get("ctx", {}).get("place", ())) for e in error.errors()]
        return [e["msg"] for e, place in zip(error.errors(), places, strict=True) if place == (key,)]
    return []


def test_no_number_of_any_section_is_true_or_false() -> None:
    numbers, switches = 0, 0
    for one in classes():
        for key, field in fields_by_key(one).items():
            words = type_name(field.annotation).removesuffix(" or null")
            if words in ("number", "whole number"):
                assert complaints(one, key, True) == complaints(one, key, False) == [f"must be a {words}"], (
                    key
                )
                numbers += 1
            elif words == "true or false":
                assert complaints(one, key, True) == [], key
                switches += 1
    assert numbers > 100 and switches > 20


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("selector.k=true", "selector.k: must be a whole number (value: true)"),
        ("patience=false", "patience: must be a whole number, or null (value: false)"),
        ("retriever.b=true", "retriever.b: must be a number (value: true)"),
        ("objective={kind: dpo, beta: true}", "objective.beta: must be a number (value: true)"),
        (
            "e_step.engine={kind: vllm-server, memory: true}",
            "e_step.engine.memory: must be a number (value: true)",
        ),
        (
            "retrieval.k=[3, true]",
            "retrieval.k: must be a list of whole numbers, or null (value: [3, True])",
        ),
        ("retrieval.k=true", "retrieval.k: must be a list of whole numbers, or null (value: true)"),
    ],
)
def test_it_is_said_by_its_key(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(TINY, [override])
    assert str(raised.value) == f"{TINY}: {said}"


def test_a_switch_and_a_mapping_of_anything_take_both() -> None:
    config = load_config(TINY, ["train_selector=false", "selector.chat_arguments={thinking: true}"])
    assert config.train_selector is False and config.selector.chat_arguments == {"thinking": True}
