"""The config of a command that trains: a config file's, or that of a run folder, wherever it is started.

In: what was given as CONFIG.yaml, overrides. Out: a `Config` whose paths lead somewhere from here. Those of
overrides start here. No torch.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ragdro.access import absent
from ragdro.cli.checks import require_sources
from ragdro.config import Config, load_config
from ragdro.config.resume import located, moved_from, place_of, root_of
from ragdro.errors import ConfigError
from ragdro.runs.status import CONFIG, ENVIRONMENT

_OF_THE_FOLDER = ("runs", "name")


def settings_of(given: Path, overrides: Sequence[str], *, resume: bool) -> Config:
    """The config of a file or, where it resumes, of a run folder; a run that a file has begun is found beside
    the file too.

    Raises `ConfigError` for a run folder that is to be begun, and for paths that start in another folder.
    """
    if (given / CONFIG).is_file() and (given / ENVIRONMENT).is_file():
        return _of_run(given, overrides, resume=resume)
    config = load_config(given, overrides)
    run, home = Path(config.runs) / config.name, given.parent
    if resume and not (run / CONFIG).is_file() and (home / run / CONFIG).is_file():
        config = located(config, home.resolve(), given=_given(config, overrides))
        return config.model_copy(update={"runs": str(home / config.runs)})
    _refuse_paths_of(home, config)
    return config


def _of_run(folder: Path, overrides: Sequence[str], *, resume: bool) -> Config:
    if not resume:
        again = f"ragdro train {shlex.quote(str(folder))} --resume"
        raise ConfigError(f"{folder}: is a run folder; resume it: {again}, or give a config file")
    for override in overrides:
        if override.partition("=")[0] in _OF_THE_FOLDER:
            raise ConfigError(f"{override}: {folder} is resumed as it is; give a config file for another run")
    began = load_config(folder / CONFIG)
    runs, name = place_of(folder, began)
    config = load_config(folder / CONFIG, overrides)
    root = root_of(folder, began)
    config = located(config, root, given=_given(config, overrides), moved_from=moved_from(folder, root))
    return config.model_copy(update={"runs": str(runs), "name": name})


def _given(config: Config, overrides: Sequence[str]) -> list[str]:
    """The dotted keys of the overrides. Raises `DataError` where one names data that are not here."""
    keys = [override.partition("=")[0] for override in overrides]
    data = config.data
    for key, source in {"train": data.train, "validation": data.validation, "test": data.test}.items():
        if {"data", f"data.{key}"} & set(keys):
            require_sources(source, fields=data.names)
    if {"data", "data.corpus"} & set(keys):
        require_sources(corpus=data.corpus, fields=data.names)
    return keys


def _refuse_paths_of(home: Path, config: Config) -> None:
    """Raises `ConfigError` where a data file is not here and is beside the config."""
    data = config.data
    for key in ("train", "validation", "test", "corpus"):
        source = getattr(data, key)
        if source is not None and not Path(source).exists() and (home / source).exists():
            there = (
                f"paths start where a command does, and it is beside the config: cd {shlex.quote(str(home))}"
            )
            raise ConfigError(f"data.{key}: {source}: {absent(source).partition(';')[0]} here; {there}")
