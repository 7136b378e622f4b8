"""The stages of a run folder: its config, and where the pair of each stage is.

In: a run folder, or one that `ragdro export` wrote, and the name of a stage. Out: a `Config`, a folder that
holds both models. No model is loaded, no torch imported.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ragdro.access import absent
from ragdro.config import Config, load_config
from ragdro.config.models import GeneratorSettings
from ragdro.config.resume import located, moved_from, root_of
from ragdro.config.words import describe
from ragdro.errors import ConfigError, ModelError, brief
from ragdro.runs.own_parts import with_own_parts
from ragdro.runs.status import CHECKPOINTS, CONFIG, RESULTS, is_exported, run_status

WARM_UP = "warm-up"
VANILLA = "vanilla"
"""The stage that selects nothing: the warm-up's generator reads the retriever's first K."""


def config_of(folder: Path) -> Config:
    """The resolved config of a run or an exported folder. Raises `ConfigError` for a folder that is
    neither."""
    if not (folder / CONFIG).is_file():
        why = f"it has no {CONFIG}" if folder.is_dir() else absent(folder, "folder")
        raise ConfigError(
            f"{folder}: neither a run folder nor an exported one ({why}); list the runs with: ragdro runs"
        )
    config = load_config(folder / CONFIG)
    root = root_of(folder, config)
    before = moved_from(folder, root)
    if root != Path.cwd() or before is not None:
        config = located(config, root, moved_from=before)
    return with_own_parts(config, folder)


def reading_in(
    config: Config, passage_attention: str | None = None, passage_memory: float | None = None
) -> Config:
    """The config of a generator that answers with this attention to passages, and so many GiB for those that
    it has read (None: as it is).

    Raises `ConfigError` for an attention other than 'full' and 'blocks', and for memory that is not for
    blocks.
    """
    changes: dict[str, Any] = {}
    if passage_attention is not None:
        if passage_attention not in ("full", "blocks"):
            raise ConfigError(
                f"passage_attention: must be full or blocks (value: {brief(passage_attention)})"
            )
        changes["passage_attention"] = passage_attention
        if passage_attention == "full":
            changes |= {"passage_memory": 0.0, "full_layers": 0, "link_tokens": 0, "linked": "last"}
    if passage_memory is not None:
        changes["passage_memory"] = passage_memory
    if not changes:
        return config
    try:
        generator = GeneratorSettings.model_validate({**config.generator.model_dump(), **changes})
    except ValidationError as error:
        raise ConfigError(describe(error, GeneratorSettings, "generator")) from error
    return config.model_copy(update={"generator": generator})


def checkpoint_of(folder: Path, stage: str) -> Path:
    """The folder of a stage's pair ('best', 'warm-up', 'vanilla', 'iteration-N'); an exported folder is its
    only one.

    Raises `ModelError` where there is none, or one of the pair is not written yet.
    """
    if is_exported(folder):
        if stage == "best":
            return folder
        raise ModelError(f"--stage {stage}: {folder} is an exported folder: its one pair has no stages")
    if not re.fullmatch(r"best|warm-up|vanilla|iteration-[0-9]+", stage):
        raise ModelError(f"stage: must be best, warm-up, vanilla or iteration-N (value: {brief(stage)})")
    if stage == "best":
        path = folder / "best"
    else:
        path = folder / CHECKPOINTS / ("iteration-0" if stage in (WARM_UP, VANILLA) else stage)
    config = load_config(folder / CONFIG)
    missing = [role for role in config.roles if not (path / role).is_dir()]
    if not missing:
        return path
    whole = _whole_stages(folder, config)
    if not (folder / RESULTS).is_file():
        raise ModelError(f"{path}: the run has not got so far; {_way_on(folder, whole)}")
    if path.is_dir():
        raise ModelError(f"{path}: has no {missing[0]}; take another stage: {', '.join(whole) or 'none'}")
    raise ModelError(
        f"{path}: no such checkpoint (kept: {', '.join(whole) or 'none'};"
        " `checkpoints: {keep: all}` keeps every one)"
    )


def _whole_stages(folder: Path, config: Config) -> list[str]:
    """The stages of a run whose pair is there whole, in their order."""
    numbered = [p for p in (folder / CHECKPOINTS).glob("iteration-*") if p.name[10:].isdigit()]
    paths = {"best": folder / "best"}
    paths |= {_stage_of(p): p for p in sorted(numbered, key=lambda p: int(p.name[10:]))}
    return [name for name, path in paths.items() if all((path / role).is_dir() for role in config.roles)]


def _stage_of(checkpoint: Path) -> str:
    return WARM_UP if checkpoint.name == "iteration-0" else checkpoint.name


def _way_on(folder: Path, stages: list[str]) -> str:
    """What to do about a stage that an unfinished run does not have yet."""
    if run_status(folder) == "running":
        advice = f"see how far it is: ragdro watch {shlex.quote(str(folder))}"
    else:
        advice = "resume it with the command that began it and resume=True"
    return f"{advice}; there is {', '.join(stages)}" if stages else advice
