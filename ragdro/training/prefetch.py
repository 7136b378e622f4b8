"""What the next step needs is made while this one computes.

In: items and what is to be made of each. Out: each item with that, in order. One thread makes it, one item
ahead: tokenising and tries take the processor while a step keeps the device busy. Where the next step is not
known yet, the thread tokenises what its prompts may read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from ragdro.generation.generator import Generator as Reader
from ragdro.profiling import phase
from ragdro.selection.selector import Selector
from ragdro.types import Task

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")
_AHEAD = 512
"""The most questions that are tokenised ahead: a tokenizer remembers the texts of more."""


def prefetched(items: Sequence[_Item], make: Callable[[_Item], _Made]) -> Generator[tuple[_Item, _Made]]:
    """Each item with what `make` gives; what it raises is raised when the item's turn has come. To be closed
    where it is left early."""
    with ThreadPoolExecutor(1, "prefetch") as pool:
        coming = pool.submit(make, items[0]) if items else None
        for place, item in enumerate(items):
            assert coming is not None
            with phase("tokenise"):  # what is still to be waited for
                made = coming.result()
            coming = pool.submit(make, items[place + 1]) if place + 1 < len(items) else None
            yield item, made


@contextmanager
def tokenised_meanwhile(model: Selector | Reader, tasks: Sequence[Task]) -> Iterator[None]:
    """A thread tokenises what the model's prompts of these questions read, as far as it comes while the block
    runs; its prompts are the same without it. Raises `ModelError`, as a prompt does, behind the block."""
    blocks = isinstance(model, Reader) and model.passage_attention != "full"
    ended = threading.Event()

    def tokenise() -> None:
        for task in tasks[:_AHEAD]:
            if ended.is_set():
                return
            texts = (task.question.question, task.candidates.passages)
            model.template.tokenise(model.model.tokenizer, *texts, model.budget, blocks)

    with ThreadPoolExecutor(1, "tokenise") as pool:
        coming = pool.submit(tokenise)
        try:
            yield
        finally:
            ended.set()
        coming.result()
