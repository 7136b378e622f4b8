"""What a finished run answers from its greedy list, and from several lists that complete one another.

    python -m ragdro.studies.selections RUN OUT.json

In: a run. Out: for each way of answering the metrics of the best iteration on the questions that the run
reports on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from ragdro.config import load_config
from ragdro.config.answering import Answering, AnsweringKind
from ragdro.evaluation.evaluate import evaluate, summarise
from ragdro.files import write_atomically
from ragdro.runs.load import load, reported_tasks
from ragdro.runs.status import CONFIG

WAYS: tuple[AnsweringKind, ...] = ("greedy", "union", "joint")


def measure(run: Path) -> dict[str, dict[str, Any]]:
    """Way of answering → metrics. As many lists, or paths, are drawn as in an E-step. Paths have no union."""
    config = load_config(run / CONFIG)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    rag, tasks = load(run), reported_tasks(run)
    measured: dict[str, dict[str, Any]] = {}
    for kind in [way for way in WAYS if rag.asking is None or way != "union"]:
        how = Answering(kind=kind, samples=config.e_step.samples)
        measured[kind] = summarise([evaluate(one) for one in rag.predict(tasks, answering=how)])
    return measured


if __name__ == "__main__":
    write_atomically(Path(sys.argv[2]), json.dumps(measure(Path(sys.argv[1]))) + "\n")
