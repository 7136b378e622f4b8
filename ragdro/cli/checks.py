"""What a command refuses before torch is imported, which takes seconds: names of what is not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ragdro.config import Config
from ragdro.errors import ConfigError


def require_run(run: Path) -> None:
    """Raises `ConfigError` for a folder that is neither a run's nor an exported one."""
    from ragdro.runs.stages import config_of

    config_of(run)


def require_own_run(run: Path) -> None:
    """The same, and for an exported folder, which has a pair and no more of its run."""
    from ragdro.runs.status import refuse_exported

    require_run(run)
    refuse_exported(run)


def require_stage(run: Path, stage: str) -> None:
    """The same, and `ModelError` for a stage that the run does not have."""
    from ragdro.runs.stages import checkpoint_of

    require_run(run)
    checkpoint_of(run, stage)


def require_sources(
    *sources: str | None, corpus: str | None = None, fields: Mapping[str, str] | None = None
) -> None:
    """Raises `DataError` for a file or folder that is not there or in no format that we read. Datasets of
    the hub are left for later."""
    from ragdro.data import recognise
    from ragdro.data.hub import is_hub_name
    from ragdro.sources import resolve

    for source in (*sources, corpus):
        if source is not None and not is_hub_name(source):
            recognise(resolve(source), fields or {}, as_corpus=source is corpus)


def require_spared(out: Path, *read: str | Path | None, way: str = "name another with --out") -> None:
    """Raises `ConfigError` where `out` is a folder, or a file that the same command reads, as its content
    would be lost."""
    from ragdro.sources import resolve

    if out.is_dir():
        raise ConfigError(f"{out}: is a folder; name a file in it")
    for source in filter(None, read):
        path = Path(resolve(str(source)))
        for file in (path, path / "corpus.jsonl", path / "queries.jsonl"):
            if file.is_file() and out.exists() and out.samefile(file):
                raise ConfigError(f"{out}: is read by this command, and would be lost; {way}")


def require_parts(config: Config) -> None:
    """Raises a `RagdroError` for data or a model that the config names and that is not there."""
    from ragdro.data.named import named_source
    from ragdro.hub import find_checkpoint

    data = config.data
    for key in ("train", "validation", "test", "corpus"):
        if (source := getattr(data, key)) is not None:
            named_source(source, f"data.{key}")
    require_sources(data.train, data.validation, data.test, corpus=data.corpus, fields=data.names)
    for settings in config.roles.values():
        if settings.model is not None:
            find_checkpoint(settings.model, settings.revision)
