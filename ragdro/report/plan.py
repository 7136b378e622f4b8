"""`ragdro plan` on the terminal: a column a phase, a row for each thing that takes memory."""

from __future__ import annotations

from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ragdro.config import Config
from ragdro.data import load_questions
from ragdro.planning.plan import plan
from ragdro.runs.warm_start import warm_start
from ragdro.sources import resolve
from ragdro.units import as_bytes, as_count, counted

_COLUMNS = ("weights", "gradients", "optimiser", "kv_cache", "activations", "memory")


def plan_config(config: Config, questions: int | None, processes: int = 1) -> dict[str, Any]:
    """The plan of an iteration over `questions` questions (None: as many as the config gives it).

    Raises a `RagdroError` for data that has to be counted and cannot be read, `ModelError` for a model
    whose config cannot, what `warm_start` raises for a `warm_up.from` that is of no use.
    """
    warm_start(config)
    if config.device == "auto":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    else:
        device = torch.device(config.device)
    return plan(config, questions or _questions(config), device, processes)


def _questions(config: Config) -> int:
    known = [n for n in (config.e_step.questions, config.data.train_questions) if n is not None]
    if known:
        return min(known)
    return len(load_questions(resolve(config.data.train), skip_bad=config.data.skip_bad))


def print_plan(planned: dict[str, Any], console: Console | None = None) -> None:
    """A device's memory at each phase's worst moment; tokens and FLOPs of the whole iteration."""
    phases = planned["phases"]
    table = Table(box=SIMPLE_HEAD, title=f"an iteration over {counted(planned['questions'], 'questions')}")
    table.add_column("", no_wrap=True)
    for name in (*phases, "worst, sum"):
        table.add_column(name, justify="right")
    for name in _COLUMNS:
        whole = as_bytes(planned["memory"]) if name == "memory" else ""
        sizes = [as_bytes(phase[name]) for phase in phases.values()]
        table.add_row(name.replace("_", " "), *sizes, whole, end_section=name == "memory")
    for name in ("tokens", "flops"):
        values = [as_count(phase[name]) for phase in phases.values()]
        table.add_row(name.replace("flops", "FLOPs"), *values, as_count(planned[name]))
    (console or Console()).print(table)
