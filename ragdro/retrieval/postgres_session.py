"""A connection to PostgreSQL that is made again when it is lost, with a time limit on every answer.

In: the settings, and work that may be done again. Out: what the work returns; or one error that names the
server, the database and the key, never a password.
"""

from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import InsufficientPrivilege, QueryCanceled

from ragdro.config.stores import PostgresSettings
from ragdro.errors import RetrievalError
from ragdro.retrieval.patience import UnavailableError, patiently

Result = TypeVar("Result")
Connection = psycopg.Connection[tuple[Any, ...]]

_GRACE = 2.0
"""Seconds between the server's own time limit and ours, which holds when the server says nothing at all."""
_PASSING = ("08", "40", "53", "55P03", "57", "58")
"""SQLSTATE classes of faults that pass: connection, deadlock, resources, lock, shutdown, system."""


class PostgresSession:
    """Work on one connection, one piece at a time; several threads may ask.

    `prepare` is called with each new connection.
    """

    def __init__(
        self, settings: PostgresSettings, prepare: Callable[[Connection], None] | None = None
    ) -> None:
        self._settings = settings
        self._parameters = _parameters(settings)
        self._prepare = prepare
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self.place = f"{_server(self._parameters)} (retriever.dsn)"

    def run(self, work: Callable[[Connection], Result], *, unlimited: bool = False) -> Result:
        """What `work` returns on a connection, done again when the connection fails; `unlimited`: however
        long it takes."""
        with self._lock:
            return patiently(lambda: self._attempt(work, unlimited), self._settings, self.place)

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _attempt(self, work: Callable[[Connection], Result], unlimited: bool) -> Result:
        seconds = self._settings.timeout_seconds
        try:
            connection = self._connected()
            with _watched(connection, math.inf if unlimited else seconds + _GRACE):
                limit = 0 if unlimited else math.ceil(1000 * seconds)
                connection.execute(f"SET statement_timeout = {limit}")
                return work(connection)
        except (QueryCanceled, _HungError) as error:
            self.close()
            raise UnavailableError(f"no answer within {seconds:g} s (retriever.timeout_seconds)") from error
        except psycopg.Error as error:
            if not _passes(error):
                raise self._refused(error) from error
            self.close()
            raise UnavailableError(_line(error)) from error

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            wait = max(2, math.ceil(self._settings.timeout_seconds))
            given = {"connect_timeout": wait, "application_name": "ragdro", **self._parameters}
            connection = psycopg.connect(
                **given, autocommit=True, prepare_threshold=None, client_encoding="utf8"
            )
            with ExitStack() as unprepared:  # a connection that is not prepared is not used
                unprepared.callback(connection.close)
                with _watched(connection, self._settings.timeout_seconds + _GRACE):
                    if self._prepare is not None:
                        self._prepare(connection)
                unprepared.pop_all()
            self._connection = connection
        return self._connection

    def _refused(self, error: psycopg.Error) -> RetrievalError:
        if isinstance(error, InsufficientPrivilege):
            return RetrievalError(f"{self.place}: this user has no right to that: {_line(error)}")
        return RetrievalError(f"{self.place}: {_line(error)}")


class _HungError(Exception):
    """The connection was cut because nothing came back."""


@contextmanager
def _watched(connection: Connection, seconds: float) -> Iterator[None]:
    """Cut the connection when nothing has come back in time: a server that hangs sends no time-out."""
    if math.isinf(seconds):
        yield
        return
    cut = threading.Event()
    with socket.socket(fileno=os.dup(connection.fileno())) as twin:

        def cut_off() -> None:
            cut.set()
            with suppress(OSError):  # it is closed already
                twin.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut_off)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.Error as error:
            if cut.is_set():
                raise _HungError from error
            raise
        finally:
            timer.cancel()
            timer.join()


def _passes(error: psycopg.Error) -> bool:
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state.startswith(_PASSING)


def _line(error: psycopg.Error) -> str:
    """What the server says, in one line."""
    said = error.diag.message_primary or str(error) or type(error).__name__
    hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
    return " ".join(f"{said}{hint}".split())


def _parameters(settings: PostgresSettings) -> dict[str, Any]:
    """The connection's parameters. Their text is shown to nobody: it may hold a password."""
    dsn = settings.dsn or ""
    if dsn.startswith("$"):
        if dsn[1:] not in os.environ:
            raise RetrievalError(f"retriever.dsn: {dsn} is not set in the environment")
        dsn = os.environ[dsn[1:]]
    try:
        return dict(conninfo_to_dict(dsn))
    except psycopg.ProgrammingError:
        shown = settings.dsn if settings.dsn and settings.dsn.startswith("$") else "the value"
        raise RetrievalError(
            f"retriever.dsn: {shown} is no connection string: postgresql://user@host:5432/database, or"
            " host=... user=... dbname=..."
        ) from None


def _server(parameters: dict[str, Any]) -> str:
    host = parameters.get("host") or os.environ.get("PGHOST") or "local socket"
    port = parameters.get("port") or os.environ.get("PGPORT") or 5432
    user = parameters.get("user") or os.environ.get("PGUSER")
    database = parameters.get("dbname") or os.environ.get("PGDATABASE") or user or "default database"
    return f"PostgreSQL at {host}:{port}, database {database}"
