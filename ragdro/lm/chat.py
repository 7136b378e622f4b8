"""What a checkpoint's chat template puts around a user's turn and behind a finished answer.

In: a tokenizer with a chat template. Out: the text before and after what the user says, what an output
begins with, and the token that ends it. The template is rendered with a mark in place of what is said, once;
a template through which a text does not come as it is would lose questions and passages, so it is refused.

An answer is written where the template itself writes one in a finished turn: behind a thought that is empty
and closed, in the channel of answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ragdro.errors import ModelError

NO_TEMPLATE = "none"
_SAID, _ANSWERED = "\ue000said\ue001", "\ue000answered\ue001"
_PROBE = 'What "is" it\'s <b> & {c}?\n  [1] \\d / é'
_THOUGHTS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "[THINK]": "[/THINK]",
}
_UNTHINKING: dict[str, Any] = {"enable_thinking": False, "thinking": False}


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How a chat template is used.

    `template`: which one, of several ('none': none at all, prompts are plain); `arguments`: what it is given
    besides the turns; `answer_prefix`: what an output begins behind, in place of what the template says;
    `date`: the day that a template takes for today's (None: that of the first prompt).
    """

    template: str | None = None
    arguments: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    answer_prefix: str | None = None
    date: date | None = None


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """What stands `before` and `after` what the user says, and `start`: the white space that a finished turn
    has between that and the answer. `strips`: whether the template takes white space off either end."""

    before: str
    after: str
    start: str
    strips: tuple[bool, bool]


class ChatFormat:
    """The chat template of a tokenizer. `end_id`: the token behind a finished answer (None: there is none).

    Raises `ModelError`, which names the model, for several templates of which none is chosen and for one
    that cannot be rendered or does not pass on what is said.
    """

    def __init__(
        self,
        hf: PreTrainedTokenizerBase,
        name: str,
        options: ChatOptions,
        source: str,
        control_tokens: Callable[[str], list[int]],
        ends: frozenset[int],
    ) -> None:
        self._hf, self._name, self._options, self._source = hf, name, options, source
        today = options.date or date.today()
        self._arguments = {
            **_UNTHINKING,
            **options.arguments,
            "strftime_now": lambda form: datetime.combine(today, time()).strftime(form),
        }
        self._typed = False
        self._check()
        self.frame = lru_cache(maxsize=8)(self._frame)
        self.end_id = self._end(control_tokens, ends)

    @classmethod
    def of(
        cls,
        hf: PreTrainedTokenizerBase,
        name: str,
        options: ChatOptions,
        control_tokens: Callable[[str], list[int]],
        ends: frozenset[int],
    ) -> ChatFormat | None:
        """The format of a tokenizer, None where prompts are plain text. `control_tokens` finds those in a
        text of ours; `ends` are the checkpoint's own end tokens."""
        chosen, templates = options.template, hf.chat_template
        if not templates or chosen == NO_TEMPLATE:
            return None
        named = templates if isinstance(templates, dict) else {"default": templates}
        if chosen is None:
            chosen = "default" if "default" in named or len(named) > 1 else next(iter(named))
        if chosen not in named:
            raise ModelError(
                f"{name}: has no chat template '{chosen}'; set chat_template to one of"
                f" {', '.join(sorted(named))}, or to {NO_TEMPLATE}"
            )
        return cls(hf, name, options, named[chosen], control_tokens, ends)

    def _check(self) -> None:
        """Find out whether content is a text or typed parts; refuse a template that loses or changes it."""
        problem = "what a turn says is not in what it writes, or not as it was said"
        for typed in (False, True):
            self._typed = typed
            try:
                marked = self._render(("user", _SAID))
                if marked.count(_SAID) == 1 and marked.replace(_SAID, _PROBE) == self._render(
                    ("user", _PROBE)
                ):
                    return
            except ModelError as error:
                problem = str(error)
        raise ModelError(
            f"{self._name}: its chat template cannot be used: {problem.removeprefix(f'{self._name}: ')};"
            f" choose another with chat_template, or {NO_TEMPLATE} for plain prompts"
        )

    def _frame(self, system: str | None) -> ChatFrame:
        turns = (*([("system", system)] if system is not None else []), ("user", _SAID))
        prompt = self._render(*turns)
        if prompt.count(_SAID) != 1 or (system and system.strip() not in prompt):
            raise ModelError(
                f"{self._name}: its chat template has no place for the prompt template's `system`; leave"
                " that out"
            )
        before, after = prompt.split(_SAID)
        finished = self._render(*turns, ("assistant", _ANSWERED), finished=True)
        between, start = "", ""
        if finished.startswith(prompt) and _ANSWERED in finished:
            between = finished[len(prompt) : finished.index(_ANSWERED)]
        if self._options.answer_prefix is not None:
            between = self._options.answer_prefix
        else:
            between += _closing(after + between)
            written = between.rstrip(" ") if between.strip() else ""
            between, start = written, between[len(written) :]
        spaced = self._render(*turns[:-1], ("user", f" {_SAID} "))
        left, right = (space not in spaced for space in (f"{before} {_SAID}", f"{_SAID} {after}"))
        return ChatFrame(before, after + between, start, (left, right))

    def _end(self, control_tokens: Callable[[str], list[int]], ends: frozenset[int]) -> int | None:
        """The first control token behind a finished answer; where there is none, the one that begins the next
        turn, if the checkpoint counts it among its end tokens."""
        turns = (("user", _SAID), ("assistant", _ANSWERED))
        behind = self._render(*turns, finished=True).partition(_ANSWERED)[2]
        controls = control_tokens(behind)
        if controls or not ends:
            return controls[0] if controls else None
        behind = self._render(*turns, ("user", _SAID), finished=True).partition(_ANSWERED)[2]
        return next((token for token in control_tokens(behind)[:1] if token in ends), None)

    def _render(self, *turns: tuple[str, str], finished: bool = False) -> str:
        """The text of the turns, ready for an answer unless `finished`."""
        messages: list[dict[str, Any]] = [
            {"role": role, "content": [{"type": "text", "text": text}] if self._typed else text}
            for role, text in turns
        ]
        try:
            return str(
                self._hf.apply_chat_template(
                    messages,
                    chat_template=self._source,
                    tokenize=False,
                    add_generation_prompt=not finished,
                    **self._arguments,
                )
            )
        except (TemplateError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{self._name}: its chat template cannot be rendered: {reason}") from error


def _closing(text: str) -> str:
    """What closes the thought that `text` leaves open; nothing where it leaves none open."""
    tags = {**_THOUGHTS, **dict.fromkeys(_THOUGHTS.values(), "")}
    open_tags = re.findall("|".join(map(re.escape, tags)), text)
    if not open_tags or not tags[open_tags[-1]]:
        return ""
    return ("\n" if text.endswith("\n") else "\n\n") + tags[open_tags[-1]] + "\n\n"
