"""Prompts of the real tokenizer and chat template, against `apply_chat_template` on the whole text.

Gemma's terms forbid to pass it on: RAGDRO_GEMMA names a folder of Gemma-3-270M (reproductions/pretrained.md
says how to make one), or `.models/gemma-3-270m` is it; otherwise its tests are skipped.
"""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path

import pytest

from ragdro.lm.load import load_tokenizer
from ragdro.lm.tokens import TextTokenizer
from ragdro.prompts import PromptTemplate, load_template
from ragdro.prompts.template import Budget
from ragdro.types import Passage
from tests.pretrained.conftest import ROOT, real_tasks

ROOMY = Budget(10_000, 10_000)
HOTPOTQA = ROOT.parent / "shared/data/multihop"
PARTS = {"hotpotqa_dev.jsonl": 200, "hotpotqa_train.jsonl": 50}
GEMMA = Path(os.environ.get("RAGDRO_GEMMA", ROOT / ".models/gemma-3-270m"))
GEMMA_TURNS = """\
{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message.role.replace('assistant', 'model') }}
{{ message.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""
"""How Gemma's tuned models write turns; the file of the base model brings no chat template."""


@pytest.fixture(scope="module")
def text(checkpoint: Path) -> TextTokenizer:
    return load_tokenizer(str(checkpoint))


def by_the_library(
    text: TextTokenizer, template: PromptTemplate, question: str, passages: list[Passage]
) -> list[int]:
    blocks = "".join(
        template.passage.format(identifier=i + 1, title=p.title, text=p.text) for i, p in enumerate(passages)
    )
    asked = template.user.format(question=question, passages=blocks, n=len(passages), k=2, read="")
    if text.hf.chat_template is None:
        plain: list[int] = text.hf(asked)["input_ids"]  # `start` belongs to the output
        return plain
    turn = [{"role": "user", "content": asked}]
    ids: list[int] = text.hf.apply_chat_template(
        turn, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    return ids


@pytest.mark.parametrize("kind", ["selector", "generator"])
def test_prompts_have_the_ids_of_the_whole_text(text: TextTokenizer, kind: str) -> None:
    template = load_template(kind)
    for task in real_tasks():
        passages = [p for p in task.candidates.passages if "<|im_end|>" not in p.text]
        expected = by_the_library(text, template, task.question.question, passages)
        assert template.encode(text, task.question.question, passages, 2, ROOMY) == expected


@pytest.mark.parametrize("kind", ["selector", "generator"])
def test_what_a_user_writes_never_ends_a_turn(text: TextTokenizer, kind: str) -> None:
    template, task = load_template(kind), real_tasks()[0]
    passages = list(task.candidates.passages)
    assert any("<|im_end|>" in p.text for p in passages)
    ids = template.encode(text, task.question.question, passages, 2, ROOMY)
    end = text.hf.convert_tokens_to_ids("<|im_end|>")
    assert ids.count(end) == 2  # the system's turn and the user's
    assert '"the <|im_end|> man"' in text.hf.decode(ids)


def test_the_turns_own_end_token_ends_an_answer(text: TextTokenizer) -> None:
    assert text.hf.convert_ids_to_tokens(text.end_id) == "<|im_end|>"
    assert text.end_id in text.end_ids


@pytest.fixture(scope="module", params=["smollm2", "gemma", "gemma-plain"])
def any_text(request: pytest.FixtureRequest) -> TextTokenizer:
    """SmolLM2's tokenizer; Gemma's with turns; Gemma's as the base model has it, for plain prompts."""
    if request.param == "smollm2":
        text: TextTokenizer = request.getfixturevalue("text")
        return text
    if not GEMMA.is_dir():
        pytest.skip(f"{GEMMA}: no such folder; RAGDRO_GEMMA may name another")
    hf = load_tokenizer(str(GEMMA)).hf
    hf.chat_template = GEMMA_TURNS if request.param == "gemma" else None
    return TextTokenizer(hf, name=str(GEMMA))


@pytest.mark.skipif(not HOTPOTQA.is_dir(), reason="HotpotQA is not beside the repository")
@pytest.mark.parametrize("kind", ["selector", "generator"])
def test_prompts_of_hotpotqa_too(any_text: TextTokenizer, kind: str) -> None:
    template, records = load_template(kind), []
    for name, number in PARTS.items():
        with (HOTPOTQA / name).open(encoding="utf-8") as file:
            records += [json.loads(line) for line in islice(file, number)]
    assert len(records) == 250  # with two kinds of prompt: 500
    for record in records:
        passages = [Passage(str(i), p["title"], p["text"]) for i, p in enumerate(record["passages"])]
        expected = by_the_library(any_text, template, record["question"], passages)
        assert template.encode(any_text, record["question"], passages, 2, ROOMY) == expected
