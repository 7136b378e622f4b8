"""From a study and a config to the runs that it takes, all checked before the first is started.

In: a `Study`, a config file, overrides, seeds. Out: `RunSpec` runs in `RUNS/studies/NAME/runs/`, their
configs resolved: config file < the study's sizes < the user's overrides < the variant's < seed and name.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ragdro.config import Config, load_config
from ragdro.errors import ConfigError
from ragdro.runs.status import CONFIG, refuse_another_run, run_status
from ragdro.studies.study import Study

_OURS = ("name", "seed")


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run: its variant and seed, its resolved config, and the overrides that make it of the config
    file."""

    variant: str
    seed: int
    config: Config
    overrides: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.config.runs) / self.config.name

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return run_status(self.folder) == "finished"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a study is about to do. `folder` is the study's, `command` what was asked for."""

    study: Study
    config: Path
    folder: Path
    seeds: tuple[int, ...]
    runs: tuple[RunSpec, ...]
    command: str


def plan(
    study: Study,
    config: Path,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    *,
    full: bool = False,
) -> Plan:
    """Resolve and check every run. `full`: the config's own sizes in place of the study's.

    Raises `ConfigError` naming the key: one that the study varies, one that no config has, a value out of
    range in any variant, a run in the study's folder that was begun with another config.
    """
    _refuse_ours(study, overrides)
    chosen = tuple(study.seeds if seeds is None else seeds)
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise ConfigError(f"--seeds: must be different whole numbers from 0, not {list(chosen)}")
    sized = () if full else tuple(o for o in study.sizes if not _sets(overrides, o.partition("=")[0]))
    folder = Path(load_config(config, overrides).runs) / "studies" / study.name
    runs = []
    for variant, changes in study.variants.items():
        for seed in chosen:
            name, runs_in = json.dumps(f"{slug(variant)}-{seed}"), json.dumps(str(folder / "runs"))
            own = (f"seed={seed}", f"name={name}", f"runs={runs_in}")
            given = (*sized, *overrides, *changes, *own)
            runs.append(RunSpec(variant, seed, load_config(config, given), given))
    for run in runs:
        if (run.folder / CONFIG).is_file():
            refuse_another_run(run.config)
    arguments = [
        "ragdro",
        "study",
        study.name,
        str(config),
        *overrides,
        "--seeds",
        ",".join(map(str, chosen)),
    ]
    command = shlex.join([*arguments, "--full"] if full else arguments)
    return Plan(study, config, folder, chosen, tuple(runs), command)


def slug(text: str) -> str:
    """`text` as a part of a file name: 'm = 16' is 'm-16'."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")


def parse_seeds(text: str) -> tuple[int, ...]:
    """'0,1,2' or '0-4'. Raises `ConfigError`."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
        if match is None:
            raise ConfigError(f"--seeds: written 0,1,2 or 0-4, not '{text[:80]}'")
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first > 999:
            raise ConfigError(f"--seeds: more than 1,000 seeds in '{part}'")
        seeds += range(first, last + 1)
    return tuple(seeds)


def _refuse_ours(study: Study, overrides: Sequence[str]) -> None:
    for override in overrides:
        key = override.partition("=")[0]
        if key in _OURS:
            raise ConfigError(f"{key}: a study gives its runs their names and seeds; use --seeds")
        for varied in study.varied():
            if f"{varied}.".startswith(f"{key}.") or f"{key}.".startswith(f"{varied}."):
                raise ConfigError(f"{key}: study '{study.name}' varies {varied}; it cannot be overridden")


def _sets(overrides: Sequence[str], key: str) -> bool:
    return any(override.partition("=")[0] == key for override in overrides)
