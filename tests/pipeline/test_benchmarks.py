"""The speed benchmarks at a tiny size: each asserts that its sides agree, and prints one JSON line."""

from __future__ import annotations

import json
import sys
from importlib import import_module

import pytest
import torch

from ragdro.lm.model import LanguageModel

NAMES = ["m_step_selector", "e_step_sample", "e_step_score", "m_step_generator", "iteration", "growth"]


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--size", "tiny"])
    import_module(f"benchmarks.{name}").main()


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_agree_and_one_line_is_printed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(name, monkeypatch)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["benchmark"] == name


@pytest.mark.parametrize("name", NAMES)
def test_sides_that_differ_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours reads another end of the prompt than the other side: nothing must be timed."""
    tree_hidden, choice_logits = LanguageModel.tree_hidden, LanguageModel.choice_logits

    def wrong(self: LanguageModel, tree: object) -> torch.Tensor:
        return tree_hidden(self, tree).roll(1, 0)  # type: ignore[arg-type]

    def wrong_choices(self: LanguageModel, *arguments: torch.Tensor) -> torch.Tensor:
        return -choice_logits(self, *arguments)

    monkeypatch.setattr(LanguageModel, "tree_hidden", wrong)
    monkeypatch.setattr(LanguageModel, "choice_logits", wrong_choices)
    monkeypatch.setattr("ragdro.lm.scoring.agree", lambda *rest: True)
    monkeypatch.setattr("ragdro.lm.decoding.agree", lambda *rest: True)
    with pytest.raises(AssertionError, match="differ"):
        run(name, monkeypatch)
