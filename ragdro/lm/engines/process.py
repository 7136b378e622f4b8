"""A server in a process of its own: started, waited for, and stopped with whatever it has started itself.

In: a command, its environment and a file for what it prints. Out: nothing but that it runs. It is not in the
terminal's group, so that Ctrl-C reaches us alone; it is told to end where we are killed.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten

import httpx

from ragdro.errors import TrainingError
from ragdro.units import counted

_PATIENCE = 30.0
"""Seconds that a server has to end by itself."""
_POLL = 0.25
_TAIL = 200_000
"""So many bytes at a log's end are looked at."""
_PREFIX = re.compile(r"^(\(.*?pid=\d+\) )?([A-Z]+ [\d-]+ [\d:]+ \[[^\]]*\] )?")
"""What vLLM puts before each line."""
_CAUSE = re.compile(r"^[\w.]*(Error|Exception): \S")
_KILL_AFTER_US = """
import os, signal, sys
sys.stdin.read()
for pid in map(int, sys.argv[1:]):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
"""A program that waits for the end of what it is told, which comes with our own, however that comes."""
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


class ServerProcess:
    """`name` is what messages call it."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )

    def wait_until_ready(self, url: str, seconds: float) -> None:
        """Return when `url` answers. Raises `TrainingError` where the server ends before, or is too slow."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.ending is not None:
                raise TrainingError(f"{self.ending} before it was ready{end_of(self.log)}")
            with suppress(httpx.TransportError):  # it does not listen yet
                if httpx.get(url, timeout=5.0).status_code == httpx.codes.OK:
                    return
            time.sleep(_POLL)
        waited = counted(round(seconds), "seconds")
        raise TrainingError(f"{self._name} was not ready after {waited}{end_of(self.log)}")

    @property
    def ending(self) -> str | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return f"{self._name} ended with {how}"

    def stop(self) -> None:
        """End it and all that it has started."""
        try:
            with suppress(subprocess.TimeoutExpired):  # it is killed then
                self._process.terminate()
                self._process.wait(_PATIENCE)
        finally:
            with suppress(ProcessLookupError):  # nothing may be left of it
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Survivors:
    """Processes that a library has started and that would stay where this one is killed: they are killed
    then, by a process that waits for it, until `release`."""

    def __init__(self, pids: Sequence[int]) -> None:
        command = [sys.executable, "-S", "-c", _KILL_AFTER_US, *map(str, pids)]
        self._watch = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def release(self) -> None:
        """They end by themselves."""
        self._watch.kill()
        self._watch.communicate()


def end_of(log: Path) -> str:
    """The end of a message: the first error in the last part of a log, else its last line, and its path."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        text = file.read().decode(errors="replace")
    lines = [line for printed in text.split("\n") if (line := _PREFIX.sub("", printed).strip())]
    if not lines:
        return f"; its log, {log}, is empty"
    said = next((line for line in lines if _CAUSE.match(line)), lines[-1])
    return f": {shorten(said, 250, placeholder=' …')}; the rest is in {log}"


def end_with_parent() -> Callable[[], None] | None:
    """What a child calls before it becomes another program (`preexec_fn`), so that it gets SIGTERM where its
    parent is killed; Linux alone knows that."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec no lock may be taken

    def ask() -> None:
        prctl(_DIE_WITH_PARENT, signal.SIGTERM)

    return ask
