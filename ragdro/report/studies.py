"""A finished study as a part of a page.

In: a study's folder (`study.json`, `figure.svg`). Out: HTML. What the folder holds is taken as data: it may
come from another machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragdro.errors import DataError
from ragdro.report import html
from ragdro.report.html import Html
from ragdro.report.table import Table
from ragdro.runs.status import read_json

STUDY = "study.json"


def study_section(folder: Path) -> Html:
    """Command, figure, tables, findings. Raises `DataError` naming the file that is not a study's."""
    study = _read(folder / STUDY)
    figure = folder / "figure.svg"
    if not figure.is_file():
        raise DataError("missing: not a finished study's folder", path=figure)
    tables = [
        html.join([html.heading(title, 3), html.table(_sheet(table, folder / STUDY))])
        for title, table in study["tables"].items()
    ]
    findings = [html.escaped(str(line)) for line in study["findings"]]
    return html.join(
        [
            html.code(str(study["command"])),
            html.scrolled(html.picture(figure.read_bytes(), f"figure of the study {study['study']}")),
            html.items(findings) if findings else Html(""),
            *tables,
            html.items((html.escaped(str(line)) for line in study["notes"]), "dim"),
        ]
    )


def studies_beside(run: Path) -> list[Path]:
    """The folders of finished studies in the folder that holds the run, by name."""
    return sorted(path.parent for path in (run.resolve().parent / "studies").glob(f"*/{STUDY}"))


def _read(path: Path) -> dict[str, Any]:
    study = read_json(path)
    kinds = {"study": str, "command": str, "tables": dict, "findings": list, "notes": list}
    for key, kind in kinds.items():
        if not isinstance(study, dict) or not isinstance(study.get(key), kind):
            raise DataError("does not hold a study", path=path, field=key)
    return dict(study)


def _sheet(table: Any, path: Path) -> Table:
    columns, rows = (table.get(key) if isinstance(table, dict) else None for key in ("columns", "rows"))
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise DataError("is not a table", path=path, field="tables")
    if not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        raise DataError("has rows of another length than its columns", path=path, field="tables")
    return Table(tuple(map(str, columns)), tuple(tuple(map(str, row)) for row in rows))
