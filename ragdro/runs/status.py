"""What a run folder says about itself, read without loading a model: finished, running, interrupted.

In: a config or a run folder. Out: whether there is work to do, or one line that says why not.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ragdro.config import Config, load_config
from ragdro.config.resume import STARTED_IN, first_difference, located, moved_from, named_paths, root_of
from ragdro.errors import ConfigError, DataError
from ragdro.files import remove_temporary_files
from ragdro.runs.lock import LOCK, is_running
from ragdro.training.patience import is_exhausted

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
RESULTS = "results.json"
STATE = "state"
CHECKPOINTS = "checkpoints"
RETRIEVERS = "retrievers"
RunStatus: TypeAlias = Literal["running", "finished", "interrupted"]


def run_status(run: Path) -> RunStatus:
    """Whether the run in `run` is running, finished or interrupted."""
    if is_running(run):
        return "running"
    return "finished" if (run / RESULTS).is_file() else "interrupted"


def is_exported(folder: Path) -> bool:
    """Whether it is a folder that `ragdro export` wrote, with one pair alone."""
    return not (folder / CHECKPOINTS).is_dir() and (folder / "selector").is_dir()


def refuse_exported(folder: Path) -> None:
    """Raises `DataError` for an exported folder, which has none of what a run has measured."""
    if is_exported(folder):
        raise DataError("is an exported folder; give the run that it was exported from", path=folder)


def finished_results(config: Config, *, overwrite: bool, resume: bool) -> dict[str, Any] | None:
    """The results where `resume` finds that nothing is left to do, else None.

    Raises `ConfigError` where the folder cannot be used: another run's, another process's, no run's.
    """
    folder = Path(config.runs) / config.name
    if overwrite and resume:
        raise ConfigError("overwrite=True and resume=True exclude each other")
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise ConfigError(f"name: {folder} is a file; choose another name")
    if is_running(folder):
        raise ConfigError(f"name: another process is running in {folder}")
    begun = [p for p in folder.iterdir() if p.name not in (LOCK, STARTED_IN) and p.suffix != ".tmp"]
    if begun and (is_exported(folder) or not (folder / CONFIG).is_file()):
        why = "an exported one" if is_exported(folder) else f"it has no {CONFIG}"
        raise ConfigError(f"name: {folder} is not a run folder ({why}); choose another name")
    if resume and begun:
        refuse_another_run(config)
        remove_temporary_files(folder)  # of a report that was being written when it was killed
        return _results_if_done(config, folder)
    if overwrite:
        _refuse_own_files(config, folder)
    if not overwrite and not resume:
        raise ConfigError(
            f"name: the run folder {folder} exists; choose another name, pass resume=True to resume it or"
            " overwrite=True to replace it"
        )
    return None


def _refuse_own_files(config: Config, folder: Path) -> None:
    """Raises `ConfigError` naming the first key that leads to what is to be replaced."""
    for key, path in named_paths(config):
        places = {path.absolute(), path.resolve()}
        within = any(place.is_relative_to(folder.resolve()) for place in places)
        if within and path.exists() and key not in ("cache", "warm_up.from"):  # made anew; refused by itself
            raise ConfigError(
                f"{key}: {path} is in {folder}, which overwrite=True empties; give the run another name"
            )


def _results_if_done(config: Config, folder: Path) -> dict[str, Any] | None:
    """The results where no iteration is left to do, by the settings of now. Raises `ConfigError` where there
    should be some left, by what was asked for, and none can be done."""
    saved, state = load_config(folder / CONFIG), last_state(folder)
    done = -1 if state is None else int(state["finished"])
    if config.iterations < done:
        most = max(done, saved.iterations)
        raise ConfigError(
            f"iterations: {done} are done in {folder}, more than {config.iterations}; resume with"
            f" iterations={most}, or more to extend it"
        )
    if not (folder / RESULTS).is_file():
        return None
    results, extended = read_results(folder), config.iterations > saved.iterations
    if state is None:
        if extended:
            raise ConfigError(
                f"iterations: {folder / STATE} is gone, so the run cannot be extended; start a new one"
                f" from it: name=NEW warm_up.from={folder}/checkpoints/iteration-{saved.iterations}"
            )
        return results
    if config.iterations == done:
        return results
    if is_exhausted([(i, score) for i, score in state["scores"]], config.patience):
        if extended:
            raise ConfigError(
                f"patience: the run stopped after iteration {done}, {config.patience} or more after its best"
                " one; to extend it, resume with patience=null or a larger one as well"
            )
        return results
    return None


def refuse_another_run(config: Config) -> None:
    """Raises `ConfigError` naming the first key in which the folder's config differs from `config` and must
    not (`ragdro.config.resume`)."""
    folder = Path(config.runs) / config.name
    difference = first_difference(began_with(folder), located(config))
    if difference is not None:
        key, before, now = difference
        raise ConfigError(
            f"{key}: the run began with {before!r}, not {now!r}; a run resumes as it was begun (leave"
            f" {key} out, or give the run another name)"
        )


def began_with(folder: Path) -> Config:
    """The config of the run in `folder`, its paths as they lead from where it was started."""
    began = load_config(folder / CONFIG)
    root = root_of(folder, began)
    return located(began, root, moved_from=moved_from(folder, root))


def last_state(folder: Path) -> dict[str, Any] | None:
    """What the newest saved state of a run says that can be read; None where there is none."""
    for path in sorted((folder / STATE).glob("*.json"), reverse=True):
        if path.stem.isdigit():
            with suppress(ValueError, RecursionError):
                values = json.loads(path.read_text(encoding="utf-8"))
                if isinstance(values, dict) and {"finished", "scores", "checkpoint"} <= set(values):
                    return values
    return None


def kept_checkpoint(config: Config, *, resume: bool) -> Path | None:
    """The checkpoint that has the models of a finished run that is extended; None for any other run, whose
    state has them."""
    folder = Path(config.runs) / config.name
    state = last_state(folder) if resume else None
    if state is None or state["checkpoint"] is None:
        return None
    return folder / CHECKPOINTS / f"iteration-{state['checkpoint']}"


def role_folder(run: Path, iteration: int, role: str) -> Path:
    """Where the checkpoint of an iteration has a role's model."""
    return run / CHECKPOINTS / f"iteration-{iteration}" / role


def read_results(run: Path) -> dict[str, Any]:
    """The results of a finished run. Raises `DataError` where there are none, or none of a run."""
    path = run / RESULTS
    if not path.is_file():
        if not (run / CONFIG).is_file():
            raise DataError(f"not a run folder (it has no {CONFIG}); list them with: ragdro runs", path=run)
        refuse_exported(run)
        raise DataError(
            f"has not finished (no {RESULTS}); resume it with the command that began it and resume=True",
            path=run,
        )
    results = read_json(path)
    if not isinstance(results, dict) or not {"vanilla_rag", "warm_up", "iterations", "best"} <= set(results):
        raise DataError("does not hold a run's results", path=path)
    if not isinstance(results["iterations"], list):
        raise DataError("'iterations' is no list", path=path)
    stages = [results["vanilla_rag"], results["warm_up"]]
    numbered = [*results["iterations"], results["best"]]
    if not all(isinstance(one, dict) for one in (*stages, *numbered)) or any(
        "iteration" not in one for one in numbered
    ):
        raise DataError(
            "does not say 'iteration' for each iteration and for the best, so another version of ragdro wrote"
            " it: read it with that version, or train anew under another name",
            path=path,
        )
    return results


def read_json(path: Path) -> Any:
    """A JSON file of a run. Raises `DataError` where it is not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError("is not valid JSON", path=path) from error
