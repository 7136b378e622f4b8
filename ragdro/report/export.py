"""A run's models as plain Hugging Face folders: merged weights, tokenizer and a model card each.

In: a finished run, a folder. Out: `FOLDER/selector` and `FOLDER/generator`, which `from_pretrained` loads
without this package or PEFT, what `ragdro.load(FOLDER)` needs besides, and repositories of both models on a
hub where that is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from ragdro.errors import ConfigError, ModelError, brief
from ragdro.files import write_atomically
from ragdro.lm.saving import save_language_model
from ragdro.report.card import model_card
from ragdro.runs.exported import write_exported_config, write_index
from ragdro.runs.models import ROLES, whole_model
from ragdro.runs.stages import VANILLA, checkpoint_of, config_of
from ragdro.runs.taught import searched_at, taught_model

CARD = "README.md"
_CLIENT_ERROR: type[BaseException] = HfHubHTTPError.__mro__[1]
"""The error of whichever HTTP library the hub's client is built on; one of a connection is no OSError."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def export_run(
    run: Path, folder: Path, stage: str = "best", *, overwrite: bool = False, index: bool = False
) -> dict[str, Path]:
    """Write both models of a stage, with `index` the corpus and its index too; returns role → folder.

    Raises `ConfigError` where `folder` holds something (unless `overwrite`) and for vanilla RAG, `DataError`
    for a run that has not finished, `ModelError` for weights that cannot be loaded.
    """
    if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and is not empty; give a new folder")
    if stage == VANILLA:
        raise ConfigError(
            "--stage vanilla: selects nothing, and an exported folder selects; export its pair: --stage"
            " warm-up, and read the retriever's first passages"
        )
    own, checkpoint = config_of(run), checkpoint_of(run, stage)
    config = searched_at(own, run, checkpoint)
    folders: dict[str, Path] = {}
    for role in config.roles:
        card = model_card(run, config, role, checkpoint.resolve().name, folder.resolve().name)
        folders[role] = folder / role
        save_language_model(whole_model(config, role, checkpoint), folders[role])
        write_atomically(folders[role] / CARD, card)
    write_exported_config(config, folder, taught_model(own, run, checkpoint))
    if index:
        write_index(config, folder)
    return folders


def repositories(name: str) -> dict[str, str]:
    """Role → the repository it goes to. Raises `ConfigError` for what is no 'org/name'."""
    if not _REPOSITORY.fullmatch(name):
        raise ConfigError(f"--push: {brief(name)} is not of the form org/name")
    return {role: f"{name}-{role}" for role in (*ROLES, "rewriter")}


def push_to_hub(folders: Mapping[str, Path], names: Mapping[str, str], *, private: bool) -> list[str]:
    """Create what is missing and upload; the account is the hub client's own affair (`hf auth login`).

    Returns the repositories' addresses. Raises `ModelError` naming the one that the hub refused.
    """
    api, addresses = HfApi(), []
    for role, folder in folders.items():
        try:
            made = api.create_repo(names[role], private=private, exist_ok=True)
            api.upload_folder(repo_id=names[role], folder_path=folder, commit_message="ragdro export")
        except (_CLIENT_ERROR, OSError, ValueError) as error:
            raise ModelError(f"{names[role]}: the hub refused: {str(error).strip() or error!r}") from error
        addresses.append(str(made))
    return addresses
