"""`ragdro report RUN`: everything about a run on one page that opens from disk (RUN/report.html).

In: a finished run's folder, and the studies beside it (`../studies`). Out: HTML with the run's metrics,
curves, comparisons, changed answers, studies and configuration. Text of data and models has no meaning in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragdro.errors import RagdroError
from ragdro.evaluation.compare import compare
from ragdro.evaluation.significance import Interval
from ragdro.files import write_atomically
from ragdro.progress import duration
from ragdro.report import html
from ragdro.report.changes import EXAMPLES, Change, Record, find_changes
from ragdro.report.figures import curves_title, run_panels
from ragdro.report.history import read_history
from ragdro.report.html import Html
from ragdro.report.plot import Panel, Series, render
from ragdro.report.studies import studies_beside, study_section
from ragdro.report.table import Table
from ragdro.report.tables import LEGEND, results_table
from ragdro.runs.status import CONFIG, read_json, read_results

PAGE = "report.html"


def write_report(run: Path) -> Path:
    """Write RUN/report.html and return its path. Raises `DataError` for a run that has not finished."""
    page = html.page(f"Run {run.resolve().name}", _sections(run))
    path = run / PAGE
    write_atomically(path, page)
    return path


def _sections(run: Path) -> list[Html]:
    return [
        _summary(run),
        html.heading("Metrics"),
        html.table(results_table(run)),
        html.paragraph(LEGEND, "dim"),
        html.heading("Curves"),
        _curves(run_panels(run), curves_title(run)),
        _losses(run),
        html.heading("Before and after, question by question"),
        html.table(_compared(run)),
        html.paragraph("Paired bootstrap over questions, paired permutation test.", "dim"),
        *_changed(run),
        *_studies(run),
        html.heading("Configuration"),
        html.folded("config.yaml", html.code((run / CONFIG).read_text(encoding="utf-8"))),
        html.folded("environment.json", _environment(run)),
    ]


def _summary(run: Path) -> Html:
    results, history = read_results(run), read_history(run)
    best = results["best"]
    skipped = len(history.curve("bad_batch", "step"))
    lines = [
        f"{history.iterations()} iterations in {duration(history.seconds())}; best on the validation"
        f" questions: {'iteration ' + str(best['iteration']) if best['iteration'] else 'the warm-up'}",
        f"objective {history.config.objective.kind}, {history.config.e_step.samples} samples a question,"
        f" K = {history.config.selector.k} of N = {history.config.top_n}, seed {history.config.seed}",
    ]
    if skipped:
        lines.append(f"{skipped} updates were skipped: a loss or gradient was not finite (bad_batches/)")
    return html.items(html.escaped(line) for line in lines)


def _curves(panels: Sequence[Panel], title: str) -> Html:
    """A picture a panel, so that a phone shows them below one another."""
    return html.side_by_side(
        html.picture(render([panel], title, "svg"), f"curves: {panel.title}") for panel in panels
    )


def _losses(run: Path) -> Html:
    """Both models' losses, update by update."""
    history = read_history(run)
    panels = []
    for role in ("selector", "generator"):
        losses = history.curve("update", "loss", role=role)
        if losses:
            points = tuple((float(update), loss) for update, loss in enumerate(losses, start=1))
            panels.append(Panel(f"{role}'s loss", "update", "nats a question", (Series("loss", points),)))
    return _curves(panels, "warm-up and iterations, one after another") if panels else Html("")


def _compared(run: Path) -> Table:
    """The best iteration against vanilla RAG and the warm-up."""
    best = read_results(run)["best"]["iteration"]
    after = run / f"predictions-{f'iteration-{best}' if best else 'warm_up'}.jsonl"
    rows: list[tuple[str | float | Interval, ...]] = []
    for label, stage in (("vanilla RAG", "vanilla_rag"), ("the warm-up", "warm_up")):
        before = run / f"predictions-{stage}.jsonl"
        for entry in compare(before, after, np.random.default_rng(0), resamples=2000):
            metrics = (entry.first, entry.second, entry.difference, f"{entry.p_value:.4f}")
            rows.append((f"best against {label}: {entry.metric.replace('_', ' ')}", *metrics))
    return Table(("", "before", "after", "difference", "p"), tuple(rows))


def _changed(run: Path) -> list[Html]:
    changes = find_changes(run)
    parts = [html.heading("Answers that changed")]
    for title, group in changes.groups:
        parts.append(html.heading(f"{title} ({len(group)} of {changes.questions})", 3))
        parts += [_example(change) for change in group[:EXAMPLES]]
        if len(group) > EXAMPLES:
            parts.append(html.paragraph(f"and {len(group) - EXAMPLES} more", "dim"))
    return parts


def _example(change: Change) -> Html:
    gold = " / ".join(change.before["answers"])
    first = f"at {change.between}" if change.between else "before"
    inner = [
        html.paragraph(f"gold answer: {gold}"),
        _read(first, change.before),
        _read("after", change.after),
    ]
    answered = f"{change.before['answer'] or '(nothing)'} → {change.after['answer'] or '(nothing)'}"
    return html.folded(f"{change.before.get('question', '')} {answered}", html.join(inner))


def _read(label: str, record: Record) -> Html:
    """An answer and the passages that it was read from."""
    verdict = html.inline("right", "good") if record["exact_match"] else html.inline("wrong", "bad")
    passages = []
    for entry in record.get("selection", []):
        probability = "" if entry["probability"] is None else f", p {entry['probability']:.2f}"
        place = html.inline(f"[{entry['rank_in_candidates']}{probability}] {entry['title']}:", "dim")
        passages.append(html.join([place, Html(" "), html.escaped(entry["text"])]))
    said = html.join([html.escaped(f"{label}: {record['answer']} ("), verdict, Html("), read from")])
    return html.join([Html(f"<p>{said}</p>\n"), html.items(passages, "read", ordered=True)])


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
    environment = read_json(run / "environment.json") if (run / "environment.json").is_file() else {}
    return html.code("\n".join(f"{key}: {value}" for key, value in environment.items()) or "none was kept")
