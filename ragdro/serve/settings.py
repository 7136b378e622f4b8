"""What a server is told: where it listens, who may ask, how much at once. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from ragdro.errors import ConfigError

KEY_VARIABLE = "RAGDRO_API_KEY"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)  # no slots: the defaults are the command line's, too
class ServeSettings:
    """`name` is the model id that clients see. Sizes are of one request; `queue` is how many requests may
    wait, `batch` how many of them are worked on together, `timeout` their seconds until an answer. `cors`:
    the origins whose pages may ask. `samples`: lists drawn for a probability that cannot be computed exactly.
    """

    name: str
    host: str = LOOPBACK
    port: int = 8000
    api_key: str | None = None
    cors: tuple[str, ...] = ()
    max_body: int = 4 * 2**20
    max_documents: int = 1000
    queue: int = 256
    batch: int = 32
    timeout: float = 60.0
    samples: int = 64

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine alone; a name other than localhost is taken to be reachable."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def require_key(host: str, key: str | None, *, no_auth: bool) -> str | None:
    """The API key that requests need, None for none. Raises `ConfigError` where others could ask without."""
    if no_auth:
        return None
    if key is not None and not (key and key.isascii() and key.isprintable()):
        raise ConfigError(f"{KEY_VARIABLE}: must be printable ASCII and not empty")
    if key is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host}: others can reach this server; set {KEY_VARIABLE} to the key that they must send,"
            " or say --no-auth"
        )
    return key


def refuse_workers(workers: int) -> None:
    """Raises `ConfigError` for more processes than one."""
    if workers != 1:
        raise ConfigError(
            f"--workers {workers}: one process holds one copy of the models and gathers requests into"
            " batches; several would hold as many copies and gather less. Start several servers behind a"
            " proxy instead"
        )
