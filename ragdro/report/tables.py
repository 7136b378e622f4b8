"""The tables of a run: what is reported, and what the validation questions say. They are never mixed.

In: a run folder. Out: one row a stage, one column a metric; on the terminal one table, whose title says which
column is of which questions. Fractions are of 1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from ragdro.report.history import History, iteration_of, read_history
from ragdro.report.table import Cell, Table, shown
from ragdro.runs.status import read_results
from ragdro.units import counted

COLUMNS = {
    "exact_match": "EM",
    "f1": "F1",
    "recall_at_1": "R@1",
    "recall_at_3": "R@3",
    "recall_at_5": "R@5",
    "full_recall": "all gold",
}
SAMPLED = {"bound": "bound", "effective_sample_size": "ESS"}
"""What samples say, always of the validation questions."""
_VALIDATION = {**COLUMNS, **SAMPLED, "selector_entropy": "entropy", "kl_to_previous": "KL"}
_MARK = " *"
NOTES = {
    "reported": "* best on the validation questions. EM: exact match; R@k: an answer is in the first k"
    " passages selected; all gold: all gold passages are selected; by hops: exact match. Fractions of 1.",
    "validation": "These questions choose the best iteration (*). Bound, entropy and KL (to the selector of"
    " the stage before) in nats; ESS: effective sample size.",
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


def results_table(run: Path) -> Table:
    """A row a stage, of the questions that are reported; the best one is marked."""
    results, hops = read_results(run), breakdowns(run)
    depths = sorted({h for by in hops.values() for h in by})
    asks = any("retrievals" in metrics for _, _, metrics in stages(results))
    rows: list[tuple[Cell, ...]] = []
    for name, label, metrics in stages(results):
        of_hops = (hops.get(name, {}).get(h, {}).get("exact_match") for h in depths)
        mark = _MARK if name == _best(results) else ""
        searches = (metrics.get("retrievals"),) if asks else ()
        rows.append((label + mark, *(metrics[key] for key in COLUMNS), *of_hops, *searches))
    counts = next(iter(hops.values()), {})
    names = (f"{h}-hop ({counts[h]['questions']})" if h in counts else f"{h}-hop" for h in depths)
    searches_name = ("searches",) if asks else ()
    return Table(("stage", *COLUMNS.values(), *names, *searches_name), tuple(rows))


def validation_table(run: Path) -> tuple[str, Table]:
    """A title with the number of questions, and a row a stage of the validation questions."""
    results, history = read_results(run), read_history(run)
    rows: list[tuple[Cell, ...]] = []
    for record in history.evaluations(history.chosen_by):
        number = iteration_of(record["stage"])
        label = f"iteration {number}" if number else "warm-up"
        mark = _MARK if record["stage"] == _best(results) else ""
        rows.append((label + mark, *(record.get(key) for key in _VALIDATION)))
    title = f"What chose the best: {counted(validation_questions(history, results), 'validation questions')}"
    return title, Table(("stage", *_VALIDATION.values()), tuple(rows))


def validation_questions(history: History, results: dict[str, Any]) -> int:
    """How many questions choose the best iteration; bound and ESS are of them."""
    measured = history.evaluations(history.chosen_by)
    return int(measured[0]["questions"] if measured else results["warm_up"]["questions"])


def _best(results: dict[str, Any]) -> str:
    best = results["best"]["iteration"]
    return f"iteration-{best}" if best else "warm_up"


def print_results(run: Path, console: Console | None = None) -> None:
    """The table of all stages; the best one is marked."""
    console = console or Console()
    results, history, table = read_results(run), read_history(run), results_table(run)
    reported = counted(results["warm_up"]["questions"], f"{history.split} questions")
    sampled = f"bound and ESS: {counted(validation_questions(history, results), 'validation questions')}"
    screen = RichTable(
        title=f"{history.name}: {reported}; {sampled}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
    )
    for title in ("stage", *COLUMNS.values(), *table.columns[1 + len(COLUMNS) :], *SAMPLED.values()):
        name = title.split(" (")[0].replace("all ", "")
        screen.add_column(name, justify="left" if title == "stage" else "right", no_wrap=True)
    for (label, *cells), (_, _, metrics) in zip(table.rows, stages(results), strict=True):
        texts = [shown(cell) for cell in (*cells, *(metrics[key] for key in SAMPLED))]
        screen.add_row(str(label), *texts, style="bold" if str(label).endswith(_MARK) else None)
    console.print(screen)
    console.print(NOTES["reported"].replace("all gold:", "gold:"), style="dim", highlight=False)
