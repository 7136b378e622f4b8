"""`ragdro answer`: ask a trained system one question, or as many as come on standard input."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ragdro.cli.answering import (
    AnsweringOption,
    PassageAttentionOption,
    PassageMemoryOption,
    SamplesOption,
    ThoughtsOption,
    ThresholdOption,
    answering_of,
)
from ragdro.cli.checks import require_sources, require_stage
from ragdro.cli.models import RunPath, Stage

if TYPE_CHECKING:
    from ragdro.config.answering import Answering
    from ragdro.system import Rag
    from ragdro.types import Passage, Prediction, Question

STANDARD_INPUT = "-"
_AT_ONCE = 64
"""Questions of standard input that are answered together."""
Corpus = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="search in this corpus: a file, a folder, or hf:org/name[:split]"),
]
PassagesFile = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="a file of passages to answer from, best first, instead of searching"),
]


def answer(
    run: RunPath,
    question: Annotated[str, typer.Argument(help="the question; '-': questions from standard input")],
    corpus: Corpus = None,
    passages: PassagesFile = None,
    show_selection: Annotated[
        bool, typer.Option("--show-selection", help="print the passages read, with their probabilities")
    ] = False,
    show_path: Annotated[
        bool, typer.Option("--show-path", help="print what was asked, found and chosen, round by round")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
    stage: Stage = "best",
    answering: AnsweringOption = None,
    samples: SamplesOption = None,
    thoughts: ThoughtsOption = None,
    threshold: ThresholdOption = None,
    passage_attention: PassageAttentionOption = None,
    passage_memory: PassageMemoryOption = None,
) -> None:
    """Answer with a trained pair, or with an exported one.

    Standard input has a question a line, or JSON lines ({"id", "question", "passages"}, the question alone is
    needed); each is answered in one line (with --json: one JSON object), in their order.
    """
    way = partial(answering_of, kind=answering, samples=samples, thoughts=thoughts, threshold=threshold)
    rag, given = opened(run, stage, corpus, passages, way, passage_attention, passage_memory)
    shown = _Shown(as_json, selection=show_selection, path=show_path)
    if question != STANDARD_INPUT:
        _print(rag, rag.answer(question, given), shown, indent=2)
        return
    questions = _questions()
    while asked := list(islice(questions, _AT_ONCE)):
        for prediction in _answers(rag, asked, given, searches=corpus is not None):
            _print(rag, prediction, shown, indent=None)


def opened(
    run: Path,
    stage: str,
    corpus: str | None,
    passages: str | None,
    way: Callable[[Answering], Answering],
    passage_attention: str | None,
    passage_memory: float | None,
) -> tuple[Rag, tuple[Passage, ...] | None]:
    """The trained system, answering in the `way` that the command line makes of its own, and the passages to
    answer from in place of a search. Raises `ConfigError` for what does not go together."""
    require_stage(run, stage)
    require_sources(corpus=corpus)
    require_sources(corpus=passages)
    import ragdro
    from ragdro.data import read_corpus
    from ragdro.errors import ConfigError
    from ragdro.sources import resolve

    if corpus is not None and passages is not None:
        raise ConfigError(
            "--corpus and --passages: give one, a corpus to search in or passages to answer from"
        )
    given = None if passages is None else tuple(read_corpus(resolve(passages)))
    rag = ragdro.load(
        run, stage=stage, corpus=corpus, passage_attention=passage_attention, passage_memory=passage_memory
    )
    rag.answering = way(rag.answering)
    return rag, given


def _questions() -> Iterator[Question]:
    """The questions of standard input. Raises `DataError` naming the line of one that cannot be read."""
    from ragdro.data import own
    from ragdro.data.record import parse
    from ragdro.errors import DataError
    from ragdro.types import Question

    seen: set[str] = set()
    for number, line in enumerate(sys.stdin.buffer, start=1):
        text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip()
        if not text:
            continue
        if text.startswith(b"{"):
            question = own.question(parse(text, "standard input", number, number - 1))
        else:
            try:
                question = Question(f"question-{number - 1}", text.decode(), ())
            except UnicodeDecodeError as error:
                raise DataError("is not UTF-8", path="standard input", line=number) from error
        if question.id in seen:
            raise DataError(
                f"the id {question.id!r} occurs twice", path="standard input", line=number, field="id"
            )
        seen.add(question.id)
        yield question


def _answers(
    rag: Rag, asked: Sequence[Question], given: tuple[Passage, ...] | None, *, searches: bool
) -> list[Prediction]:
    """From `given` passages, from those that a question brings (unless `searches`), or from what is found."""
    from ragdro.data import is_reference
    from ragdro.types import Candidates, Task

    tasks: dict[str, Task] = {}
    for question in asked:
        own = question.candidates or (
            Candidates(question.id, question.passages) if question.passages else None
        )
        if given is not None:
            tasks[question.id] = Task(question, Candidates(question.id, given), given=True)
        elif own is not None and not searches and not any(map(is_reference, own.passages)):
            tasks[question.id] = Task(question, own, given=True)
    others = [question for question in asked if question.id not in tasks]
    if others:
        tasks.update((task.question.id, task) for task in rag.retrieved(others))
    return rag.predict([tasks[question.id] for question in asked])


@dataclass(frozen=True, slots=True)
class _Shown:
    """What of an answer is printed beside it."""

    as_json: bool
    selection: bool
    path: bool


def _print(rag: Rag, prediction: Prediction, shown: _Shown, *, indent: int | None) -> None:
    from ragdro.report.plain import one_line
    from ragdro.report.predictions import as_record, print_headline, print_path, print_prediction

    reranking = rag.reranked(prediction) if shown.selection else None
    if shown.as_json:
        record = as_record(prediction, reranking, with_path=shown.path)
        typer.echo(json.dumps(record, ensure_ascii=False, indent=indent))
        return
    if shown.path:
        print_path(prediction)
    if shown.selection:
        print_prediction(prediction, reranking)
    elif shown.path:
        print_headline(prediction)
    else:
        typer.echo(one_line(prediction.shown))
