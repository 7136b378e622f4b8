"""The table that a run ends with.

In: a run folder. Out: one row a stage, one column a metric, on the terminal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from ragdro.report.table import Cell, Table
from ragdro.runs.status import read_results

COLUMNS = {
    "exact_match": "EM",
    "f1": "F1",
    "recall_at_1": "R@1",
    "recall_at_3": "R@3",
    "recall_at_5": "R@5",
    "full_recall": "gold",
    "bound": "bound",
    "effective_sample_size": "ESS",
}


def stages(results: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """(file name of the stage, label, metrics), in order."""
    rows = [
        ("vanilla_rag", "vanilla RAG", results["vanilla_rag"]),
        ("warm_up", "warm-up", results["warm_up"]),
    ]
    rows += [(f"iteration-{m['iteration']}", f"iteration {m['iteration']}", m) for m in results["iterations"]]
    return rows


def breakdowns(run: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Each stage's metrics by number of hops; empty where the data does not say hops."""
    by_stage = {}
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["event"] == "breakdown" and record["split"] == "reported":
            by_stage[record["stage"]] = record["by_hops"]
    return by_stage


LEGEND = (
    "* best on the validation questions. Shares of 1: exact match and F1 of the answer, recall of the answer"
    " in the first passages selected, all gold passages selected, exact match by hops. Bound in nats."
)
_MARK = " *"


def results_table(run: Path) -> Table:
    """A row a stage; the best one is marked."""
    results, hops = read_results(run), breakdowns(run)
    best = results["best"]["iteration"]
    depths = sorted({h for by in hops.values() for h in by})
    rows: list[tuple[Cell, ...]] = []
    for name, label, metrics in stages(results):
        chosen = name == ("warm_up" if best == 0 else f"iteration-{best}")
        of_hops = (hops.get(name, {}).get(h, {}).get("exact_match") for h in depths)
        rows.append((label + _MARK * chosen, *(metrics[key] for key in COLUMNS), *of_hops))
    return Table(("stage", *COLUMNS.values(), *(f"{h}-hop" for h in depths)), tuple(rows))


def print_results(run: Path, console: Console | None = None) -> None:
    """The table of all stages; the best one is marked."""
    results, table = read_results(run), results_table(run)
    title = f"{run.name}: {results['warm_up']['questions']} questions"
    shown = RichTable(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in table.columns:
        shown.add_column(title, justify="left" if title == "stage" else "right", no_wrap=True)
    for label, *cells in table.rows:
        texts = [f"{cell:.2f}" if isinstance(cell, float) else "–" for cell in cells]
        shown.add_row(str(label), *texts, style="bold" if str(label).endswith(_MARK) else None)
    (console or Console()).print(shown)
    (console or Console()).print(LEGEND, style="dim")
