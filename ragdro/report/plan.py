"""`ragdro plan` on the terminal: a column a phase, a row for each thing that takes memory."""

from __future__ import annotations

from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ragdro.config import Config
from ragdro.data import load_questions
from ragdro.errors import RagdroError
from ragdro.planning.index import plan_index_of
from ragdro.planning.plan import plan
from ragdro.planning.server import in_words, plan_server
from ragdro.runs.warm_start import warm_start
from ragdro.sources import resolve
from ragdro.units import as_bytes, as_count, counted

_COLUMNS = ("weights", "gradients", "optimiser", "kv_cache", "passages", "activations", "memory")


def plan_config(
    config: Config, questions: int | None, processes: int = 1, passages: int | None = None
) -> dict[str, Any]:
    """The plan of an iteration over `questions` questions (None: as many as the config gives it), and of the
    index of `passages` passages (None: as many as its corpus has), or why there is no such plan.

    Raises a `RagdroError` for data that has to be counted and cannot be read, `ModelError` for a model
    whose config cannot, what `warm_start` raises for a `warm_up.from` that is of no use.
    """
    warm_start(config)
    if config.device == "auto":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    else:
        device = torch.device(config.device)
    return {
        **plan(config, questions or _questions(config), device, processes),
        "server": plan_server(config, device, processes),
        **_index(config, passages),
    }


def _index(config: Config, passages: int | None) -> dict[str, Any]:
    try:
        return {"index": plan_index_of(config, passages)}
    except RagdroError as error:  # a corpus or an encoder that is not here is no reason to plan nothing
        return {"index": None, "index_problem": str(error)}


def _questions(config: Config) -> int:
    known = [n for n in (config.e_step.questions, config.data.train_questions) if n is not None]
    if known:
        return min(known)
    return len(load_questions(resolve(config.data.train), skip_bad=config.data.skip_bad))


def print_plan(planned: dict[str, Any], console: Console | None = None) -> None:
    """A device's memory at each phase's worst moment; tokens and FLOPs of the whole iteration."""
    phases = planned["phases"]
    title = f"an iteration over {counted(planned['questions'], 'questions')}"
    table = Table(box=SIMPLE_HEAD, title=title, padding=0, show_edge=False)
    table.add_column("", no_wrap=True)
    for name in (*phases, "worst, sum"):
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    for name in _COLUMNS:
        if name == "passages" and not any(phase[name] for phase in phases.values()):
            continue
        whole = as_bytes(planned["memory"]) if name == "memory" else ""
        sizes = [as_bytes(phase[name]) for phase in phases.values()]
        table.add_row(name.replace("_", " "), *sizes, whole, end_section=name == "memory")
    for name in ("tokens", "flops"):
        values = [as_count(phase[name]) for phase in phases.values()]
        table.add_row(name.replace("flops", "FLOPs"), *values, as_count(planned[name]))
    console = console or Console()
    console.print(table)
    if planned["queries"]:
        queries = counted(planned["queries"], "queries")
        console.print(f"at most {queries} are searched for; paths that are alike take less", markup=False)
    if planned.get("server"):
        console.print(in_words(planned["server"]), markup=False)
    if planned.get("index"):
        console.print(_index_table(planned["index"]))
    if "index_problem" in planned:
        console.print(f"the index is not planned: {planned['index_problem']}", markup=False)


def _index_table(index: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, title=f"the index of {counted(index['passages'], 'passages')}")
    for name in ("", "on disk", "while built", "memory, while built"):
        table.add_column(name, justify="right" if name else "left")
    rows = {**index["parts"], "together": index}
    for name, part in rows.items():
        sizes = [as_bytes(part[key]) for key in ("disk", "building", "memory")]
        table.add_row(name, *sizes, end_section=name == list(index["parts"])[-1])
    return table
