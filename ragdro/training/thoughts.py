"""Thoughts of the E-step's draws: one each, from the generator as it stands.

In: a generator that thinks, questions with the lists or paths drawn for them. Out: the same draws, each with
a thought r ~ p(r|x,d_z), drawn at temperature 1, whatever the lists were drawn from: its log q is its log p.
What draws read alike is read once. Every random number is a function of (seed, stream, question id, which of
its draws), so a question's thoughts depend on nothing that is computed beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.profiling import phase
from ragdro.training.proposals import numbered
from ragdro.types import Draw, Permutation, Task

Think: TypeAlias = Callable[[Generator, Sequence[Task], Sequence[Sequence[Draw]]], list[list[Draw]]]
"""The draws of each question with a thought each."""
_THOUGHTS = 5
"""Sets the thoughts' random numbers apart from those of lists and queries."""


def thinks(seed: int, stream: int, max_tokens: int) -> Think:
    """Thoughts whose random numbers `seed` and `stream` decide; `max_tokens` bounds one forward pass. Of a
    generator that does not think the draws stay as they are."""

    @phase("think")
    def think(
        generator: Generator, tasks: Sequence[Task], draws: Sequence[Sequence[Draw]]
    ) -> list[list[Draw]]:
        if generator.thinking is None:
            return [list(drawn) for drawn in draws]
        most = generator.thinking.most
        places: list[tuple[int, list[int]]] = []
        readings, uniforms = list[Reading](), []
        for place, (task, drawn) in enumerate(zip(tasks, draws, strict=True)):
            numbers = numbered(task, seed, stream, _THOUGHTS).random((len(drawn), most))
            alike: dict[Permutation, list[int]] = {}
            for i, draw in enumerate(drawn):
                alike.setdefault(generator.ordered(draw.permutation, draw.path), []).append(i)
            for permutation, members in alike.items():
                places.append((place, members))
                readings.append(Reading.of(task, permutation))
                uniforms.append(numbers[members])
        thoughts = generator.sample_thoughts(readings, uniforms, max_tokens)
        with_thoughts = [list(drawn) for drawn in draws]
        for (place, members), own in zip(places, thoughts, strict=True):
            for i, thought in zip(members, own, strict=True):
                with_thoughts[place][i] = replace(with_thoughts[place][i], thought=thought)
        return with_thoughts

    return think
