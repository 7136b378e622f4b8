"""What metrics.jsonl tells about a run, while it runs or after.

In: a run folder. Out: its records and what follows from them: where it is, its curves, the time left. A
last line that is still being written is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragdro.config import Config, load_config
from ragdro.config.resume import place_of
from ragdro.errors import ConfigError, DataError, brief
from ragdro.runs.status import CONFIG, RunStatus, run_status
from ragdro.units import counted

METRICS = "metrics.jsonl"
_WORDS, _NUMBERS = ("event", "stage"), ("seconds",)
_NEEDED = {  # words and numbers that a record of an event has besides
    "update": (("role",), ("step", "steps")),
    "shard": ((), ("questions", "of")),
    "evaluation": (("split",), ("exact_match", "f1")),
}


@dataclass(frozen=True, slots=True)
class History:
    """A run's config, state and records, in order."""

    run: Path
    config: Config
    run_status: RunStatus
    records: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """What the run is called."""
        return place_of(self.run, self.config)[1]

    @property
    def start(self) -> dict[str, Any]:
        """What was noted before anything was trained: questions by split, and what the token limits cut."""
        return next((record for record in self.records if record["event"] == "start"), {})

    @property
    def split(self) -> str:
        """The split that the run reports on."""
        return "validation" if self.config.data.test is None else "test"

    @property
    def chosen_by(self) -> str:
        """The split whose metrics choose the best iteration."""
        return "reported" if self.config.data.test is None else "validation"

    def evaluations(self, split: str) -> list[dict[str, Any]]:
        """The measured stages of a split, the warm-up first."""
        return [r for r in self.records if r["event"] == "evaluation" and r["split"] == split]

    def best(self) -> tuple[str, float] | None:
        """The best stage so far and its score (`evaluation.metric`); None before the first is measured."""
        metric = self.config.evaluation.metric
        scored = [
            (r["stage"], r[metric]) for r in self.evaluations(self.chosen_by) if r.get(metric) is not None
        ]
        return max(scored, key=lambda pair: pair[1], default=None)

    def place(self) -> str:
        """The last thing that was done."""
        if not self.records or self.records[-1]["event"] == "start":
            return "starting"
        last = self.records[-1]
        if last["event"] == "update":
            return f"{last['stage']}: {last['role']}, update {last['step']} of {last['steps']}"
        if last["event"] == "shard":
            return f"{last['stage']}: E-step, {last['questions']} of {counted(last['of'], 'questions')}"
        return f"{last['stage']}: {last['event'].replace('_', ' ')}"

    def iterations(self) -> int:
        """The iterations that have been fitted and measured."""
        return max((iteration_of(r["stage"]) for r in self.evaluations(self.chosen_by)), default=0)

    def seconds(self) -> float:
        """The time spent, up to the last record."""
        return float(self.records[-1]["seconds"]) if self.records else 0.0

    def seconds_left(self) -> float | None:
        """What the iterations to come take if they take as long as those before (None before the first).

        Stopping early (`patience`) is not foreseen.
        """
        marks = [(iteration_of(r["stage"]), r["seconds"]) for r in self.evaluations(self.chosen_by)]
        if len(marks) < 2:
            return None
        (first, begun), (last, ended) = marks[0], marks[-1]
        if last <= first:
            return None
        left = (self.config.iterations - last) * (ended - begun) / (last - first) - (self.seconds() - ended)
        return float(max(0.0, left))

    def curve(self, event: str, key: str, **where: str) -> list[float]:
        """The finite values of `key` in the records of `event` that match `where`."""
        events = (r for r in self.records if r["event"] == event)
        matching = (r for r in events if all(r.get(k) == v for k, v in where.items()))
        return [float(r[key]) for r in matching if isinstance(r.get(key), (int, float))]


def iteration_of(stage: str) -> int:
    """The number of a stage's iteration; 0 for the warm-up."""
    number = stage.removeprefix("iteration-")
    return int(number) if number.isdigit() else 0


def read_history(run: Path) -> History:
    """Raises `ConfigError` for a folder that is no run, `DataError` naming the line of a damaged log."""
    if not (run / CONFIG).is_file():
        raise ConfigError(f"{run}: not a run folder (it has no {CONFIG}); list them with: ragdro runs")
    path = run / METRICS
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    records = [_record(line, path, number) for number, line in enumerate(lines, start=1)]
    return History(run, load_config(run / CONFIG), run_status(run), records)


def _record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError("is not valid JSON", path=path, line=number) from error
    if not isinstance(record, dict):
        raise DataError(f"must be an object, is {brief(record)}", path=path, line=number)
    words, numbers = _NEEDED.get(str(record.get("event")), ((), ()))
    for keys, kind, said in (
        ((*_WORDS, *words), str, "text"),
        ((*_NUMBERS, *numbers), (int, float), "a number"),
    ):
        for key in keys:
            if not isinstance(record.get(key), kind):
                message = f"must be {said}, is {brief(record.get(key))}"
                raise DataError(message, path=path, line=number, field=key)
    return record
