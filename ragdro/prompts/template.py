"""From a question and its passages to the token ids of a prompt.

In: a template file (YAML), a tokenizer, a question, passages. Out: the token ids of the whole text, in which
the template's own words may hold special tokens and the users' words never do. A tokenizer with a chat
template gets the prompt as one user turn; another gets it as it stands.

A template file has `user` (with the slots `{question}`, `{passages}` and, optionally, `{n}` and `{k}`),
`passage` (with `{title}`, `{text}` and, for a selector, `{identifier}`), `start`, the text between a
plain prompt and the output (a chat turn has its own) and, optionally, `system`: a system turn, in place of
the one that some chat templates write by themselves. A selector's that is asked more than once has
`{read}` in its `user`: there each passage that was read already stands as `read` says (with `{title}` and
`{text}`). A generator's that asks for a thought first has `answer`: what stands between the thought and the
answer, in place of `start`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import yaml

from ragdro.errors import ConfigError
from ragdro.lm.tokens import TextTokenizer
from ragdro.lm.vocabulary import Parts, Place, join_parts
from ragdro.prompts.segments import enclose, fields, segments_of, without_space
from ragdro.types import Passage


@dataclass(frozen=True, slots=True)
class Budget:
    """How many tokens a question and a passage (title and text together) may take."""

    question_tokens: int
    passage_tokens: int

    def __post_init__(self) -> None:
        for name in ("question_tokens", "passage_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: must be at least 1, is {getattr(self, name)}")


@dataclass(slots=True)
class CutCounts:
    """How many texts went into prompts and sequences, and how many of them were cut to their budget. A text
    counts each time that it is used."""

    questions: int = 0
    questions_cut: int = 0
    passages: int = 0
    passages_cut: int = 0
    answers: int = 0
    answers_cut: int = 0

    def fractions(self) -> dict[str, float]:
        """The fraction that was cut, of what there was any of."""
        counts = {
            "questions": (self.questions_cut, self.questions),
            "passages": (self.passages_cut, self.passages),
            "answers": (self.answers_cut, self.answers),
        }
        return {name: cut / used for name, (cut, used) in counts.items() if used}


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt's token ids, and for each passage which of them has its last character. Where that was asked
    for: which token is the first of the passages, and which are those of the question behind them."""

    ids: list[int]
    ends: list[int]
    begin: int | None = None
    asked: range = range(0)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The parts of a template file (see the module's docstring) and `counts` of what was cut for it."""

    user: str
    passage: str
    start: str = ""
    system: str | None = None
    read: str | None = None
    answer: str | None = None
    counts: CutCounts = field(default_factory=CutCounts, compare=False, repr=False)

    def require_blocks(self) -> None:
        """Raises `ConfigError` where a passage's text says its place, or nothing stands behind the passages
        but the answer."""
        cause = None
        if any(slot == "identifier" for _, slot in fields(self.passage)):
            cause = "'passage' has {identifier}, but a block's text cannot depend on its place"
        elif not self.user.partition("{passages}")[2].strip():
            cause = "'user' has nothing behind {passages}, so that nothing would read the blocks"
        if cause is not None:
            raise ConfigError(
                f"generator.prompt: {cause}; change the template, or use generator.passage_attention: full"
            )

    @property
    def shows_read(self) -> bool:
        """Whether a prompt says what was read already."""
        return any(slot == "read" for _, slot in fields(self.user))

    def as_yaml(self) -> str:
        """The template file that `load_template` reads this back from."""
        parts = {"user": self.user, "passage": self.passage, "read": self.read, "start": self.start}
        parts |= {"answer": self.answer, "system": self.system}
        said = {key: text for key, text in parts.items() if text is not None}
        return yaml.safe_dump(said, allow_unicode=True)

    def output_start(self, tokenizer: TextTokenizer) -> str:
        """What stands between the prompt and the output: white space. Raises `ModelError`."""
        frame = tokenizer.frame(self.system)
        return self.start if frame is None else frame.start

    def output_border(self, tokenizer: TextTokenizer) -> str:
        """The end of every prompt, from the last slot on: what the output is a continuation of."""
        literal, slot = fields(self.user)[-1]
        last = literal if slot is None else ""
        frame = tokenizer.frame(self.system)
        if frame is None:
            return last
        return (last.rstrip() if frame.strips[1] else last) + frame.after

    def encode(
        self,
        tokenizer: TextTokenizer,
        question: str,
        passages: Sequence[Passage],
        k: int,
        budget: Budget,
        read: Sequence[Passage] = (),
    ) -> list[int]:
        """The prompt's token ids, ready for the output to follow: those of the whole text, texts that are
        longer than their budget cut. Raises `ModelError` where the chat template cannot be used."""
        segments, *_ = self._segments(tokenizer, question, passages, k, budget, read)
        return [*self._begin(tokenizer), *tokenizer.prompt(segments)]

    def encode_blocks(
        self, tokenizer: TextTokenizer, question: str, passages: Sequence[Passage], k: int, budget: Budget
    ) -> list[list[int]]:
        """The prompt in blocks: what stands before the passages (where anything does), each passage, what
        stands behind them. Each is tokenised apart, so a passage's ids are the same wherever it stands.
        Raises `ModelError` as `encode` does."""
        blocks, first = self._blocks(tokenizer, question, passages, k, budget)
        read, behind = blocks[first : first + len(passages)], blocks[first + len(passages) :]
        last = list(join_parts([tuple(parts) for parts in behind]))
        self._enclose([*blocks[:first], last], tokenizer)
        before, *ids, tail = tokenizer.apart([*blocks[:first], *read, last])
        return [*filter(None, [[*self._begin(tokenizer), *before], *ids]), tail]

    def encode_with_ends(
        self,
        tokenizer: TextTokenizer,
        question: str,
        passages: Sequence[Passage],
        k: int,
        budget: Budget,
        read: Sequence[Passage] = (),
    ) -> EncodedPrompt:
        """`encode`, and where each passage ends. Raises `ModelError` as that does, and for a tokenizer that
        does not say which characters its tokens stand for."""
        segments, places, first = self._segments(tokenizer, question, passages, k, budget, read)
        begin = self._begin(tokenizer)
        ids, ends = tokenizer.prompt_with_ends(segments, places[first : first + len(passages)])
        return EncodedPrompt([*begin, *ids], [len(begin) + end for end in ends])

    def encode_with_spans(
        self,
        tokenizer: TextTokenizer,
        question: str,
        passages: Sequence[Passage],
        k: int,
        budget: Budget,
        read: Sequence[Passage] = (),
    ) -> EncodedPrompt:
        """`encode_with_ends`, and where the passages begin and the question behind them stands. Its template
        has a question there."""
        segments, places, first = self._segments(tokenizer, question, passages, k, budget, read)
        begin, last = self._begin(tokenizer), first + len(passages)
        around = [without_space(segments, place) for place in places[last : last + 2]]
        ids, places_of_ends = tokenizer.prompt_with_ends(segments, [*places[first - 1 : last], *around])
        before, *ends, lead, end = (len(begin) + i for i in places_of_ends)
        return EncodedPrompt([*begin, *ids], ends, before + 1, range(lead + 1, end + 1))

    def cuts(
        self,
        tokenizer: TextTokenizer,
        question: str,
        passages: Sequence[Passage],
        budget: Budget,
        counts: CutCounts,
    ) -> None:
        """Add to `counts` what a prompt of these texts would, without making it."""
        replace(self, counts=counts)._blocks(tokenizer, question, passages, len(passages), budget)

    def tokenise(
        self,
        tokenizer: TextTokenizer,
        question: str,
        passages: Sequence[Passage],
        budget: Budget,
        blocks: bool,
    ) -> None:
        """Have the tokenizer remember the pieces of a prompt of these texts (in `blocks`, or as one) that
        prompts of some of them, in any order, may have as well; counts nothing. Raises as `encode` does."""
        own = replace(self, counts=CutCounts())
        if blocks:
            own.encode_blocks(tokenizer, question, passages, len(passages), budget)
        else:
            tokenizer.tokenise(own._segments(tokenizer, question, passages, len(passages), budget, ())[0])

    def _begin(self, tokenizer: TextTokenizer) -> list[int]:
        """What the tokenizer puts in front of a plain prompt; a chat template writes its own begin token."""
        return tokenizer.start_ids if tokenizer.frame(self.system) is None else []

    def _segments(
        self,
        tokenizer: TextTokenizer,
        question: str,
        passages: Sequence[Passage],
        k: int,
        budget: Budget,
        read: Sequence[Passage],
    ) -> tuple[list[Parts], list[Place], int]:
        """The prompt's text in segments (see `TextTokenizer.prompt`), the places behind its blocks, and which
        of these is the first passage's. Behind the passages come the words up to a question and, where there
        is one, that question."""
        blocks, first = self._blocks(tokenizer, question, passages, k, budget, read)
        self._enclose(blocks, tokenizer)
        segments, places = segments_of(blocks)
        return segments, places, first

    def _blocks(
        self,
        tokenizer: TextTokenizer,
        question: str,
        passages: Sequence[Passage],
        k: int,
        budget: Budget,
        read: Sequence[Passage] = (),
    ) -> tuple[list[list[str]], int]:
        """The blocks of `_segments`, without a system turn, and which one is the first passage."""
        asked = tokenizer.cut(question, budget.question_tokens, turns=True)
        self.counts.questions += 1
        self.counts.questions_cut += len(asked) < len(question)
        blocks, first = [[""]], 0
        for literal, slot in fields(self.user):
            blocks[-1][-1] += literal
            if slot == "question" and first:
                blocks += [["", asked, ""], [""]]
            elif slot == "question":
                blocks[-1] += [asked, ""]
            elif slot == "passages":
                first = len(blocks)
                form = self.passage
                blocks += [self._passage(tokenizer, form, i, p, budget) for i, p in enumerate(passages)]
                blocks.append([""])
            elif slot == "read":
                for i, p in enumerate(read):
                    own, *others = self._passage(tokenizer, self.read or "", i, p, budget)
                    blocks[-1][-1] += own
                    blocks[-1] += others
            elif slot is not None:
                blocks[-1][-1] += str(k if slot == "k" else len(passages))
        return blocks, first

    def _enclose(self, blocks: list[list[str]], tokenizer: TextTokenizer) -> None:
        """Put the system's words and a chat turn around the blocks."""
        frame = tokenizer.frame(self.system)
        if frame is not None:
            enclose(blocks, frame)
        elif self.system is not None:
            blocks[0][0] = f"{self.system}\n\n{blocks[0][0]}"

    def _passage(
        self, tokenizer: TextTokenizer, form: str, index: int, passage: Passage, budget: Budget
    ) -> list[str]:
        """The passage's block, as `form` says, in parts: ours and the users' by turns."""
        limit = budget.passage_tokens
        pieces = fields(form)
        title, cut = "", False
        if any(slot == "title" for _, slot in pieces):
            title = tokenizer.cut(passage.title, limit // 2)
            cut = len(title) < len(passage.title)
            limit -= tokenizer.length(title)
        text = tokenizer.cut(passage.text, limit)
        self.counts.passages += 1
        self.counts.passages_cut += cut or len(text) < len(passage.text)
        said = {"title": title, "text": text}
        parts = [""]
        for literal, slot in pieces:
            parts[-1] += literal
            if slot == "identifier":
                parts[-1] += str(index + 1)
            elif slot is not None:
                parts += [said[slot], ""]
        return parts
