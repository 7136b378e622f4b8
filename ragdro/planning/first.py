"""From somebody's files to a config file: reads the data, splits it if asked, writes and checks the config.

In: what the user said. Out: a commented config that `load_config` reads, and lines that say what was seen.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ragdro.config.commented import commented
from ragdro.config.load import load_config
from ragdro.config.retriever import Bm25Settings
from ragdro.data import load_questions, read_corpus, recognise
from ragdro.data.convert import write_questions
from ragdro.data.split import split
from ragdro.errors import ConfigError
from ragdro.files import write_atomically
from ragdro.lm.load import load_tokenizer
from ragdro.planning.look import look
from ragdro.planning.room import room_of
from ragdro.planning.starter import StarterOptions, prompts_of, starter
from ragdro.retrieval.language import word_rules
from ragdro.sources import resolve
from ragdro.types import Passage, Question
from ragdro.units import counted

_PASSAGES = 2_000


@dataclass(frozen=True, slots=True)
class Answers:
    """What the user said. `validation` or `fraction` is set; `given`: questions bring candidates."""

    train: str | None
    validation: str | None
    fraction: float | None
    test: str | None
    corpus: str | None
    given: bool
    model: str | None
    device: str
    memory: float | None
    language: str | None
    name: str
    selector: str = "list"


def split_files(file: Path) -> tuple[Path, Path]:
    """Where the questions to train on and those to validate with go beside a config `file`."""
    return file.with_name(f"{file.stem}-train.jsonl"), file.with_name(f"{file.stem}-validation.jsonl")


def write_first_config(file: Path, answers: Answers) -> list[str]:
    """Write the config, and two files of questions where the training file is split. Returns what was seen.

    Raises a `RagdroError` for data that cannot be read or leaves nothing to select from; then nothing is
    written.
    """
    if not (answers.train and answers.model):
        raise ConfigError("--train and --model: both are needed")
    if answers.language is not None:
        word_rules(Bm25Settings(language=answers.language), answers.language)
    questions = load_questions(resolve(answers.train))
    corpus = _first_passages(answers.corpus)
    tokenizer = load_tokenizer(answers.model)

    def count(text: str) -> int:
        return len(tokenizer.data(text))

    seen = look(questions, corpus, count)
    lines = [f"{answers.train}: {recognise(resolve(answers.train))}", *seen.as_lines()]
    if answers.corpus is not None:
        more = "at least " if len(corpus) == _PASSAGES else ""
        lines.append(
            f"{answers.corpus}: {recognise(resolve(answers.corpus))},"
            f" {more}{counted(len(corpus), 'passages')}"
        )
    train, validation = answers.train, answers.validation
    parts: dict[str, list[Question]] = {}
    if validation is None:
        train, validation = map(str, split_files(file))
        parts = dict(zip((train, validation), split(questions, answers.fraction or 0), strict=True))
    for source in filter(None, (answers.validation, answers.test)):
        number = counted(len(load_questions(resolve(source))))
        lines.append(f"{source}: {recognise(resolve(source))}, {number}")
    options = StarterOptions(
        name=answers.name,
        train=train,
        validation=validation,
        test=answers.test,
        corpus=answers.corpus,
        model=answers.model,
        device=answers.device,
        memory=answers.memory,
        language=answers.language,
        given=answers.given,
        selector=answers.selector,
    )
    room = room_of(answers.model, prompts_of(answers.model, answers.selector)[0], count)
    made = starter(options, seen, len(corpus), room)
    text = commented(
        made.values,
        made.reasons,
        f"Written by `ragdro init`; train with:  ragdro train {shlex.quote(str(file))}",
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    for path, part in parts.items():
        write_questions(Path(path), part)
        lines.append(f"{path}: {counted(len(part))}")
    write_atomically(file, text)
    load_config(file)
    return [*lines, *(f"{key}: {reason}" for key, reason in made.reasons.items()), f"wrote {file}"]


def _first_passages(source: str | None) -> Sequence[Passage]:
    return [] if source is None else list(islice(read_corpus(resolve(source)), _PASSAGES))
