"""One JSON object with its place in a file: typed access whose errors name file, line and field.

A field that is absent and a field that is null are the same thing here, as they are in every dataset
that we read.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from ragdro.access import recoded
from ragdro.errors import DataError

Fields: TypeAlias = Mapping[str, object]

_LONGEST_LIST = 2**20
"""Of a list in a string, in characters: Python's own parser takes some hundred bytes for each."""

_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number"}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number" if isinstance(value, float) else type(value).__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of one object. `position` counts a file's records from 0; `inside` is the path to it."""

    fields: Fields
    path: object
    line: int | None
    position: int = 0
    inside: str = ""

    def error(self, message: str, field: str) -> DataError:
        """The error to raise about `field`, with everything that places it."""
        return DataError(message, path=self.path, line=self.line, field=self.inside + field)

    def has(self, field: str) -> bool:
        """Whether the field is there and not null."""
        return self.fields.get(field) is not None

    def required(self, field: str) -> object:
        """The value of a field that must be there."""
        value = self.fields.get(field)
        if value is None:
            raise self.error("is missing", field)
        return value

    def string(self, field: str) -> str:
        """A string, which may be empty; absent reads as empty."""
        value = self.fields.get(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.error(f"must be a string, is {_kind(value)}", field)
        return value

    def text(self, field: str) -> str:
        """A string that must be there and hold more than white space."""
        self.required(field)
        value = self.string(field)
        if not value.strip():
            raise self.error("is empty", field)
        return value

    def identifier(self, field: str) -> str:
        """An id: a string that is not empty, or a whole number, which is read as its digits."""
        value = self.required(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.text(field)

    def flag(self, field: str) -> bool | None:
        """True, false, or None where absent; 0 and 1 are accepted, as some writers have them."""
        value = self.fields.get(field)
        if value is None or isinstance(value, bool):
            return value
        if value == 0 or value == 1:
            return bool(value)
        raise self.error(f"must be true or false, is {_kind(value)}", field)

    def number(self, field: str) -> float:
        """A finite number that must be there; a string of one (as in DPR's results) is accepted."""
        value = self.required(field)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self.error(f"must be a number, is {_kind(value)}", field)
        try:
            number = float(value)
        except (ValueError, OverflowError) as error:
            raise self.error("must be a number", field) from error
        if not math.isfinite(number):
            raise self.error("must be a finite number", field)
        return number

    def items(self, field: str) -> list[object]:
        """A list; absent reads as empty."""
        value = self.fields.get(field)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(f"must be a list, is {_kind(value)}", field)
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of strings that are not empty; absent reads as empty."""
        texts = []
        for index, value in enumerate(self.items(field)):
            if not isinstance(value, str):
                raise self.error(f"must be a string, is {_kind(value)}", f"{field}[{index}]")
            if not value.strip():
                raise self.error("is empty", f"{field}[{index}]")
            texts.append(value)
        return tuple(texts)

    def answers(self, field: str) -> tuple[str, ...]:
        """A string or a list of strings, without repeats, in the file's order; absent reads as none.

        A string that holds a list of strings, as PopQA's and many tables' do, is that list.
        """
        value = self.fields.get(field)
        if isinstance(value, str):
            return tuple(dict.fromkeys(texts_in(value) or (self.text(field),)))
        return tuple(dict.fromkeys(self.texts(field)))

    def records(self, field: str) -> list[Record]:
        """A list of objects; absent reads as empty."""
        return [self._inner(value, f"{field}[{index}]") for index, value in enumerate(self.items(field))]

    def record(self, field: str) -> Record:
        """An object that must be there."""
        return self._inner(self.required(field), field)

    def _inner(self, value: object, field: str) -> Record:
        if not isinstance(value, dict):
            raise self.error(f"must be an object, is {_kind(value)}", field)
        return Record(value, self.path, self.line, self.position, f"{self.inside}{field}.")


def texts_in(value: str) -> tuple[str, ...] | None:
    """The strings of a list that is written in a string, as JSON or as Python; None where it is no such list.

    `'["a", "b"]'` and `"['a', 'b']"` hold two; `"[1]"` and `"[sic]"` hold none, they are what they say.
    """
    text = value.strip()
    if not (text.startswith("[") and text.endswith("]")) or len(text) > _LONGEST_LIST:
        return None
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            values = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    if not isinstance(values, list) or not values:
        return None
    return tuple(values) if all(isinstance(one, str) and one.strip() for one in values) else None


def parse(data: bytes, path: object, line: int | None, position: int) -> Record:
    """The record in `data`, which must be one JSON object in UTF-8. Raises DataError if it is not."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise DataError(_syntax(data, error, path), path=path, line=line) from error
    if not isinstance(value, dict):
        raise DataError(f"must hold a JSON object, holds {_kind(value)}", path=path, line=line)
    return Record(value, path, line, position)


def _syntax(data: bytes, error: orjson.JSONDecodeError, path: object) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as encoding:
        return f"is not UTF-8 (byte {encoding.start} of the record); {recoded(path)}"
    if b"\x00" in data:
        return "holds a NUL byte"
    return f"is not valid JSON: {json_reason(error)}"


def json_reason(error: orjson.JSONDecodeError) -> str:
    """What is wrong with one record of JSON and where in it: 'unexpected end of data (column 45)'.

    The line is said only where the record has several, counted from its first one.
    """
    inside = "" if error.lineno == 1 else f"line {error.lineno} of the record, "
    return f"{' '.join(error.msg.split())[:160]} ({inside}column {error.colno})"
