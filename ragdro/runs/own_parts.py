"""What a folder that `ragdro export` wrote has in place of what its config names. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragdro.config import Config

PROMPTS = "prompts"
CORPUS = "corpus.jsonl"
RETRIEVER = "taught-retriever"
_INDEX = "index"


def with_own_corpus(config: Config, folder: Path) -> Config:
    """The config with the corpus and the index that `folder` brings, where it does."""
    corpus = folder / CORPUS
    if not corpus.is_file():
        return config
    data = config.data.model_copy(update={"corpus": str(corpus), "fields": {}})
    return config.model_copy(update={"data": data, "cache": str(folder / _INDEX)})


def with_own_parts(config: Config, folder: Path) -> Config:
    """The config with the prompts, and the corpus and the retriever if there are, that `folder` brings; as it
    is for a run folder, which brings none."""
    config = with_own_corpus(config, folder)
    changes: dict[str, Any] = {}
    for role, settings in config.roles.items():
        path = prompt_file(folder, role)
        if path.is_file():
            changes[role] = settings.model_copy(update={"prompt": str(path)})
    if (folder / RETRIEVER).is_dir():
        own = {"model": str(folder / RETRIEVER), "revision": None}
        changes["retriever"] = config.retriever.model_copy(update=own)
    return config.model_copy(update=changes)


def prompt_file(folder: Path, role: str) -> Path:
    """Where `folder` has the prompt of a role."""
    return folder / PROMPTS / f"{role}.yaml"
