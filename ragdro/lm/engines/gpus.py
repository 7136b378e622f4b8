"""Which of a machine's GPUs the run's processes have and which the server may have, by whatever names.

In: settings of the engine, what this process was told by its environment. Out: names of GPUs: numbers on the
machine, or UUIDs (`GPU-…`, `MIG-…`), of which CUDA takes the beginning too. Names of one kind are compared as
they are; where both kinds meet, nvidia-smi says which UUID has which number.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ragdro.config.engine import VllmServerEngine
from ragdro.errors import ConfigError
from ragdro.lm.engines.base import KEY
from ragdro.lm.load import pick_device

VISIBLE = "CUDA_VISIBLE_DEVICES"
_LISTED = re.compile(r"^GPU (\d+): .*\(UUID: (GPU-[\w-]+)\)$", re.MULTILINE)


def taken_gpus(device: str, environment: Mapping[str, str]) -> list[str]:
    """The GPUs that the run's processes on this machine train on, as the environment calls them, else by
    their numbers."""
    chosen = pick_device(device)
    if chosen.type != "cuda":
        return []
    places = range(int(environment.get("LOCAL_WORLD_SIZE", "1"))) if chosen.index is None else [chosen.index]
    visible = environment.get(VISIBLE)
    if visible is None:
        return [str(place) for place in places]
    return [name.strip() for i, name in enumerate(visible.split(",")) if i in places]


def refuse_gpus(
    settings: VllmServerEngine, taken: Sequence[str], numbers: Callable[[], Mapping[str, str]] | None = None
) -> None:
    """Raises `ConfigError` for GPUs that the run's processes train on, and for none where these have some.

    `numbers`: which number each UUID of this machine has; it is asked where both kinds of name meet.
    """
    own = [str(gpu) for gpu in settings.gpus]
    if taken and not own:
        raise ConfigError(f"{KEY}.gpus: name the GPUs that the server takes, such as [7]")
    known: Mapping[str, str] = {}
    if {name.isdigit() for name in (*own, *taken)} == {True, False}:
        known = (numbers or partial(numbers_of_uuids, ",".join(taken)))()
    for gpu in own:
        if any(_same(gpu, other, known) for other in taken):
            raise ConfigError(f"{KEY}.gpus: the run itself trains on {gpu}; give it GPUs of its own")


def _same(one: str, other: str, known: Mapping[str, str]) -> bool:
    """Whether two names are one GPU's: a UUID's beginning stands for it."""
    if one.isdigit() == other.isdigit():
        return one == other or (not one.isdigit() and (one.startswith(other) or other.startswith(one)))
    number, uuid = (one, other) if one.isdigit() else (other, one)
    return any(whole.startswith(uuid) and known[whole] == number for whole in known)


def numbers_of_uuids(taken: str) -> dict[str, str]:
    """UUID → number of each GPU here, by nvidia-smi. Raises `ConfigError` where that is not to be had."""
    asked, problem = shutil.which("nvidia-smi"), "no command 'nvidia-smi' here"
    if asked is not None:
        environment = {name: value for name, value in os.environ.items() if name != VISIBLE}
        done = subprocess.run(
            [asked, "-L"], capture_output=True, text=True, env=environment, check=False, timeout=60
        )
        numbers = {uuid: number for number, uuid in _LISTED.findall(done.stdout)}
        if done.returncode == 0 and numbers:
            return numbers
        problem = f"nvidia-smi -L failed with exit code {done.returncode}"
    raise ConfigError(
        f"{KEY}.gpus: the run's GPUs are {taken} ({VISIBLE}), and which numbers they have is not known"
        f" ({problem}); name the server's in the same way"
    )
