"""A client of Qdrant, of a folder or of a server, that is asked again when it is away.

In: the settings, and work that may be done again. Out: what the work returns; or one error that names the
folder or the server, and the key. A folder is opened once a process, whoever asks, as it is locked.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import httpx
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from ragdro.config.stores import QdrantSettings
from ragdro.errors import RetrievalError
from ragdro.json_http import RETRIED_STATUS
from ragdro.retrieval.patience import UnavailableError, patiently

Result = TypeVar("Result")

_FOLDER_S_OWN = "meta.json"
"""What a folder of Qdrant's has."""
_REFUSED = (401, 403)


class _Opened:
    """A client and the lock of those who use it."""

    def __init__(self, client: QdrantClient) -> None:
        self.client = client
        self.lock = threading.RLock()


_FOLDERS: WeakValueDictionary[Path, _Opened] = WeakValueDictionary()
_FOLDERS_LOCK = threading.Lock()


class QdrantSession:
    """Work on one client; several threads may ask."""

    def __init__(self, settings: QdrantSettings) -> None:
        self._settings = settings
        self._opened: _Opened | None = None
        self._key = _from_environment(settings.api_key)
        where = f"at {settings.url}" if settings.path is None else f"in {settings.path}"
        self.place = f"Qdrant {where} (retriever.{'url' if settings.path is None else 'path'})"

    def is_there(self) -> bool:
        """Whether there is something to open: a server is taken to be there."""
        return self._settings.path is None or (self._settings.path / _FOLDER_S_OWN).is_file()

    def run(self, work: Callable[[QdrantClient], Result]) -> Result:
        """What `work` returns, done again where the server is away or the folder is another process's."""
        return patiently(lambda: self._attempt(work), self._settings, self.place)

    def _attempt(self, work: Callable[[QdrantClient], Result]) -> Result:
        try:
            if self._opened is None:
                self._opened = self._open()
            with self._opened.lock:
                return work(self._opened.client)
        except ResourceExhaustedResponse as error:
            raise UnavailableError(str(error)) from error
        except ResponseHandlingException as error:
            if isinstance(error.source, httpx.TransportError):
                cause = f"{type(error.source).__name__} {error.source}".strip()
                raise UnavailableError(cause) from error
            raise RetrievalError(f"{self.place}: not a reply of Qdrant's: {error.source}") from error
        except UnexpectedResponse as error:
            raise self._for_status(error) from error
        except (sqlite3.Error, OSError) as error:
            raise RetrievalError(f"{self.place}: {error}") from error

    def _for_status(self, error: UnexpectedResponse) -> Exception:
        said = f"status {error.status_code}: {_said(error)}"
        if error.status_code in RETRIED_STATUS:
            return UnavailableError(said)
        key = " (retriever.api_key)" if error.status_code in _REFUSED else ""
        return RetrievalError(f"{self.place}: {said}{key}")

    def _open(self) -> _Opened:
        settings = self._settings
        if settings.path is None:
            wait = math.ceil(settings.timeout_seconds)
            client = QdrantClient(
                url=settings.url, api_key=self._key, timeout=wait, check_compatibility=False
            )
            return _Opened(client)
        folder = settings.path.resolve()
        with _FOLDERS_LOCK:
            opened = _FOLDERS.get(folder)
            if opened is None:
                opened = _FOLDERS[folder] = _Opened(self._open_folder(folder))
            return opened

    def _open_folder(self, folder: Path) -> QdrantClient:
        if folder.exists() and not (folder / _FOLDER_S_OWN).exists() and any(folder.iterdir()):
            raise RetrievalError(f"{self.place}: no folder of Qdrant's, and not empty")
        try:
            return QdrantClient(path=str(folder), force_disable_check_same_thread=True)
        except RuntimeError as error:
            raise UnavailableError(f"another process has the folder open ({error})") from error


def _said(error: UnexpectedResponse) -> str:
    """What the server says is wrong, or the beginning of its reply."""
    text = error.content.decode("utf-8", "replace")
    with suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["status"]["error"])
    return " ".join(text.split())[:300]


def _from_environment(name: str | None) -> str | None:
    """The value of `$NAME`; RetrievalError where it is not set."""
    if name is None:
        return None
    if name[1:] not in os.environ:
        raise RetrievalError(f"retriever.api_key: {name} is not set in the environment")
    return os.environ[name[1:]]
