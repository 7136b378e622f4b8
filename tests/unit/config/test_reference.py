"""What `ragdro config` says is what the settings' classes hold; every key that a config may have is in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from rich.console import Console
from typer.testing import CliRunner

from ragdro.cli import app
from ragdro.config import dump_config, load_config
from ragdro.config.objective import objective_kinds
from ragdro.config.reference import look_up, sections
from ragdro.errors import ConfigError
from ragdro.report.settings import print_sections

ROOT = Path(__file__).parents[3]


def leaves(value: Any, place: str = "") -> Iterator[str]:
    for key, inner in value.items():
        yield f"{place}{key}"
        if isinstance(inner, dict):
            yield from leaves(inner, f"{place}{key}.")


def known() -> set[str]:
    """Every key as a config writes it."""
    found = set()
    for section in sections():
        for place in section.written:
            found |= {f"{place}.{s.name}" if place else s.name for s in section.settings}
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_key_of_a_resolved_config_is_there(path: Path) -> None:
    keys = {
        k for k in leaves(yaml.safe_load(dump_config(load_config(path)))) if not k.endswith(("kind", "type"))
    }
    assert keys - known() == set() and len(keys) > 50


def test_every_setting_has_a_description() -> None:
    bare = [(s.places, p.name) for s in sections() for p in s.settings if not p.description]
    assert not bare


def test_every_kind_has_a_section() -> None:
    names = {place for section in sections() for place in section.places}
    kinds = {f"objective.{kind}" for kind in objective_kinds()}
    assert kinds | {"retriever.dense", "retriever.dense.index.ivfpq", "e_step.engine.vllm"} <= names
    assert "m_step.selector" in names and "selector.adapter" in names


def test_default_range_and_type_are_those_of_the_field() -> None:
    ((setting,),) = [s.settings for s in look_up("retriever.k1")]
    assert (setting.type, setting.default, setting.limits) == ("number", "1.2", ">= 0")
    ((setting,),) = [s.settings for s in look_up("top_n")]
    assert (setting.type, setting.default, setting.limits) == ("whole number", "20", ">= 2")
    ((setting,),) = [s.settings for s in look_up("e_step.engine.vllm.memory")]
    assert (setting.default, setting.limits) == ("0.4", "> 0, < 1")
    ((setting,),) = [s.settings for s in look_up("evaluation.metric")]
    assert setting.type == "exact_match, f1, bound or package.module:name"
    ((setting,),) = [s.settings for s in look_up("data.train")]
    assert setting.default == "required"


def test_a_key_of_several_kinds_is_shown_for_each() -> None:
    assert [s.name for s in look_up("retriever.model")] == ["retriever.dense", "retriever.colbert"]
    assert [s.name for s in look_up("retriever.index.probes")] == [
        "retriever.dense.index.ivfpq",
        "retriever.colbert.index.lance",
    ]
    assert [s.name for s in look_up("retriever.dense.model")] == [
        "retriever.dense",
        "retriever.qdrant.dense",
    ]
    assert [s.name for s in look_up("e_step")][:2] == ["e_step", "e_step.mixture"]


def test_a_key_is_shown_at_its_own_place_alone() -> None:
    assert [(s.places, s.written) for s in look_up("m_step.selector")] == [
        (("m_step.selector",), ("m_step.selector",))
    ]
    assert [s.places for s in look_up("warm_up.generator.epochs")] == [("warm_up.generator",)]
    fits = ("m_step.selector", "m_step.generator", "m_step.rewriter")
    assert fits in [s.places for s in look_up("m_step")]


@pytest.mark.parametrize(
    ("key", "near"),
    [("m_step.selektor", "m_step.selector"), ("topn", "top_n"), ("objective.rlo", "objective.rloo")],
)
def test_a_wrong_key_is_answered_with_the_nearest(key: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"no setting '{key}'; did you mean '{near}'"):
        look_up(key)
    with pytest.raises(ConfigError, match="no setting 'zzzzzzzz'; see ragdro config"):
        look_up("zzzzzzzz")


def test_plain_lines_are_one_a_setting_and_a_terminal_gets_80_columns() -> None:
    done = CliRunner().invoke(app, ["config", "objective.rloo"])
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and [line.split(":")[0] for line in lines] == [
        "objective.rloo.reward", "objective.rloo.kl", "objective.rloo.clip",
    ]  # fmt: skip
    console = Console(force_terminal=True, width=80, record=True, color_system=None)
    print_sections(sections(), console)
    shown = console.export_text().splitlines()
    assert len(shown) > 300 and max(map(len, shown)) <= 80


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; sys.argv[1:] = ['config']\nimport atexit\n"
        "atexit.register(lambda: print('torch' in sys.modules, 'transformers' in sys.modules))\n"
        "from ragdro.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False False", done.stderr


def test_defaults_that_a_place_gives_are_its_own() -> None:
    """A field whose default instance differs from its class's defaults shows the instance's."""
    from pydantic import Field

    from ragdro.config.reference import _sections

    class Inner(BaseModel):
        x: int = Field(1, description="x")

    class Outer(BaseModel):
        a: Inner = Field(Inner(x=7), description="a")
        b: Inner = Field(Inner(), description="b")

    shown = {s.name: [p.default for p in s.settings] for s in _sections(Outer, "", "", None)}
    assert shown == {"": ["", ""], "a": ["7"], "b": ["1"]}
