"""metrics.jsonl: one object a line, appended as the run goes, cut back to its last saved state on resume.

In: records. Out: the file, and the same numbers to the trackers. Each record ends in `seconds`: the time
spent on the run so far, over all its sessions, by a clock that nobody can set.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragdro.access import naming
from ragdro.errors import TrainingError
from ragdro.runs.saved_states import State
from ragdro.runs.trackers import Tracker, numbers
from ragdro.units import counted

METRICS = "metrics.jsonl"


class MetricsLog:
    """The log of one session, which continues where `state` says. Raises `TrainingError` where the file has
    lost what the state had seen."""

    def __init__(self, folder: Path, state: State, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers
        self._records = state.records
        self._begun = time.monotonic() - state.seconds
        path = folder / METRICS
        self._file = path.open("ab")
        held = self._file.tell()
        if held < state.metrics_bytes:
            self._file.close()
            raise TrainingError(
                f"{path}: shorter than at the last saved state ({held:,} of"
                f" {counted(state.metrics_bytes, 'bytes')})"
            )
        self._file.truncate(state.metrics_bytes)
        self._file.seek(0, os.SEEK_END)

    def log(self, record: dict[str, Any]) -> None:
        """Append one object; numbers that are not finite become null."""
        record = finite({**record, "seconds": round(self.seconds, 3)})
        with naming(self._file.name):
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()
        for tracker in self._trackers:
            tracker.log(self._records, numbers(record))
        self._records += 1

    @property
    def is_new(self) -> bool:
        """Whether nothing has been logged."""
        return self._records == 0

    @property
    def seconds(self) -> float:
        """Time spent on the run."""
        return time.monotonic() - self._begun

    def mark(self, state: State) -> None:
        """Force the log to disk and write into `state` how far it goes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        state.metrics_bytes, state.records, state.seconds = self._file.tell(), self._records, self.seconds

    def close(self) -> None:
        """Close the file and the trackers."""
        self._file.close()
        for tracker in self._trackers:
            tracker.close()


class SilentLog(MetricsLog):
    """What the processes have that write nothing."""

    def __init__(self) -> None:
        self._begun, self._records = time.monotonic(), 0

    @property
    def is_new(self) -> bool:
        """Nothing is to be logged, so nothing is to be computed for it."""
        return False

    def log(self, record: dict[str, Any]) -> None:
        """Nothing is written."""

    def mark(self, state: State) -> None:
        """Nothing was written."""

    def close(self) -> None:
        """Nothing is open."""


def finite(value: Any) -> Any:
    """`value` with None for every number that is not finite, which JSON has no way to write."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
