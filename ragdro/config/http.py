"""Settings of anything that is asked over a network."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ragdro.config.base import URL, Settings
from ragdro.config.changes import Changes


class Patience(Settings):
    """How long and how often a service is tried."""

    timeout_seconds: Annotated[float, Changes.NOTHING] = Field(
        default=30.0, gt=0, description="longest wait for one reply"
    )
    retries: Annotated[int, Changes.NOTHING] = Field(
        default=4, ge=0, description="further tries after time-outs, refused connections, 429 and 5xx"
    )
    backoff_seconds: Annotated[float, Changes.NOTHING] = Field(
        default=0.5, ge=0, description="wait before the first further try; doubles each time"
    )


class HttpService(Patience):
    """An address, and how long and how often it is tried."""

    url: str = Field(pattern=URL, description="address that requests are sent to")
    headers: dict[str, str] = Field(
        default_factory=dict,
        description="headers sent along; a value `$NAME` is taken from that environment variable",
    )
