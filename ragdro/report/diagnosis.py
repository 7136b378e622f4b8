"""A diagnosis on the terminal and on a run's page.

In: what `ragdro.runs.diagnose` returns or wrote. Out: tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from ragdro.errors import DataError
from ragdro.evaluation.diagnosis import Record
from ragdro.report.table import Cell, Table, shown
from ragdro.runs.diagnose import DIAGNOSIS
from ragdro.runs.status import read_json
from ragdro.units import counted

NAMES = {
    "closed_book": "no passages",
    "reversed_order": "from behind",
    "one_wrong_passage": "one wrong more",
    "gold_alone": "gold alone",
}
_COLUMNS = {
    "questions": "questions",
    "as_read": "EM as read",
    "exact_match": "EM then",
    "spoilt": "spoilt",
    "put_right": "put right",
    "same_answer": "same answer",
}
NOTE = (
    "No passages: self-knowledge. From behind: sensitivity to the order. One wrong more: noise, a candidate"
    " that is not gold and holds no answer. Gold alone: what a perfect selector reaches. "
    "EM: exact match. Spoilt: right as read, wrong then; put right: the other way round. Fractions of 1, of"
    " the questions to which a probe applies."
)


def probe_table(result: dict[str, Any]) -> Table:
    """A row a probe that applies to any question."""
    rows: list[tuple[Cell, ...]] = []
    for name, said in NAMES.items():
        probe = result["probes"].get(name)
        if probe is not None and probe["questions"]:
            rows.append((said, *(probe[key] for key in _COLUMNS)))
    return Table(("read instead", *_COLUMNS.values()), tuple(rows))


def fault_table(result: dict[str, Any]) -> Table:
    """Read or not by right or wrong, a row a number of hops."""
    columns = ("questions", "read, right", "read, wrong", "not read, right", "not read, wrong", "context use")
    keys = ("label", "read_right", "read_wrong", "unread_right", "unread_wrong", "context_use")
    return Table(columns, tuple(tuple(fault[key] for key in keys) for fault in result["faults"]))


def read_diagnosis(run: Path) -> dict[str, Any] | None:
    """What `ragdro diagnose` wrote, None where it has not been run. Raises `DataError` for a damaged file."""
    path = run / DIAGNOSIS
    if not path.is_file():
        return None
    result = read_json(path)
    if not isinstance(result, dict) or not {"probes", "records", "questions", "split"} <= set(result):
        raise DataError("is no diagnosis; run `ragdro diagnose` again", path=path)
    return dict(result)


def with_inclusion(records: Sequence[Record], result: dict[str, Any] | None) -> list[Record]:
    """The records, each selected passage with its probability of being in the list at all where it is
    known."""
    known = {} if result is None else {r["id"]: r for r in result["records"] if r.get("inclusion")}
    extended: list[Record] = []
    for record in records:
        diagnosed, selection = known.get(record["id"]), record.get("selection", [])
        if diagnosed is not None and len(diagnosed["inclusion"]) == len(selection):
            both = zip(selection, diagnosed["inclusion"], diagnosed["inclusion_error"], strict=True)
            selection = [{**entry, "inclusion": p, "inclusion_error": error} for entry, p, error in both]
        extended.append({**record, "selection": selection})
    return extended


def print_diagnosis(result: dict[str, Any], console: Console | None = None) -> None:
    """The tables, and in one line each what else was found."""
    console = console or Console(highlight=False)
    number = counted(result["questions"])
    title = f"{result['stage']} on {number} ({result['split']}: {result['data']})"
    console.print(f"[bold]{title}[/bold]")
    for table in (fault_table(result), probe_table(result)):
        _print(table, console)
    console.print(NOTE, style="dim")
    for name, value in (
        ("ceiling: the candidates hold what is needed", result["ceiling"]),
        ("K-precision: words of the answer that stand in what was read", result["k_precision"]),
    ):
        console.print(f"{name}: {shown(value)}")
    cut = ", ".join(f"{key} {shown(value)}" for key, value in result["cut"].items() if value)
    console.print(f"cut to the token limits: {cut or 'nothing'}")


def _print(table: Table, console: Console) -> None:
    rich = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in table.columns:
        rich.add_column(name, justify="left" if name == table.columns[0] else "right")
    for row in table.rows:
        rich.add_row(*map(shown, row))
    console.print(rich)
