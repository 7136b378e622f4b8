"""Wrong usage of the command line is one line, of every command, that names the help to read."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from ragdro import cli


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups too."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command prints on standard error, and its exit code."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)

    def run(*words: str) -> tuple[str, Any]:
        monkeypatch.setattr(sys, "argv", ["ragdro", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return capsys.readouterr().err, stop.value.code

    return run


def test_an_unknown_option_of_any_command_is_one_line(said: Any) -> None:
    paths = list(commands(get_command(cli.app)))
    assert ("train",) in paths and ("data", "convert") in paths
    for path in paths:
        see = f"see: {' '.join(('ragdro', *path))} --help\n"
        assert said(*path, "--zzz") == (f"ragdro: error: no such option: --zzz; {see}", 2)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("train", "missing argument 'CONFIG.yaml'; see: ragdro train --help"),
        ("retrieve", "missing option '--questions'; see: ragdro retrieve --help"),
        ("serve run --port abc", "--port: must be a whole number (value: 'abc'); see: ragdro serve --help"),
        ("answer run q --samples 0", "--samples: must be at least 1 (value: '0'); see: ragdro answer --help"),
        ("answer run q --answering x", "--answering: must be greedy, marginal, union or joint (value: 'x')"),
        ("serve run --passage-attention x", "--passage-attention: must be full or blocks (value: 'x')"),
        ("evaluate run --threshold 2", "--threshold: must be at most 1 (value: '2'); see: ragdro evaluate"),
        (
            "retriever train run --loss x",
            "--loss: must be kl, infonce, margin or wasserstein (value: 'x')",
        ),
        (
            "score --data x --predictions y --seed -1",
            "--seed: must be at least 0 (value: '-1'); see: ragdro sc",
        ),
        ("compare x y --seed -1", "--seed: must be at least 0 (value: '-1'); see: ragdro compare --help"),
        ("serve run --port", "option '--port' requires an argument; see: ragdro serve --help"),
        ("trian x.yaml", "no such command 'trian'"),
        ("data nope", "no such command 'nope'"),
        ("train a.yaml --stric", "no such option: --stric (Possible options: --strict)"),
    ],
)
def test_wrong_usage_is_one_line(words: str, error: str, said: Any) -> None:
    line, code = said(*words.split())
    assert line.startswith(f"ragdro: error: {error}") and line.count("\n") == 1 and code == 2
    assert " --help\n" in line and "╭" not in line


def test_a_group_without_a_command_prints_its_help_alone(said: Any) -> None:
    assert said("data") == ("", 2) and said() == ("", 2)


def test_what_is_drawn_is_called_alike_wherever_it_is_asked_for() -> None:
    """With rounds it is paths; `serve` has `--samples` for relevance scores, which are of lists."""
    helped: dict[str, set[str]] = {"samples": set(), "thoughts": set(), "answering": set()}
    for name, command in get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        for option in command.params:
            kind = option.name.removeprefix("answer_")
            if kind in helped and (name, option.name) != ("serve", "samples"):
                helped[kind].add(option.help)
    assert all(len(texts) == 1 and "path" in texts.pop() for texts in helped.values())
