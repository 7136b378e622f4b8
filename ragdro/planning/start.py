"""The short preflight at the start of a run: what is trained, on what, into where, and the problems.

In: a training of which everything is loaded. Out: lines on standard error. Nothing is read, searched or
tokenised again: what `set_up` has found is looked at, recall and what is cut on a sample.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ragdro.config import Config
from ragdro.planning import findings
from ragdro.planning.findings import Finding
from ragdro.runs.models import ROLES, settings_of
from ragdro.training.callbacks import Callback
from ragdro.training.limits import selector_cuts
from ragdro.training.parts import TrainingParts
from ragdro.units import counted


class StartLines(Callback):
    """Says it when training begins, also when it resumes."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def on_train_begin(self, training: TrainingParts) -> None:
        """See `Callback`."""
        for line in lines(self._config, training):
            print(f"ragdro: {line}", file=sys.stderr, flush=True)


def lines(config: Config, training: TrainingParts) -> Iterator[str]:
    """What is trained, on what, into which folder; then what is a problem or worth a note."""
    trained = " and ".join(
        f"the {role} ({settings_of(config, role).model or 'new'}, {_how(config, role)})" for role in ROLES
    )
    yield f"training {trained} by {config.objective.kind}, on {training.system.selector.model.device}"
    test = "none for a test" if training.test is None else f"{len(training.test):,} to test"
    numbers = f"N = {config.top_n} candidates, K = {config.selector.k} selected"
    folder = Path(config.runs) / config.name
    yield f"on {counted(len(training.train))}, {len(training.validation):,} to validate, {test}; {numbers}"
    yield f"into {folder}"
    if config.warm_up.start is not None:
        yield f"from the pair in {config.warm_up.start}, without a warm-up of its own"
    yield from (
        f"{one.level}: {one.check}: {one.text}" for one in _found(config, training) if one.level != "ok"
    )


def _how(config: Config, role: str) -> str:
    if not getattr(config, f"train_{role}"):
        return "warmed up only"
    adapter = getattr(config, role).adapter
    return "all weights" if adapter is None else f"a {adapter.kind} adapter"


def _found(config: Config, training: TrainingParts) -> Iterator[Finding]:
    splits = {"train": training.train, "validation": training.validation, "test": training.test or []}
    yield findings.check_overlap(
        {name: [t.question for t in tasks] for name, tasks in splits.items() if tasks}
    )
    tasks = [task for split in splits.values() for task in split]
    yield findings.check_matches(tasks)
    yield findings.check_recall(findings.sample(tasks, 100))
    yield findings.check_cuts("selector", selector_cuts(training.system.selector, tasks))
