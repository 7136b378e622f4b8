"""The head of a run's page: the verdict, and what was run.

In: a finished run's folder. Out: HTML.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from ragdro.config import Config
from ragdro.environment import made_with, sessions
from ragdro.evaluation.verdict import Verdict
from ragdro.progress import duration
from ragdro.report import html
from ragdro.report.history import History
from ragdro.report.html import Html
from ragdro.runs.models import ROLES, settings_of, trained_part
from ragdro.runs.status import ENVIRONMENT, read_json
from ragdro.units import counted


def verdict_box(verdict: Verdict) -> Html:
    """The verdict, its reasons, and what to try next."""
    (_, headline), *others = verdict.lines()
    inner = [html.paragraph(headline)]
    by_word: dict[str, list[str]] = {}
    for word, text in others:
        by_word.setdefault(word, []).append(text)
    for word, texts in by_word.items():
        if not word:
            inner += [html.paragraph(text) for text in texts]
        else:
            inner.append(html.heading(word.capitalize(), 3))
            inner.append(html.items(map(html.escaped, texts), "dim" if word == "mind" else ""))
    return html.block(inner, f"verdict {verdict.level}")


def facts(history: History, results: dict[str, Any]) -> Html:
    """Models, data, objective, commands, date, versions."""
    return html.pairs(_facts(history, results))


def _facts(history: History, results: dict[str, Any]) -> Iterator[tuple[str, str]]:
    config, run = history.config, history.run
    for role in ROLES:
        yield role, _model(history, role)
    for split in ("train", "validation", "test"):
        source = getattr(config.data, split)
        count = history.start.get(split)
        if source is not None:
            yield split, source if count is None else f"{source}, {counted(count)}"
    retriever = f"{config.retriever.kind}, N = {config.top_n} candidates, K = {config.selector.k} read"
    every = getattr(config.retriever, "train_every", None)
    if every is not None:
        retriever += f", trained by the run after every {counted(every, 'iterations')}"
    yield "corpus", "given with the questions" if config.data.corpus is None else config.data.corpus
    yield "retriever", retriever
    best, done = results["best"]["iteration"], history.iterations()
    name = f"iteration {best}" if best else "the warm-up"
    yield (
        "training",
        f"objective {config.objective.kind}{_drawn(config)}, seed"
        f" {config.seed}; {done} of {counted(config.iterations, 'iterations')} in"
        f" {duration(history.seconds())}; best on the validation questions: {name}",
    )
    environment = read_json(run / ENVIRONMENT) if (run / ENVIRONMENT).is_file() else {}
    commands = [shlex.join(map(str, one["command"])) for one in sessions(environment) if "command" in one]
    for number, command in enumerate(dict.fromkeys(commands)):
        yield "resumed with" if number else "command", command
    if "date" in environment:
        yield "date", str(environment["date"])
    for number, versions in enumerate(made_with(environment)):
        yield "resumed by" if number else "made with", versions


def _drawn(config: Config) -> str:
    """How many lists of a question are drawn, where any are."""
    return f", m = {config.e_step.samples} lists a question" if config.objective.draws_lists else ""


def _model(history: History, role: Any) -> str:
    settings = settings_of(history.config, role)
    name = settings.model or "new weights"
    return f"{name} ({trained_part(history.config, role)})"
