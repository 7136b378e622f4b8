"""What an exported folder has beside its two models, so that `ragdro.load` takes it as it takes a run folder.

FOLDER/config.yaml                       the run's config with plain models in place of adapters
FOLDER/prompts/{selector,generator}.yaml the prompt templates, whatever the config named
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragdro.config import Config, dump_config
from ragdro.files import write_atomically
from ragdro.prompts import load_template
from ragdro.runs.models import ROLES, Role, settings_of
from ragdro.runs.status import CONFIG

_PROMPTS = "prompts"


def write_exported_config(config: Config, folder: Path) -> None:
    """Write the config and the prompts into `folder`."""
    (folder / _PROMPTS).mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = {}
    for role in ROLES:
        settings = settings_of(config, role)
        write_atomically(_prompt(folder, role), load_template(settings.prompt).as_yaml())
        changes = {"model": role, "scratch": None, "layers": None, "adapter": None, "quantisation": None}
        plain[role] = settings.model_copy(update=changes)
    write_atomically(
        folder / CONFIG, dump_config(config.model_copy(update={**plain, "shared_backbone": False}))
    )


def with_own_prompts(config: Config, folder: Path) -> Config:
    """The config with the prompts that `folder` brings; as it is for a run folder, which brings none."""
    changes: dict[str, Any] = {}
    for role in ROLES:
        path = _prompt(folder, role)
        if path.is_file():
            changes[role] = settings_of(config, role).model_copy(update={"prompt": str(path)})
    return config.model_copy(update=changes)


def _prompt(folder: Path, role: Role) -> Path:
    return folder / _PROMPTS / f"{role}.yaml"
