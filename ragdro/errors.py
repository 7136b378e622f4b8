"""The errors a user can cause. Each message names the cause in one line; the CLI prints it and exits."""

from __future__ import annotations

import inspect
import sys
import threading
import traceback
import warnings
from reprlib import Repr


class _Brief(Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, 80, 80, 40


def brief(value: object) -> str:
    """`value` as Python writes it, cut to what fits a message, however large or deep it is."""
    return " ".join(_Brief().repr(value).split())[:200]


class RagdroError(Exception):
    """Base of all errors of our own; `exit_code` is what the command line returns for it."""

    exit_code = 2


class RagdroWarning(RuntimeWarning):
    """What goes on otherwise than a user may expect; the CLI prints it as one line."""


_BETWEEN = frozenset(("ragdro", "jaxtyping", "beartype", "torch", "contextlib", "concurrent", "threading"))
"""Packages whose frames are no user's: our own, and those that wrap our functions or run them in threads."""


def warn(message: str) -> None:
    """A `RagdroWarning` at the line outside of this package that led to it (`stacklevel` would count the
    frames of what checks our types, too); in a thread of ours, where the main one stands."""
    main = sys._current_frames()[threading.main_thread().ident or 0]
    stacks = (traceback.walk_stack(start) for start in (inspect.currentframe(), main))
    frames = [frame for stack in stacks for frame, _ in stack]
    names = [str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in frames]
    users = (frame for frame, name in zip(frames, names, strict=True) if name not in _BETWEEN)
    frame = next(users, frames[0])
    warnings.warn_explicit(
        message,
        RagdroWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


class ConfigError(RagdroError):
    """A config key that does not exist or a value out of range; names the dotted key."""


class DataError(RagdroError):
    """A record that cannot be read; names file, line and field."""

    def __init__(
        self, message: str, *, path: object = None, line: int | None = None, field: str | None = None
    ) -> None:
        self.message, self.path, self.line, self.field = message, path, line, field
        place = "" if path is None else f"{path}:" if line is None else f"{path}:{line}:"
        named = "" if field is None else f" field '{field}':"
        super().__init__(f"{place}{named} {message}".strip())

    def advised(self, advice: str) -> DataError:
        """The same with what to do; as it is where its message says that."""
        if ";" in self.message:
            return self
        return DataError(f"{self.message}; {advice}", path=self.path, line=self.line, field=self.field)


class ModelError(RagdroError):
    """A model, tokenizer or checkpoint that cannot be used; names it."""


class RetrievalError(RagdroError):
    """An index or a search service that cannot be used; names it."""


class TrainingError(RagdroError):
    """A run that cannot continue; names the questions or the folder. `overrides`: what to resume it with."""

    exit_code = 1

    def __init__(self, message: str, *, overrides: tuple[str, ...] = ()) -> None:
        self.overrides = overrides
        super().__init__(message)


class LostProcessError(TrainingError):
    """Another process of the run has ended, or lives and does not come; a thread may wait for it still."""


class OutOfMemoryError(TrainingError):
    """Memory does not suffice; names the setting that needs less."""
