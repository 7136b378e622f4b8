"""`ragdro plan` on the terminal: a row a phase, a column for each thing that takes memory."""

from __future__ import annotations

from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ragdro.config import Config
from ragdro.data import load_questions
from ragdro.planning.plan import plan
from ragdro.sources import resolve

_COLUMNS = ("weights", "gradients", "optimiser", "kv_cache", "activations", "memory")


def plan_config(config: Config, questions: int | None, processes: int = 1) -> dict[str, Any]:
    """The plan of an iteration over `questions` questions (None: as many as the config gives it).

    Raises a `RagdroError` for data that has to be counted and cannot be read, `ModelError` for a model
    whose config cannot.
    """
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


def print_plan(found: dict[str, Any], console: Console | None = None) -> None:
    """GiB of one device at each phase's worst moment; tokens and FLOPs of the whole iteration."""
    table = Table(box=SIMPLE_HEAD, title=f"an iteration over {found['questions']:,} questions")
    for name in ("GiB", *(c.replace("_", " ") for c in _COLUMNS), "tokens", "TFLOPs"):
        table.add_column(name, justify="left" if name == "GiB" else "right", no_wrap=True)
    for name, phase in found["phases"].items():
        sizes = [f"{phase[column] / 2**30:,.2f}" for column in _COLUMNS]
        table.add_row(name, *sizes, f"{phase['tokens']:,.0f}", f"{phase['flops'] / 1e12:,.0f}")
    blank = [""] * (len(_COLUMNS) - 1)
    total = f"{found['memory'] / 2**30:,.2f}"
    table.add_row("most, sum", *blank, total, f"{found['tokens']:,.0f}", f"{found['flops'] / 1e12:,.0f}")
    (console or Console()).print(table)
