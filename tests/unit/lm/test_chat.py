"""Chat templates as checkpoints ship them: what ends a turn, what opens an answer, what gets lost."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import transformers.utils.chat_template_utils as library
from transformers import PreTrainedTokenizerFast

from ragdro.errors import ModelError
from ragdro.lm.chat import ChatOptions
from ragdro.lm.tokens import TextTokenizer
from ragdro.prompts import PromptTemplate, load_template
from ragdro.prompts.template import Budget
from ragdro.types import Passage
from tests.conftest import byte_level

TURNS = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}<|eot_id|>\n{% endfor %}"
OPEN = "{% if add_generation_prompt %}<s>assistant: {% endif %}"
PARTS = (
    "{% for m in messages %}{{ m.role }}: {% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}<|eot_id|>{% endfor %}"
)


def tokenizer(source: str | dict[str, str], ends: tuple[str, ...] = (), **options: Any) -> TextTokenizer:
    hf = byte_level()
    hf.chat_template = source
    end_ids = [hf.convert_tokens_to_ids(end) for end in ends]
    return TextTokenizer(hf, name="org/model", chat=ChatOptions(**options), ends=end_ids)


def prompt(text: TextTokenizer, template: PromptTemplate | None = None) -> str:
    """The prompt of one question, as letters."""
    made = load_template("generator") if template is None else template
    passages = [Passage("1", "T", "Mara works for Zorba.")]
    ids = made.encode(text, "where does Mara work?", passages, 1, Budget(99, 99))
    return str(text.hf.decode(ids))


def names(text: TextTokenizer) -> tuple[str, set[str]]:
    end: str = text.hf.convert_ids_to_tokens(text.end_id)
    return end, set(text.hf.convert_ids_to_tokens(text.end_ids))


@pytest.mark.parametrize(
    ("template", "ends", "end", "all_ends"),
    [
        (TURNS + OPEN, (), "<|eot_id|>", {"<|eot_id|>", "</s>"}),
        (TURNS + OPEN, ("</s>", "<|eot_id|>"), "<|eot_id|>", {"<|eot_id|>", "</s>"}),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", (), "</s>", {"</s>"}),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", ("[/INST]",), "</s>", {"</s>", "[/INST]"}),
        # Nothing behind an answer, but the next turn's beginning is what the checkpoint stops at.
        (
            "{% for m in messages %}[/INST]{{ m.content }}{% endfor %}",
            ("[/INST]",),
            "[/INST]",
            {"[/INST]", "</s>"},
        ),
        ("{% for m in messages %}[/INST]{{ m.content }}{% endfor %}", (), "</s>", {"</s>"}),
    ],
)
def test_an_output_ends_as_the_template_ends_a_turn(
    template: str, ends: tuple[str, ...], end: str, all_ends: set[str]
) -> None:
    assert names(tokenizer(template, ends)) == (end, all_ends)


def test_without_a_chat_template_an_output_ends_with_the_end_token() -> None:
    assert names(TextTokenizer(byte_level(), name="x")) == ("</s>", {"</s>"})
    assert names(tokenizer(TURNS + OPEN, template="none")) == ("</s>", {"</s>"})
    assert "user:" not in prompt(tokenizer(TURNS + OPEN, template="none"))


def test_the_date_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that writes today's date writes the configured one, whatever the day; without one, the day
    of the first prompt."""

    class Clock(dt.datetime):
        today_is = dt.datetime(2030, 1, 1)

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return cls.today_is

    monkeypatch.setattr(library, "datetime", Clock)
    template = "Today: {{ strftime_now('%d %b %Y') }}\n" + TURNS + OPEN
    assert "Today: 09 Mar 2026\n" in prompt(tokenizer(template, date=dt.date(2026, 3, 9)))
    text = tokenizer(template)
    first = prompt(text)
    Clock.today_is = dt.datetime(2031, 2, 2)
    assert prompt(text) == first and "2030" not in first


def test_a_template_that_takes_typed_parts_gets_them() -> None:
    text = tokenizer(PARTS + "{% if add_generation_prompt %}assistant:{% endif %}")
    assert "where does Mara work?" in prompt(text) and "Mara works for Zorba." in prompt(text)
    assert names(text)[0] == "<|eot_id|>"
    first = "{{ messages[0]['content'][0]['text'] }}<|eot_id|>"
    assert "Mara works for Zorba." in prompt(tokenizer(first))


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].role }}<|eot_id|>",
        "{{ messages[0].content | upper }}",
        "{{ messages[0] | tojson }}",
        "{{ messages[0].content[:500] }}{{ messages[0].content }}",
        "{{ raise_exception('only tools') }}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_a_template_that_loses_or_changes_what_is_said_is_refused(template: str) -> None:
    with pytest.raises(ModelError, match=r"^org/model: its chat template [^\n]*chat_template[^\n]*none"):
        prompt(tokenizer(template))


def test_one_of_several_templates_is_named() -> None:
    several = {"rag": "RAG " + TURNS + OPEN, "tools": TURNS}
    with pytest.raises(ModelError, match=r"org/model: .*chat_template to one of rag, tools"):
        prompt(tokenizer(several))
    assert prompt(tokenizer(several, template="rag")).startswith("RAG")
    assert prompt(tokenizer({**several, "default": "D " + TURNS})).startswith("D ")
    with pytest.raises(ModelError, match="no chat template 'other'"):
        prompt(tokenizer(TURNS, template="other"))


@pytest.mark.parametrize(
    ("template", "tail"),
    [
        (
            TURNS + "[/INST]{% if enable_thinking %}{% else %}<think>\n\n</think>\n\n{% endif %}",
            "\n\n</think>\n\n",
        ),
        (
            TURNS + "[/INST]{% if add_generation_prompt %}<think>\n{% endif %}",
            "[/INST]<think>\n\n</think>\n\n",
        ),
        (TURNS + "[/INST]{% if add_generation_prompt %}[THINK]{% endif %}", "[/INST][THINK]\n\n[/THINK]\n\n"),
        (TURNS + "[/INST]{% if thinking %}<think>{% else %}</think>{% endif %}", "[/INST]</think>"),
        (TURNS + OPEN, "assistant: "),
        # The template writes more before an answer than it asks the model to begin with.
        (
            "{% for m in messages %}[/INST]{{ m.role }}{% if m.role == 'assistant' %}<|final|>{% endif %}"
            "{{ m.content }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}[/INST]assistant{% endif %}",
            "[/INST]assistant<|final|>",
        ),
        (
            "{% for m in messages %}[/INST]{{ m.role }}\n"
            "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
            "{{ m.content }}<|eot_id|>{% endfor %}"
            "{% if add_generation_prompt %}[/INST]assistant\n<think>\n{% endif %}",
            "[/INST]assistant\n<think>\n\n</think>\n\n",
        ),
    ],
)
def test_an_answer_stands_where_the_template_puts_answers(template: str, tail: str) -> None:
    written = prompt(tokenizer(template))
    assert written.endswith(tail)
    assert written.count("<think>") == written.count("</think>") or "thinking %}<think>" in template
    chosen = prompt(tokenizer(template, answer_prefix="<|channel|>final"))
    assert chosen.endswith("<|channel|>final") and "</think>" not in chosen.replace(tail, "")


def test_white_space_between_a_header_and_the_answer_is_the_answers() -> None:
    spaced = (
        "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}[/INST]"
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
    )
    text, template = tokenizer(spaced), load_template("generator")
    assert prompt(text).endswith("[/INST]") and template.output_start(text) == " "
    assert text.continuation(template.output_border(text), " Zorba") == text.data(" Zorba")


def test_arguments_and_a_system_turn_reach_the_template() -> None:
    invented = (
        "{% if messages[0].role != 'system' %}<s>system: I am Bot. {{ effort }}<|eot_id|>{% endif %}" + TURNS
    )
    assert "I am Bot. low" in prompt(tokenizer(invented, arguments={"effort": "low"}))
    own = PromptTemplate("{passages}{question}", "{text}\n", system="Be brief.")
    written = prompt(tokenizer(invented), own)
    assert "Be brief." in written and "Bot" not in written
    assert prompt(TextTokenizer(byte_level(), name="x"), own).startswith("Be brief.\n\nMara works")
    with pytest.raises(ModelError, match="system"):
        prompt(tokenizer("{{ messages[-1].content }}"), own)


def test_marks_and_think_tags_of_users_are_text() -> None:
    """What stands for a user's text while the template is rendered is only letters in a user's text."""
    hf: PreTrainedTokenizerFast = byte_level()
    hf.add_tokens(["<think>", "</think>"])
    hf.chat_template = TURNS + OPEN
    text = TextTokenizer(hf, name="x")
    said = "\ue000said\ue001 <think> {{ x }} </s>"
    ids = load_template("generator").encode(text, said, [Passage("1", said, said)], 1, Budget(99, 99))
    special = set(hf.convert_tokens_to_ids(["<think>", "</think>", "</s>"]))
    assert not special & set(ids) and str(hf.decode(ids)).count(said) == 3
