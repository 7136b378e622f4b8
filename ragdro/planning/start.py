"""The short preflight at the start of a run: what is a problem, and what is worth a note.

In: a training of which everything is loaded. Out: lines on standard error. Nothing is read, searched or
tokenised again: what `set_up` has found is looked at, recall and what is cut on a sample.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ragdro.config import Config
from ragdro.planning import findings
from ragdro.planning.findings import Finding
from ragdro.training.callbacks import Callback
from ragdro.training.limits import selector_cuts
from ragdro.training.parts import TrainingParts


class StartLines(Callback):
    """Says it when training begins, also when it resumes."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def on_train_begin(self, training: TrainingParts) -> None:
        """See `Callback`."""
        for one in _found(self._config, training):
            if one.level != "ok":
                print(f"ragdro: {one.level}: {one.check}: {one.text}", file=sys.stderr, flush=True)


def _found(config: Config, training: TrainingParts) -> Iterator[Finding]:
    splits = {"train": training.train, "validation": training.validation, "test": training.test or []}
    yield findings.check_overlap(
        {name: [t.question for t in tasks] for name, tasks in splits.items() if tasks}
    )
    tasks = [task for split in splits.values() for task in split]
    yield findings.check_matches(tasks)
    yield findings.check_recall(findings.sample(tasks, 100), 1 + config.retrieval.queries)
    yield findings.check_cuts("selector", selector_cuts(training.system.selector, tasks))
