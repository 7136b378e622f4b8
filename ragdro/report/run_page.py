"""`ragdro report RUN`: everything about a run on one page that opens from disk (RUN/report.html).

In: a finished run's folder, and the studies beside it (`../studies`). Out: HTML with the verdict, what was
run, metrics, curves, whose fault the errors are, all of them, changed answers, studies and configuration.
Text of data and models has no meaning in it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragdro.errors import RagdroError
from ragdro.evaluation.diagnosis import Record
from ragdro.files import write_atomically
from ragdro.report import html
from ragdro.report.diagnosis import NOTE, probe_table, read_diagnosis, with_inclusion
from ragdro.report.errors import errors
from ragdro.report.evidence import best_stage, judge
from ragdro.report.figures import loss_panels, run_panels, warm_up_caption
from ragdro.report.head import facts, verdict_box
from ragdro.report.history import read_history
from ragdro.report.html import Html
from ragdro.report.plot import Panel, render
from ragdro.report.predictions import read_records
from ragdro.report.sections import before_and_after, changed, light_rows, whose_fault
from ragdro.report.studies import studies_beside, study_section
from ragdro.report.tables import NOTES, results_table, validation_table
from ragdro.runs.status import CONFIG, ENVIRONMENT, read_json, read_results
from ragdro.units import counted

PAGE = "report.html"
_PROBABILITIES = (
    "A passage is chosen with a probability given those before it, so a later one may be certain only because"
    " of an earlier one; the probability of being in the list at all (in the list) adds up all lists."
)
_IN_ROUNDS = (
    "Each error has its further queries, and below it the rounds. A passage is chosen with a probability"
    " given those chosen before it, and what its round was asked and found."
)


def write_report(run: Path) -> Path:
    """Write RUN/report.html and return its path. Raises `DataError` for a run that has not finished."""
    page = html.page(f"Run {read_history(run).name}", _sections(run))
    path = run / PAGE
    write_atomically(path, page)
    return path


def _sections(run: Path) -> list[Html]:
    results, history = read_results(run), read_history(run)
    diagnosis = read_diagnosis(run)
    records = with_inclusion(read_records(run, best_stage(results)), diagnosis)
    split, questions = history.split, counted(len(records), f"{history.split} questions")
    wrong = sum(not record["exact_match"] for record in records)
    return [
        verdict_box(judge(run)),
        facts(history, results),
        html.heading(f"Metrics: {questions}"),
        html.table(results_table(run)),
        html.paragraph(NOTES["reported"], "dim"),
        *_validation(run),
        html.heading("Curves"),
        _curves(run_panels(run)),
        html.paragraph(f"Bars: 95 % intervals over the questions. {warm_up_caption(run)}", "dim"),
        _curves(loss_panels(history)),
        *light_rows(history),
        html.heading(f"Whose fault: the best iteration on {questions}"),
        *whose_fault(records, split),
        *_probed(run, diagnosis),
        html.heading(f"Remaining errors: {wrong} of {questions}"),
        html.paragraph(_meaning(run, records, diagnosis), "dim"),
        errors(records),
        html.heading("Before and after, question by question"),
        *before_and_after(run, split),
        html.heading(f"Answers that changed, of {questions}"),
        *changed(run),
        *_studies(run),
        html.heading("Configuration"),
        html.folded(Html("config.yaml"), html.code((run / CONFIG).read_text(encoding="utf-8"))),
        html.folded(Html("environment.json"), _environment(run)),
    ]


def _to_diagnose(run: Path) -> str:
    name = shlex.quote(str(run))
    return f"run “ragdro diagnose {name}”, then “ragdro report {name}”."


def _meaning(run: Path, records: Sequence[Record], diagnosis: dict[str, Any] | None) -> str:
    """What the probabilities of the selections are. Over several rounds there is no single list to be in."""
    if any("path" in record for record in records):
        return _IN_ROUNDS
    return _PROBABILITIES if diagnosis else f"{_PROBABILITIES} It is not known here: {_to_diagnose(run)}"


def _probed(run: Path, diagnosis: dict[str, Any] | None) -> list[Html]:
    """What changes when what is read changes."""
    if diagnosis is None:
        return [html.paragraph(f"Noise, order, self-knowledge: {_to_diagnose(run)}", "dim")]
    questions = counted(diagnosis["questions"], f"{diagnosis['split']} questions")
    title = html.heading(f"What changes when something else is read ({questions})", 3)
    return [title, html.table(probe_table(diagnosis)), html.paragraph(NOTE, "dim")]


def _validation(run: Path) -> list[Html]:
    """What the validation questions say: never beside what is reported."""
    title, table = validation_table(run)
    return [html.heading(title), html.table(table), html.paragraph(NOTES["validation"], "dim")]


def _curves(panels: Sequence[Panel]) -> Html:
    """A picture a panel, so that a phone shows them below one another."""
    pictures = (
        html.picture(render([panel], "", "svg", small=True), f"curves: {panel.title}") for panel in panels
    )
    return html.side_by_side(map(html.framed, pictures)) if panels else Html("")


def _studies(run: Path) -> list[Html]:
    """The studies beside the run; one that cannot be read is named with what is wrong."""
    folders = studies_beside(run)
    parts = [html.heading("Studies")] if folders else []
    for folder in folders:
        parts.append(html.heading(folder.name, 3))
        try:
            parts.append(study_section(folder))
        except RagdroError as error:
            parts.append(html.paragraph(f"unreadable: {error}", "bad"))
    return parts


def _environment(run: Path) -> Html:
    environment = read_json(run / ENVIRONMENT) if (run / ENVIRONMENT).is_file() else {}
    return html.code("\n".join(f"{key}: {value}" for key, value in environment.items()) or "none was kept")
