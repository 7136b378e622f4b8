"""Prompts that are too long for the model, found by the lengths of their texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ragdro.errors import ConfigError, RetrievalError
from ragdro.lm.token_store import TokenStore, token_stores
from ragdro.prompts.template import Budget
from ragdro.selection.list_selector import ListSelector
from ragdro.system import Rag
from ragdro.training.limits import refuse_long_prompts
from ragdro.types import Task
from tests.worlds import pocket_rag, pocket_tasks


def stored(rag: Rag, tasks: list[Task], cache: Path) -> None:
    texts = [t.question.question for t in tasks]
    texts += [text for t in tasks for p in t.candidates.passages for text in (p.title, p.text)]
    tokenizer = rag.selector.model.tokenizer
    (folder,) = token_stores([tokenizer], texts, cache)
    tokenizer.memory = TokenStore(folder).get


@pytest.mark.parametrize("kind", ["list", "pointer"])
@pytest.mark.parametrize("with_store", [False, True])
def test_a_prompt_is_refused_exactly_where_the_model_has_no_positions_for_it(
    kind: str, with_store: bool, tmp_path: Path
) -> None:
    tasks = pocket_tasks(4, 5)
    asked = replace(tasks[2].question, question="where, after all, does the old Mara2 of Latveria work?")
    tasks[2] = replace(tasks[2], question=asked)
    roomy = pocket_rag(kind=kind)
    needed = [len(roomy.selector.prompt(t)) + roomy.selector.room(5) for t in tasks]
    assert max(needed) == needed[2] > sorted(needed)[-2]
    for positions in (needed[2], needed[2] - 1):
        rag = pocket_rag(kind=kind, max_position_embeddings=positions)
        if with_store:
            stored(rag, tasks, tmp_path)
        if positions == needed[2]:
            refuse_long_prompts(rag.selector, tasks)
            continue
        with pytest.raises(ConfigError, match=f"'q2' needs {needed[2]} tokens, more than .* {positions} "):
            refuse_long_prompts(rag.selector, tasks)


def test_only_prompts_that_may_be_too_long_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, built = pocket_tasks(4, 5), []
    long = replace(tasks[1].candidates.passages[0], text="Mara works for Firm. " * 40)
    passages = (long,) * 5
    tasks[1] = replace(tasks[1], candidates=replace(tasks[1].candidates, passages=passages))
    roomy = pocket_rag(max_position_embeddings=4096)
    roomy.selector.budget = Budget(24, 100)
    longest = len(roomy.selector.prompt(tasks[1]))
    rag = pocket_rag(max_position_embeddings=longest + roomy.selector.room(5))
    rag.selector.budget = Budget(24, 100)
    stored(rag, tasks, tmp_path)
    stored(roomy, tasks, tmp_path)
    own = ListSelector.prompt
    monkeypatch.setattr(ListSelector, "prompt", lambda s, task: (built.append(task), own(s, task))[1])
    refuse_long_prompts(roomy.selector, tasks)
    assert built == []
    refuse_long_prompts(rag.selector, tasks)
    assert built == [tasks[1]]


def test_no_candidates_and_too_many_are_refused() -> None:
    tasks = pocket_tasks(2, 5)
    none = replace(tasks[0], candidates=replace(tasks[0].candidates, passages=()))
    with pytest.raises(RetrievalError, match="'q0' has no candidates"):
        refuse_long_prompts(pocket_rag().selector, [tasks[1], none])
    with pytest.raises(RetrievalError, match="'q0' has 5 candidates, more than the N = 4"):
        refuse_long_prompts(pocket_rag(n=4).selector, tasks)
