"""What the documentation shows works: Python blocks run, JSON blocks are read, command lines parse."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.config.objective import objective_kinds
from ragdro.data import read_corpus, read_questions
from tests.pipeline.test_train import write_config

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "reproductions").glob("*.md")),
    ROOT / "benchmarks/README.md",
]
_LINK = re.compile(r"\]\(([^)#:]*)(#[^)]*)?\)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    return [(p.name, code) for p in PAGES for lang, code in _BLOCK.findall(p.read_text()) if lang == language]


def command_lines() -> list[tuple[str, str]]:
    lines = [(name, line) for name, code in blocks("") for line in code.replace("\\\n", " ").splitlines()]
    return [(name, line.split("  #")[0].strip()) for name, line in lines if line.startswith("ragdro ")]


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_command_lines_parse(page: str, line: str) -> None:
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    context = command.make_context("ragdro", words[:1], resilient_parsing=True)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"{page}: no such command: {line}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context("ragdro", words, parent=context)  # raises for an option that does not exist
    for word in words:
        assert not word.startswith("configs/") or (ROOT / word).is_file()


@pytest.mark.parametrize("line", [line for page, line in command_lines() if page == "models.md"])
def test_the_recipes_configs_resolve(line: str) -> None:
    _, command, *words = shlex.split(line)
    if command in ("train", "plan"):
        config = ragdro.load_config(ROOT / words[0], words[1:])
        assert config.selector.scratch is config.generator.scratch is None
        assert config.data.train == "train.jsonl" and config.retriever.kind == "bm25"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text()):
        there = page.parent / (target or page.name)
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
            assert anchor[1:] in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_objective_has_a_page() -> None:
    index = (ROOT / "docs/reference/objectives.md").read_text()
    pages = {page.stem for page in (ROOT / "docs/reference/objectives").glob("*.md")}
    kinds = set(objective_kinds())
    assert kinds <= pages
    assert kinds == set(re.findall(r"^\| \[`([\w-]+)`\]", index, re.MULTILINE))
    assert all(f"(objectives/{page}.md)" in index for page in pages)


def test_the_reference_of_settings_is_what_the_command_writes() -> None:
    written = CliRunner().invoke(app, ["config", "--markdown"]).stdout
    page = (ROOT / "docs/reference/config.md").read_text(encoding="utf-8")
    assert page == written, "run: ragdro config --markdown > docs/reference/config.md"


def test_there_are_command_lines() -> None:
    assert len(command_lines()) >= 5


def test_json_blocks_are_read_as_they_say(tmp_path: Path) -> None:
    examples = [json.loads(code) for _, code in blocks("json")]
    assert len(examples) == 3
    path = tmp_path / "file.jsonl"
    for example in examples:
        path.write_text(json.dumps(example) + "\n")
        if "question" in example:
            assert [q.answers for q in read_questions(path)] == [tuple(example["answers"])]
        else:
            assert [p.id for p in read_corpus(path)] == [example["id"]]


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ragdro.run(ragdro.load_config(write_config(tmp_path), ["name=demo", "iterations=1"]))
    monkeypatch.chdir(tmp_path)
    examples = blocks("python")
    assert examples
    for _, code in examples:
        exec(compile(code, "README.md", "exec"), {})
