"""What may change when a run resumes, and where paths of a config lead. No torch.

In: the config that a run began with and the one that it is to resume with. Out: the first key that must not
differ, or nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ragdro.config import Config
from ragdro.files import write_atomically

MAY_CHANGE: Mapping[str, tuple[str, ...]] = {
    "how far it goes": ("iterations", "patience"),
    "how it answers afterwards": ("answering.*",),
    "what is kept, and where": ("runs", "cache", "checkpoints.*", "report_to", "bad_batches"),
    "what computes it": ("device", "threads", "parallel.*"),
    "how much at once": (
        "*.max_tokens_per_micro_batch",
        "*.gradient_checkpointing",
        "*.attention",
        "generator.passage_memory",
        "*.kernels",
        "e_step.engine.memory",
        "e_step.engine.tensor_parallel",
        *(f"e_step.engine.{key}" for key in ("gpus", "command", "arguments", "port", "start_seconds")),
    ),
    "how passages are searched": (
        *("retriever.*device", "retriever.*encode_batch_size", "retriever.*shard_size"),
        *("*.headers*", "*.timeout_seconds", "*.retries", "*.backoff_seconds", "*.concurrency"),
    ),
}
"""Keys (`*` stands for anything) that change no metric by more than rounding, by what they say."""
_WHOLE = frozenset(("arguments", "headers"))
"""Keys of a mapping that is one value: what is in it has names of others, which may come and go."""
_PATHS = frozenset(("train", "validation", "test", "corpus", "model", "prompt", "from", "path"))
"""Keys whose value may be a path."""
STARTED_IN = ".started_in"
"""The file in a run folder that says where its relative paths start: seen from the folder, so that both may
be moved or copied together, and as an absolute path, so that the folder may be moved alone."""


def first_difference(began: Config, now: Config, *further: str) -> tuple[str, Any, Any] | None:
    """The first key that must not differ and does, with both values; None where there is none.

    Relative paths are those of the place that `located` gave them. `further` keys may differ as well.
    """
    before, after = (dict(_leaves(config.model_dump(mode="json"))) for config in (began, now))
    patterns = [*(pattern for group in MAY_CHANGE.values() for pattern in group), *further]
    for key in {**before, **after}:
        undated = key.endswith(".prompt_date") and after.get(key) is None  # the run's own date is taken
        if before.get(key) == after.get(key) or undated or key == "name":
            continue
        if not any(fnmatchcase(key, pattern) for pattern in patterns):
            return key, before.get(key), after.get(key)
    return None


def located(
    config: Config, root: Path | None = None, *, given: Sequence[str] = (), moved_from: Path | None = None
) -> Config:
    """The config with the relative paths that lead somewhere from `root` (None: from here) made absolute, so
    that a command may be started anywhere. Those of the dotted keys `given`, and below them, start here.
    Absolute paths below `moved_from` that are gone and are below `root` now are those."""
    here = Path.cwd()

    def place(key: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        last = key.rpartition(".")[2]
        start = here if root is None or any(f"{key}.".startswith(f"{one}.") for one in given) else root
        if start == root and moved_from is not None and Path(value).is_relative_to(moved_from):
            moved = root / Path(value).relative_to(moved_from)
            return str(moved) if moved.exists() and not Path(value).exists() else value
        named = last == "prompt" and Path(value).suffix not in (".yaml", ".yml")
        leads_somewhere = last == "cache" or (not named and (start / value).exists())
        return os.path.normpath(start / value) if leads_somewhere else value

    return Config.model_validate(_mapped(config.model_dump(mode="json"), place))


def resumed(began: Config, now: Config) -> Config:
    """The config that a run began with, with what `now` says of the keys that may change."""
    values, after = began.model_dump(mode="json"), dict(_leaves(now.model_dump(mode="json")))
    patterns = [pattern for group in MAY_CHANGE.values() for pattern in group]
    for key in dict(_leaves(values)):
        if key in ("runs", "cache") or key not in after:  # the former are relative to where the run began
            continue
        if any(fnmatchcase(key, pattern) for pattern in patterns):
            *parents, last = key.split(".")
            place = values
            for parent in parents:
                place = place[parent]
            place[last] = after[key]
    return Config.model_validate(values)


def named_paths(config: Config) -> list[tuple[str, Path]]:
    """The dotted keys whose value may be a path, with it as it is written."""
    named: list[tuple[str, Path]] = []
    _mapped(config.model_dump(mode="json"), lambda key, value: named.append((key, Path(str(value)))))
    return named


def note_root(folder: Path, config: Config) -> None:
    """Write down where the run in `folder` is started, if its own place does not say (`runs` leads outside,
    by its name or by a link) or absolute paths lead below. OSError where the disk refuses."""
    here, place = Path.cwd(), folder.resolve()
    if _root_above(place, config) != here or any(p.is_relative_to(here) for _, p in named_paths(config)):
        write_atomically(folder / STARTED_IN, f"{os.path.relpath(here, place)}\n{here}")


def root_of(folder: Path, config: Config) -> Path:
    """The folder that the run in `folder` was started in, wherever it is now: the first that is noted and has
    the training questions, else the first that is there; this one where nothing says which."""
    roots = [root for root in _noted(folder) if root.is_dir()]
    roots.sort(key=lambda root: not (root / config.data.train).exists())
    if roots:
        return roots[0]
    as_named, as_it_lies = Path(os.path.normpath(Path.cwd() / folder)), folder.resolve()
    return _root_above(as_named, config) or _root_above(as_it_lies, config) or Path.cwd()


def moved_from(folder: Path, root: Path) -> Path | None:
    """Where `root`, in which the run in `folder` was started, was then; None: where it is, or not noted."""
    noted = _noted(folder)
    return noted[-1] if noted and noted[-1] != root else None


def _noted(folder: Path) -> list[Path]:
    """What the run in `folder` has noted of where it was started: seen from itself, and absolute."""
    note = folder / STARTED_IN
    lines = note.read_text("utf-8").split("\n") if note.is_file() else []
    return [Path(os.path.normpath(folder.resolve() / line)) for line in lines]


def place_of(folder: Path, config: Config) -> tuple[Path, str]:
    """`runs` and `name` of the run in `folder`: its own name where the folder, or what it links to, is called
    so, else the folder's."""
    resolved = folder.resolve()
    known = next((path for path in (folder, resolved) if path.name == config.name), None)
    path = known or (resolved if folder.name in ("", "..") else folder)
    return path.parent, path.name


def _root_above(folder: Path, config: Config) -> Path | None:
    """The folder in which `runs` and `name` lead to the run in `folder`; None where `runs` leads outside."""
    runs = Path(config.runs)
    own = (runs / config.name).parts
    if runs.is_absolute() or ".." in runs.parts or folder.parts[-len(own) :] != own:
        return None
    return Path(*folder.parts[: -len(own)])


def _mapped(value: Any, place: Callable[[str, Any], Any], key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {
            name: _mapped(inner, place, f"{key}.{name}" if key else name) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_mapped(inner, place, key) for inner in value]
    return place(key, value) if key.rpartition(".")[2] in ("cache", *_PATHS) else value


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and key not in _WHOLE:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
