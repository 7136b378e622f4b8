"""Runs at a glance: the list of all (`ragdro runs`), one as it goes (`ragdro watch`).

In: run folders. Out: tables for the terminal. Nothing is written and no model is loaded, so both can
look at a run that another process works on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ragdro.data.record import parse
from ragdro.data.stream import lines
from ragdro.errors import RagdroError
from ragdro.progress import duration
from ragdro.report.evidence import drawn_by, held_out_samples, last_e_step
from ragdro.report.history import History, read_history
from ragdro.report.plain import marked_up
from ragdro.runs.status import CONFIG, is_exported
from ragdro.units import number

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 40
_EXAMPLES = 3


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """Name, state, place, best score and time of every run in `folder`, by name; exported folders are none.

    A run whose files are damaged is listed as unreadable, with what is wrong in place of where it is.
    """
    runs = (path.parent for path in sorted(folder.glob(f"*/{CONFIG}")))
    return [_row(run) for run in runs if not is_exported(run)]


def _row(run: Path) -> dict[str, Any]:
    row = {"name": run.name, "metric": None, "best": None, "best_stage": None, "seconds": 0.0}
    try:
        history = read_history(run)
    except RagdroError as error:
        return {**row, "state": "unreadable", "at": str(error)}
    best = history.best()
    return {
        "name": run.name,
        "state": history.run_status,
        "at": history.place(),
        "metric": history.config.evaluation.metric,
        "best": None if best is None else best[1],
        "best_stage": None if best is None else best[0],
        "seconds": history.seconds(),
    }


def print_runs(rows: Sequence[dict[str, Any]], console: Console | None = None) -> None:
    """The list as a table."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("run", "state", "at", "best", "time"):
        table.add_column(title, no_wrap=title != "at", overflow="fold")
    for row in rows:
        best = "–" if row["best"] is None else f"{row['metric']} {number(row['best'])} ({row['best_stage']})"
        table.add_row(marked_up(row["name"]), row["state"], row["at"], best, duration(row["seconds"]))
    (console or Console()).print(table)


def watch_run(run: Path, *, once: bool, every: float = 2.0) -> None:
    """Show the run until it no longer runs; once where `once` is set or this is no terminal."""
    console = Console()
    if once or not console.is_terminal:
        console.print(view(read_history(run)))
        return
    with Live(view(read_history(run)), console=console, auto_refresh=False) as live:
        while True:
            history = read_history(run)
            live.update(view(history), refresh=True)
            if history.run_status != "running":
                return
            time.sleep(every)


def view(history: History) -> Group:
    """One picture of a run: where it is, its curves, its last examples."""
    left = history.seconds_left()
    status = "time left: known after the first iteration" if left is None else f"about {duration(left)} left"
    if history.run_status != "running":
        status = history.run_status
    head = Text(f"{history.name}: {history.place()}; {duration(history.seconds())} spent; {status}")
    best = history.best()
    if best is not None:
        head.append(f"; best {history.config.evaluation.metric} {number(best[1])} ({best[0]})")
    return Group(head, _curves(history), _examples(history.run))


def _curves(history: History) -> Table:
    split = history.chosen_by
    curves = {
        "loss, selector (nats)": history.curve("update", "loss", role="selector"),
        "loss, generator (nats)": history.curve("update", "loss", role="generator"),
        "exact match": history.curve("evaluation", "exact_match", split=split),
        "F1": history.curve("evaluation", "f1", split=split),
        "bound (nats)": history.curve("evaluation", "bound", split=split),
        f"effective sample size{_of(held_out_samples(history))}": history.curve(
            "evaluation", "effective_sample_size", split=split
        ),
        f"the same in training{_of(_drawn_last(history))}": history.curve("e_step", "effective_sample_size"),
        "impossible questions": history.curve("e_step", "impossible_questions"),
        "updates skipped": history.curve("bad_batch", "step"),
    }
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, values in curves.items():
        if name == "updates skipped":
            if values:
                table.add_row(name, str(len(values)), "")
        elif values:
            table.add_row(name, number(values[-1]), sparkline(values))
    return table


def _of(samples: int | None) -> str:
    return "" if samples is None else f" (of {samples})"


def _drawn_last(history: History) -> int | None:
    """How many lists of a question the last E-step weighted; None before the first."""
    last = last_e_step(history)
    return drawn_by(last, history) if last else None


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """The values as one line of blocks, lowest to highest; means of neighbours where they are many."""
    groups = (
        [values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width)]
        if len(values) > width
        else [[value] for value in values]
    )
    means = [sum(group) / len(group) for group in groups]
    low, high = min(means), max(means)
    step = (high - low) / (len(_BLOCKS) - 1) or 1.0
    return "".join(_BLOCKS[round((mean - low) / step)] for mean in means)


def _examples(run: Path) -> Table:
    """The first questions of the newest predictions: asked, answered, right or wrong."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="ellipsis", no_wrap=True)
    table.add_column(overflow="ellipsis", no_wrap=True)
    newest = max(run.glob("predictions-*.jsonl"), key=_stage_number, default=None)
    if newest is not None:
        for number, line in islice(lines(newest), _EXAMPLES):
            record = parse(line, newest, number, number)
            right = record.number("exact_match") > 0
            verdict = "right" if right else f"wrong: {' / '.join(record.answers('answers'))}"
            answer = f"{record.string('answer')} ({verdict})"
            table.add_row(marked_up(record.text("question")), marked_up(answer))
    return table


def _stage_number(path: Path) -> int:
    """Vanilla RAG, the warm-up, then the iterations."""
    stage = path.stem.removeprefix("predictions-")
    number = stage.removeprefix("iteration-")
    return {"vanilla_rag": -1, "warm_up": 0}.get(stage, int(number) if number.isdigit() else -2)
