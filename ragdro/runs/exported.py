"""What an exported folder has beside its two models, so that `ragdro.load` takes it as it takes a run folder.

FOLDER/config.yaml                       the run's config with plain models in place of adapters
FOLDER/prompts/{selector,…}.yaml         the prompt templates, whatever the config named
FOLDER/taught-retriever                  the retriever, where the loop has trained it
FOLDER/corpus.jsonl, FOLDER/index        the passages and their index, where they are asked for
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ragdro.config import Config, dump_config
from ragdro.config.teaching import TaughtByTheLoop
from ragdro.data import read_corpus
from ragdro.data.convert import write_corpus
from ragdro.errors import ConfigError
from ragdro.files import write_atomically
from ragdro.prompts import load_template
from ragdro.retrieval.cache import cached_retriever
from ragdro.runs.models import settings_of
from ragdro.runs.own_parts import CORPUS, PROMPTS, RETRIEVER, prompt_file, with_own_corpus
from ragdro.runs.status import CONFIG
from ragdro.sources import resolve

_WITHOUT_INDEX = ("given", "external", "postgres", "qdrant")


def write_exported_config(config: Config, folder: Path, retriever: Path | None = None) -> None:
    """Write the config, the prompts and the `retriever` that the loop has trained, if any, into `folder`."""
    (folder / PROMPTS).mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = {}
    for role in config.roles:
        settings = settings_of(config, role)
        write_atomically(prompt_file(folder, role), load_template(settings.prompt).as_yaml())
        changes = {"model": role, "scratch": None, "layers": None, "adapter": None, "quantisation": None}
        plain[role] = settings.model_copy(update=changes)
    if isinstance(config.retriever, TaughtByTheLoop):
        plain["retriever"] = config.retriever.model_copy(update={"train_every": None})
    if (folder / RETRIEVER).is_dir():  # of another stage
        shutil.rmtree(folder / RETRIEVER)
    if retriever is not None:
        shutil.copytree(retriever, folder / RETRIEVER)
    write_atomically(
        folder / CONFIG, dump_config(config.model_copy(update={**plain, "shared_backbone": False}))
    )


def write_index(config: Config, folder: Path) -> int:
    """Write the corpus into `folder` and its index beside it; returns how many passages there are.

    Raises `ConfigError` for a run without a corpus, or whose retriever has no index of it.
    """
    source = config.data.corpus
    if source is None or config.retriever.kind in _WITHOUT_INDEX:
        raise ConfigError(
            f"--index: this run searches no corpus of its own (retriever: {config.retriever.kind}); leave it"
            " out, and ask with --corpus FILE"
        )
    count = write_corpus(folder / CORPUS, read_corpus(resolve(source), fields=config.data.names))
    own = with_own_corpus(config, folder)
    cached_retriever(own.data.corpus, own.retriever, Path(own.cache))
    return count
