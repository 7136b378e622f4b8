"""Where a model or dataset that is named is: a folder, the hub's files on this disk, or the hub.

In: a folder, a hub name or a `tiny:` name. Out: what a library loads, and whether it may ask the hub. The hub
is asked once, without retries, before a library begins to load: a name that does not exist, or a machine
without network, is refused within seconds and in one line.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    is_offline_mode,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from ragdro.access import absent
from ragdro.errors import DataError, ModelError
from ragdro.sources import resolve

_CONFIG, _CARD, _ADAPTER = "config.json", "README.md", "adapter_config.json"
_UNREACHABLE = HfHubHTTPError.__bases__
"""What the hub's client raises where no answer comes: its HTTP library's error, and `OSError`."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`path`: a folder or a hub name. `local`: load what is on this disk, for the hub cannot be asked."""

    path: str
    local: bool


def find_checkpoint(
    source: str, revision: str | None = None, files: Sequence[str] = (_CONFIG,)
) -> Checkpoint:
    """Where the model `source` is; on the hub it must have one of `files`.

    Raises `ModelError` for a folder or a name that is not there, and for a name that is not on this disk
    while the hub cannot be reached.
    """
    path = resolve(source)
    if Path(path).is_dir():
        if not any((Path(path) / file).is_file() for file in (*files, _ADAPTER)):
            look = f"what is there: ls {shlex.quote(path)}"
            raise ModelError(f"{source}: a folder without {' or '.join(files)}, so no model's; {look}")
        return Checkpoint(path, local=True)
    if Path(path).is_file():
        raise ModelError(f"{source}: a file, not a model's folder (`ragdro model import` reads a .gguf file)")
    if not _can_be_a_name(path):
        look = absent(path, "checkpoint folder")
        raise ModelError(
            f"{source}: {look}; give one with a {files[-1]}, or a name on the hub, such as org/name"
        )
    cached = any(isinstance(try_to_load_from_cache(path, file, revision=revision), str) for file in files)
    problem = _problem(path, "model", revision, files)
    if problem is not None and not cached:
        raise ModelError(f"{source}: {problem}")
    return Checkpoint(path, local=problem is not None)


def find_file(
    source: str, file: str, revision: str | None = None, files: Sequence[str] = (_CONFIG,)
) -> Path | None:
    """A file of the model `source`, downloaded where it has to be; None where the model has none.

    Raises `ModelError` as `find_checkpoint` does, and where the download fails.
    """
    checkpoint = find_checkpoint(source, revision, files)
    if Path(checkpoint.path).is_dir():
        path = Path(checkpoint.path) / file
        return path if path.is_file() else None
    try:
        return Path(
            hf_hub_download(checkpoint.path, file, revision=revision, local_files_only=checkpoint.local)
        )
    except EntryNotFoundError:
        return None
    except _UNREACHABLE as error:
        raise ModelError(f"{source}: {file} cannot be fetched: {_reason(error)}") from error


def require_dataset(name: str, cache: Path) -> None:
    """Raises `DataError` for a dataset (a folder, or a name on the hub) that is not there, or is neither in
    the folder `cache` of what was loaded before nor on a hub that can be reached."""
    if Path(name).exists() or (cache / name.replace("/", "___")).is_dir():
        return
    if not _can_be_a_name(name):
        look = absent(name, "folder")
        raise DataError(f"{look}; give a folder of data files, or org/name", path=f"hf:{name}")
    problem = _problem(name, "dataset", None, ())
    if problem is not None:
        raise DataError(problem, path=f"hf:{name}")


def _can_be_a_name(path: str) -> bool:
    try:
        validate_repo_id(path)
    except HFValidationError:
        return False
    return True


def _problem(
    name: str, kind: Literal["model", "dataset"], revision: str | None, files: Sequence[str]
) -> str | None:
    """Why the hub has no such model or dataset for us, or none of `files` in it; None where all is well."""
    if is_offline_mode():
        return (
            f"no such folder, and not in the hub's cache while HF_HUB_OFFLINE is set; give a {kind}'s folder"
        )
    page = hf_hub_url(name, _CARD, repo_type=kind).partition("/resolve/")[0]
    for file in files or (_CARD,):
        try:
            get_hf_file_metadata(hf_hub_url(name, file, repo_type=kind, revision=revision))
        except GatedRepoError:
            return f"needs permission: ask for it at {page}, then log in with `hf auth login`"
        except RepositoryNotFoundError:
            return (
                f"no such folder, and no such {kind} at {constants.ENDPOINT}; correct the name (a private one"
                " needs `hf auth login`)"
            )
        except RevisionNotFoundError:
            return f"no revision {revision!r} at {page}; correct `revision`"
        except EntryNotFoundError:
            continue
        except _UNREACHABLE as error:
            return (
                f"no such folder, and {constants.ENDPOINT} cannot be asked for it ({_reason(error)}); give a"
                f" {kind}'s folder, or try again with a network"
            )
        return None
    return f"no {' or '.join(files)} at {page}; name a whole {kind}" if files else None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
