"""From a question and its passages to the token ids of a prompt.

In: a template file (YAML), a tokenizer, a question, passages. Out: token ids in which the template's own
words may hold special tokens and the users' words never do. A tokenizer with a chat template gets the
prompt as one user turn; another gets it as it stands.

A template file has `user` (with the slots `{question}`, `{passages}` and, if wanted, `{n}` and `{k}`),
`passage` (with `{title}`, `{text}` and, for a selector, `{identifier}`) and `start`, the text between a
plain prompt and the output (a chat turn starts without it).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Any

from ragdro.config.yaml import parse_yaml, read_yaml
from ragdro.errors import ConfigError, brief
from ragdro.lm.tokens import TextTokenizer
from ragdro.types import Passage

_MARK = "\ue000{}\ue001"
_MARKED = re.compile("\ue000([0-9]+)\ue001")
_SLOTS = {
    "user": {"question", "passages", "n", "k"},
    "passage": {"identifier", "title", "text"},
    "start": set(),
}


@dataclass(frozen=True, slots=True)
class Budget:
    """How many tokens a question and a passage (title and text together) may take."""

    question_tokens: int
    passage_tokens: int

    def __post_init__(self) -> None:
        for name in ("question_tokens", "passage_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: must be at least 1, is {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The parts of a template file; see the module's docstring."""

    user: str
    passage: str
    start: str = ""

    def output_start(self, tokenizer: TextTokenizer) -> str:
        """What stands between the prompt and the output."""
        return "" if tokenizer.hf.chat_template else self.start

    def encode(
        self, tokenizer: TextTokenizer, question: str, passages: Sequence[Passage], k: int, budget: Budget
    ) -> list[int]:
        """The prompt's token ids, ready for the output to follow."""
        data: list[list[int]] = []
        blocks = "".join(self._passage(tokenizer, i, p, budget, data) for i, p in enumerate(passages))
        question_mark = _mark(data, tokenizer.data(question, budget.question_tokens))
        text = self.user.format(question=question_mark, passages=blocks, n=len(passages), k=k)
        if tokenizer.hf.chat_template:
            turn = [{"role": "user", "content": text}]
            text = tokenizer.hf.apply_chat_template(
                turn, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            ids: list[int] = []  # a chat template writes its own begin token
        else:
            ids = tokenizer.start_ids
        for i, piece in enumerate(_MARKED.split(text)):
            ids.extend(data[int(piece)] if i % 2 else tokenizer.template(piece))
        return ids

    def _passage(
        self, tokenizer: TextTokenizer, index: int, passage: Passage, budget: Budget, data: list[list[int]]
    ) -> str:
        """The passage's block with marks where its title and text go; their ids are added to `data`."""
        limit = budget.passage_tokens
        title = tokenizer.data(passage.title, limit // 2) if "{title}" in self.passage else []
        text = tokenizer.data(passage.text, limit - len(title))
        marks = {"title": _mark(data, title), "text": _mark(data, text)}
        return self.passage.format(identifier=index + 1, **marks)


def _mark(data: list[list[int]], ids: list[int]) -> str:
    data.append(ids)
    return _MARK.format(len(data) - 1)


def load_template(source: str) -> PromptTemplate:
    """A template by name (a file in `ragdro/prompts/`) or by path.

    Raises `ConfigError` naming the file for a missing file, an unknown key or an unknown slot.
    """
    path = Path(source)
    packaged = files("ragdro.prompts") / f"{source}.yaml"
    if path.suffix not in {".yaml", ".yml"}:
        if not packaged.is_file():
            names = sorted(
                f.name.removesuffix(".yaml") for f in files("ragdro.prompts").iterdir() if "yaml" in f.name
            )
            raise ConfigError(
                f"no prompt template named '{source}'; there are {', '.join(names)}, or give a path"
            )
        return _template(parse_yaml(packaged.read_text(encoding="utf-8"), source), source)
    if not path.is_file():
        raise ConfigError(f"{source}: no such prompt template")
    return _template(read_yaml(path), source)


def _template(fields: Any, source: str) -> PromptTemplate:
    if not isinstance(fields, dict) or not {"user", "passage"} <= set(fields) <= set(_SLOTS):
        raise ConfigError(f"{source}: a prompt template has the keys user, passage and, if wanted, start")
    for key, value in fields.items():
        if not isinstance(value, str):
            raise ConfigError(f"{source}: '{key}' must be a text, is {brief(value)}")
        try:
            slots = [parts[1:] for parts in Formatter().parse(value) if parts[1] is not None]
        except ValueError as error:
            raise ConfigError(f"{source}: '{key}': {error} (a brace that is meant is doubled)") from error
        for name, spec, conversion in slots:
            if name not in _SLOTS[key] or spec or conversion:
                raise ConfigError(f"{source}: unknown slot {{{brief(name)[1:-1]}}} in '{key}'")
    if "{question}" not in fields["user"] or "{passages}" not in fields["user"]:
        raise ConfigError(f"{source}: 'user' needs the slots {{question}} and {{passages}}")
    return PromptTemplate(**fields)
