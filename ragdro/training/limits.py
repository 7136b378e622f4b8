"""What the token limits cut, on a sample of the questions that a run reports on."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace

from ragdro.prompts.template import CutCounts
from ragdro.system import Rag, reading
from ragdro.types import Task

_SAMPLE = 100


def cut_fractions(rag: Rag, tasks: Sequence[Task]) -> dict[str, float]:
    """The fraction that is cut of what each setting limits, by its key (`selector.passage_tokens`).

    Of at most 100 tasks, at equal distances; the generator reads the retriever's first K. Nothing is computed
    by a model, and what the prompts have counted so far stays as it is.
    """
    step = max(1, -(-len(tasks) // _SAMPLE))
    selector, generator = copy.copy(rag.selector), copy.copy(rag.generator)
    selector.template = replace(selector.template, counts=CutCounts())
    generator.template = replace(generator.template, counts=CutCounts())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of an answer that is cut: counted here
        for task in tasks[::step]:
            selector.prompt(task)
            generator.scored(reading(task, tuple(range(selector.list_length(task.candidates)))))
    return {
        f"{role}.{name.removesuffix('s')}_tokens": fraction
        for role, counts in (("selector", selector.template.counts), ("generator", generator.template.counts))
        for name, fraction in counts.fractions().items()
    }
