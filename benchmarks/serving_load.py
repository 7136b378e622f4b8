"""Clients of a running server, as locust runs them: each asks, and compares the answer with the expected one.

    RAGDRO_LOAD=plan.json locust -f benchmarks/serving_load.py --headless --host http://... -u CLIENTS

The plan (see `benchmarks.serving`) has `route`, `bodies`, `expected`, `requests` and `rate`: so many requests
a second come in, at times of a Poisson process and whatever the server does, as long as there is a client for
each (null: each client asks again once it has its answer). What was seen is written to `seen`: the seconds of
every request, and what went wrong.
"""

from __future__ import annotations

import json
import os
import random
import time
from itertools import accumulate, count
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, constant, events, task
from locust.exception import StopUser

from benchmarks.essence import essence

PLAN: dict[str, Any] = json.loads(Path(os.environ["RAGDRO_LOAD"]).read_text())
SEEN: dict[str, list[Any]] = {"seconds": [], "faults": []}
_ORDER = count()
_BEGAN = time.monotonic()


def _arrivals() -> list[float]:
    """Seconds after the beginning at which each request comes in; none where clients ask on their own."""
    if PLAN["rate"] is None:
        return []
    draw = random.Random(0)
    return list(accumulate(draw.expovariate(PLAN["rate"]) for _ in range(PLAN["requests"])))


_ARRIVALS = _arrivals()


class Client(FastHttpUser):
    """Asks the plan's questions in turn; all clients share the order."""

    wait_time = constant(0)
    connection_timeout = network_timeout = 600.0

    @task
    def ask(self) -> None:
        place = next(_ORDER)
        if place >= PLAN["requests"]:
            raise StopUser
        if _ARRIVALS:
            gevent.sleep(max(0.0, _BEGAN + _ARRIVALS[place] - time.monotonic()))
        which = place % len(PLAN["bodies"])
        with self.client.post(PLAN["route"], json=PLAN["bodies"][which], catch_response=True) as response:
            if response.status_code != 200:
                SEEN["faults"].append(f"{response.status_code}: {response.text}"[:300])
            elif (answered := essence(response.json())) != PLAN["expected"][which]:
                SEEN["faults"].append(f"asked alone: {PLAN['expected'][which]}; here: {answered}"[:600])
        SEEN["seconds"].append(response.request_meta["response_time"] / 1000)
        if len(SEEN["seconds"]) == PLAN["requests"]:
            gevent.spawn(self.environment.runner.quit)  # which ends the greenlets of all users, also this one


@events.quitting.add_listener
def _write(environment: Any, **rest: Any) -> None:
    Path(PLAN["seen"]).write_text(json.dumps(SEEN))
    environment.process_exit_code = 0
