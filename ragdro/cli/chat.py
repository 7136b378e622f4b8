"""`ragdro chat`: ask a trained system, turn by turn, with the sources of each answer."""

from __future__ import annotations

import sys
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

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
from ragdro.cli.ask import Corpus, PassagesFile, opened
from ragdro.cli.models import RunPath, Stage

if TYPE_CHECKING:
    from ragdro.system import Rag
    from ragdro.types import Passage, Prediction

_PROMPT = "> "
_HELP = """\
  /sources   the passages of the last answer, whole
  /path      what was asked, found and chosen, round by round
  /new       forget the turns before
  /help      this
  /quit      leave (so does Ctrl-D; Ctrl-C drops what is being typed)"""


def chat(
    run: RunPath,
    corpus: Corpus = None,
    passages: PassagesFile = None,
    stage: Stage = "best",
    answering: AnsweringOption = None,
    samples: SamplesOption = None,
    thoughts: ThoughtsOption = None,
    threshold: ThresholdOption = None,
    passage_attention: PassageAttentionOption = None,
    passage_memory: PassageMemoryOption = None,
) -> None:
    """Ask a run, or an exported folder, turn by turn. Earlier turns stand before the question, as in
    /v1/chat/completions.

    Each answer has its sources: their number, the probability of being chosen there, where they are from.
    """
    way = partial(answering_of, kind=answering, samples=samples, thoughts=thoughts, threshold=threshold)
    rag, given = opened(run, stage, corpus, passages, way, passage_attention, passage_memory)
    if sys.stdin.isatty():
        if find_spec("readline") is not None:
            import readline  # noqa: F401  (line editing and history for `input`)
        typer.echo(f"{run} ({stage}), {rag.answering.kind} answers. /help lists the commands.")
    _Conversation(rag, given).run()


class _Conversation:
    """Turns are answered from `given` passages, or from what is found."""

    def __init__(self, rag: Rag, given: tuple[Passage, ...] | None) -> None:
        self._rag = rag
        self._given = given
        self._turns: list[str] = []
        self._last: Prediction | None = None

    def run(self) -> None:
        """Until the end of the input or /quit."""
        while (line := _next_line()) is not None:
            text = line.strip()
            if text == "/quit":
                return
            if text.startswith("/"):
                self._command(text)
            elif text:
                self._ask(text)

    def _command(self, text: str) -> None:
        from ragdro.report.plain import one_line

        if text == "/help":
            typer.echo(_HELP)
        elif text == "/new":
            self._turns = []
            typer.echo("a new conversation")
        elif text in ("/sources", "/path"):
            self._show(text)
        else:
            typer.echo(f"no such command: {one_line(text)}; /help lists them")

    def _ask(self, text: str) -> None:
        from ragdro.dialogue import as_question
        from ragdro.errors import RagdroError
        from ragdro.report.predictions import print_answer

        try:
            prediction = self._rag.answer(as_question([*self._turns, text]), self._given)
        except RagdroError as error:
            if not sys.stdin.isatty():
                raise
            typer.echo(f"ragdro: error: {' '.join(str(error).split())}", err=True)
            return
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            typer.echo("\ninterrupted")
            return
        print_answer(prediction)
        self._turns += [text, prediction.shown]
        self._last = prediction

    def _show(self, command: str) -> None:
        from ragdro.report.predictions import print_path, print_sources

        if self._last is None:
            typer.echo("nothing has been asked yet")
        elif command == "/path":
            print_path(self._last)
        else:
            print_sources(self._last)


def _next_line() -> str | None:
    """A line of the terminal or of standard input; None at its end. Ctrl-C drops what was typed."""
    if not sys.stdin.isatty():
        return sys.stdin.readline() or None
    while True:
        try:
            return input(_PROMPT)
        except EOFError:
            typer.echo()
            return None
        except KeyboardInterrupt:
            typer.echo()
