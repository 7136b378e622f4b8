"""Experiment trackers: the numbers of metrics.jsonl, sent to TensorBoard, Weights & Biases or trackio.

In: `report_to` and records. Out: calls of the tracker's own library, which must be installed (a
`ConfigError` says what to install where it is not). A record's place in metrics.jsonl is its step, so
that a run that resumes does not count twice. Accounts, projects and offline use are the libraries' own
affair (`WANDB_MODE=offline`, `WANDB_PROJECT`, …).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

from ragdro.errors import ConfigError
from ragdro.files import write_atomically

_MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "trackio": "trackio"}
_PROJECT = "ragdro"


class Tracker(ABC):
    """One tracker."""

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """The numbers of one record."""

    @abstractmethod
    def close(self) -> None:
        """Send what is left."""


def open_trackers(names: Sequence[str], folder: Path, config: Mapping[str, Any], step: int) -> list[Tracker]:
    """The trackers that the config names; records from `step` on are to come.

    Raises `ConfigError` naming a library that is not installed.
    """
    modules = {name: _module(name) for name in dict.fromkeys(names)}  # all or none is begun
    return [_KINDS[name](module, folder, config, step) for name, module in modules.items()]


def require_trackers(names: Sequence[str]) -> None:
    """Raises `ConfigError` for a library that is not installed."""
    for name in names:
        _module(name)


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a record of metrics.jsonl, under `role/`, `split/` or `event/`."""
    place = record.get("role") or record.get("split") or record["event"]
    return {
        f"{place}/{key}": float(value)
        for key, value in record.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _module(name: str) -> ModuleType:
    try:
        return import_module(_MODULES[name])
    except ImportError as error:
        raise ConfigError(
            f"report_to: '{name}' is not installed (pip install 'ragdro[{name}]'): {error}"
        ) from error


class _TensorBoard(Tracker):
    def __init__(self, module: Any, folder: Path, config: Mapping[str, Any], step: int) -> None:
        self._writer = module.SummaryWriter(log_dir=str(folder / "tensorboard"), purge_step=step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, global_step=step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases(Tracker):
    def __init__(self, module: Any, folder: Path, config: Mapping[str, Any], step: int) -> None:
        self._run = module.init(
            project=_PROJECT,
            name=folder.name,
            id=_own_id(folder),
            dir=str(folder),
            config=dict(config),
            resume="allow",
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def _own_id(folder: Path) -> str:
    """The id of the run in `folder`: its own when it resumes, a fresh one where it replaces another."""
    path = folder / "wandb-id.txt"
    if not path.is_file():
        write_atomically(path, uuid4().hex)
    return path.read_text(encoding="utf-8")


class _Trackio(Tracker):
    def __init__(self, module: Any, folder: Path, config: Mapping[str, Any], step: int) -> None:
        self._module = module
        module.init(project=_PROJECT, name=folder.name, config=dict(config), resume="allow")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._module.log(dict(metrics), step=step)

    def close(self) -> None:
        self._module.finish()


_KINDS: dict[str, Callable[[Any, Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WeightsAndBiases,
    "trackio": _Trackio,
}
