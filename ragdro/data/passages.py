"""Passages as a caller has them: texts, mappings or `Passage`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from ragdro.data.record import Record
from ragdro.errors import DataError, brief
from ragdro.types import Passage

PassageLike: TypeAlias = str | Passage | Mapping[str, object]
"""A text; a mapping with `text` and, if wanted, `title` and `id` (what else it holds is not looked at); or a
`Passage`."""


def as_passages(passages: Sequence[PassageLike]) -> tuple[Passage, ...]:
    """The passages in the order given; one without an id gets its place, counted from 1.

    Raises `DataError` naming the place and the field of what is no passage.
    """
    if isinstance(passages, str):
        raise DataError(f"passages: a list of passages is wanted, not one text: {brief(passages)}")
    return tuple(_passage(passage, index) for index, passage in enumerate(passages))


def _passage(given: PassageLike, index: int) -> Passage:
    if isinstance(given, Passage):
        return given
    if isinstance(given, str):
        return Passage(str(index + 1), "", given)
    if not isinstance(given, Mapping):
        raise DataError(f"passages[{index}]: must be a text, a mapping or a Passage, is {brief(given)}")
    record = Record(given, f"passages[{index}]", None)
    record.required("text")
    name = record.identifier("id") if record.has("id") else str(index + 1)
    return Passage(name, record.string("title"), record.string("text"))
