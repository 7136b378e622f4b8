"""`warm_up.from`: the pair of another run that a run starts from in place of a warm-up of its own.

In: a `Config`. Out: the folder of that pair, once it is sure that it was taught the same: models, prompts, K
and N. What only says how it is computed, or how long texts may be, may differ.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ragdro.config import Config, load_config, with_prompt_date
from ragdro.errors import ConfigError, TrainingError
from ragdro.parallel.world import broadcast_from_rank0
from ragdro.prompts import load_template
from ragdro.runs.checksums import file_hashes
from ragdro.runs.models import settings_of
from ragdro.runs.saved_states import State
from ragdro.runs.stages import WARM_UP, checkpoint_of, config_of
from ragdro.runs.status import CHECKPOINTS, CONFIG
from ragdro.types import Role

KEY = "warm_up_from"
"""Where the results say it."""
_MAY_DIFFER = frozenset(
    (
        *("dtype", "amp", "attention", "kernels", "gradient_checkpointing", "trust_remote_code"),
        *("question_tokens", "passage_tokens", "answer_tokens", "query_tokens", "think", "prompt_date"),
        *("passage_attention", "passage_memory", "full_layers", "link_tokens", "linked"),
    )
)
"""Of a role's settings those that leave its weights and the form of its prompts alone."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The stage of a run ('warm-up', 'iteration-N') and the folder of its pair."""

    run: Path
    stage: str
    checkpoint: Path
    roles: tuple[Role, ...]

    def described(self) -> dict[str, Any]:
        """What the results say: run, stage, and a hash of each model's weights. All processes ask for it, and
        read some of the files each."""
        return {
            "run": str(self.run),
            "stage": self.stage,
            "sha256": {role: _hash(self.checkpoint / role) for role in self.roles},
        }

    def note(self, state: State, described: dict[str, Any]) -> None:
        """Write into a run's first state what it starts from. Raises `TrainingError` where a run that resumes
        finds something else there."""
        if state.serial and state.results.get(KEY) != described:
            raise TrainingError(
                f"warm_up.from: {self.checkpoint} is not what the run began with; start again with"
                " overwrite=True"
            )
        state.results[KEY] = described


def warm_start(config: Config) -> WarmStart | None:
    """What `warm_up.from` names; None where it names nothing.

    Raises `ConfigError` for what is no run and no stage of one, or a pair that was taught something else,
    `ModelError` for a stage that was not kept.
    """
    named = config.warm_up.start
    if named is None:
        return None
    run, stage = _stage(named)
    if run.resolve() == (Path(config.runs) / config.name).resolve():
        raise ConfigError(f"warm_up.from: {named} is this run's own folder; give the run another name")
    checkpoint = checkpoint_of(run, stage)
    _refuse_another_pair(config, config_of(run), run)
    return WarmStart(run, stage, checkpoint, tuple(config.roles))


def dated(config: Config, *, resume: bool) -> Config:
    """The config with the day that chat templates take for today's: that of the run it resumes or starts
    from, else today."""
    own = Path(config.runs) / config.name / CONFIG
    if resume and own.is_file():
        earlier: Path | None = own
    else:
        earlier = None if config.warm_up.start is None else _stage(config.warm_up.start)[0] / CONFIG
    if earlier is not None:
        saved = load_config(earlier)
        for role in config.roles.keys() & saved.roles.keys():
            settings = settings_of(config, role)
            day = settings.prompt_date or settings_of(saved, role).prompt_date
            config = config.model_copy(update={role: settings.model_copy(update={"prompt_date": day})})
    return with_prompt_date(config, date.today())


def _stage(named: str) -> tuple[Path, str]:
    """The run folder and the stage that a path names."""
    path = Path(named)
    if (path / CONFIG).is_file():
        if (path / CHECKPOINTS).is_dir():
            return path, WARM_UP
        raise ConfigError(
            f"warm_up.from: {named} has no {CHECKPOINTS}/; it is no run, or one that has not got so far"
            " (of an exported folder, give the models as selector.model and generator.model)"
        )
    for run, stage in ((path.parent, path.resolve().name), (path.parent.parent, path.name)):
        if (run / CONFIG).is_file() and stage.startswith("iteration-"):
            return run, WARM_UP if stage == "iteration-0" else stage
    raise ConfigError(
        f"warm_up.from: {named} is neither a run folder nor one of its stages (RUN/{CHECKPOINTS}/iteration-N,"
        " RUN/best)"
    )


def _refuse_another_pair(config: Config, other: Config, run: Path) -> None:
    """Raises `ConfigError` naming the first key in which the pair of `run` was taught something else."""
    here, there = (_taught(one) for one in (config, other))
    for key, (value, shown) in here.items():
        was, was_shown = there.get(key, (None, None))
        if value != was:
            raise ConfigError(
                f"warm_up.from: {key} is {shown!r} here and was {was_shown!r} in {run}; a pair is trained"
                f" as it was warmed up: set {key}={was_shown}, or warm_up.from=null"
            )


def _taught(config: Config) -> dict[str, tuple[Any, Any]]:
    """What must be the same: by key the value that is compared, and how the config has it."""
    values: dict[str, tuple[Any, Any]] = {"top_n": (config.top_n, config.top_n)}
    for key, value in config.retrieval.model_dump(exclude={"k"}).items():
        values[f"retrieval.{key}"] = (value, value)
    for role, settings in config.roles.items():
        for key, shown in settings.model_dump(mode="json").items():
            if key not in _MAY_DIFFER:
                values[f"{role}.{key}"] = (_compared(config, role, key, shown), shown)
    each = config.retrieval.k  # prompts say how many are selected, as they do selector.k
    values["retrieval.k"] = (config.retrieval.selected(config.selector.k), None if each is None else [*each])
    return values


def _compared(config: Config, role: Role, key: str, value: Any) -> Any:
    if key == "prompt":
        return load_template(value).as_yaml()
    if key == "model" and value is not None and Path(value).is_dir():
        return str(Path(value).resolve())
    if key == "scratch" and value is not None and settings_of(config, role).adapter is not None:
        return value, config.seed, config.data.corpus  # the base is made anew, from these
    return value


def _hash(folder: Path) -> str:
    """Of a model's weights."""
    hashes = file_hashes(broadcast_from_rank0(lambda: sorted(folder.glob("*.safetensors"))))
    return hashlib.sha256(bytes.fromhex("".join(hashes.values()))).hexdigest()
