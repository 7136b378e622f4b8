"""Sections of a run's page that say where answers go wrong and how the fit went.

In: a finished run's folder. Out: HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragdro.evaluation.compare import compare
from ragdro.evaluation.diagnosis import Record, ceiling, faults, mean
from ragdro.evaluation.significance import Interval
from ragdro.report import html
from ragdro.report.changes import EXAMPLES, Change, find_changes
from ragdro.report.errors import answered, gold
from ragdro.report.evidence import best_stage, drawn_by, held_out_samples
from ragdro.report.history import History, iteration_of
from ragdro.report.html import Html
from ragdro.report.table import Table
from ragdro.runs.status import read_results
from ragdro.training.lights import SIGNS, Colour, Light, lights
from ragdro.units import counted

_KINDS: dict[Colour, str] = {"green": "good", "yellow": "warn", "red": "bad"}


def whose_fault(records: Sequence[Record], split: str) -> list[Html]:
    """Read or not by right or wrong, by hops; context use, K-precision, the ceiling."""
    rows = []
    for kind in faults(records):
        numbers = (kind.read_right, kind.read_wrong, kind.unread_right, kind.unread_wrong)
        rows.append((kind.label, kind.questions, *numbers, kind.context_use, kind.right_unread))
    columns = (
        f"{split} questions", "number", "read, right", "read, wrong", "not read, right", "not read, wrong",
        "right of those read", "right of the others",
    )  # fmt: skip
    others = Table(
        (f"of {counted(len(records), f'{split} questions')}", ""),
        (
            ("ceiling: the candidates hold what is needed", ceiling(records)),
            ("an answer is among the candidates", mean([r.get("answer_in_candidates") for r in records])),
            ("an answer is in a passage read", mean([r.get("answer_read") for r in records])),
            (
                "K-precision: words of the answer that were read",
                mean([r.get("k_precision") for r in records]),
            ),
        ),
    )
    labelled = any(r.get("full_recall") is not None for r in records)
    needed = "all gold passages of a question" if labelled else "a passage that holds a gold answer"
    return [
        html.table(Table(columns, tuple(rows))),
        html.paragraph(
            f"Read: {needed} (as far as the token limits let it be read). Counts of questions.", "dim"
        ),
        html.table(others),
    ]


def light_rows(history: History) -> list[Html]:
    """A row of lights an iteration."""
    measured = {iteration_of(r["stage"]): r for r in history.evaluations(history.chosen_by)}
    rows: list[tuple[str, dict[str, Light]]] = []
    for record in (r for r in history.records if r["event"] == "e_step" and "distinct_fraction" in r):
        before = measured.get(iteration_of(record["stage"]) - 1)
        samples = drawn_by(record, history)
        row = {x.name: x for x in lights(samples, record, before, held_out_samples(history))}
        rows.append((record["stage"].replace("-", " "), row))
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    if not names:
        return []
    cells = ([html.escaped(stage), *(_lit(row.get(name)) for name in names)] for stage, row in rows)
    return [
        html.heading("Lights of the E-steps, on training questions"),
        html.cells(("before the M-step of", *names), cells),
        html.paragraph(f"{SIGNS['green']} fine, {SIGNS['yellow']} look, {SIGNS['red']} trouble.", "dim"),
    ]


def _lit(light: Light | None) -> Html:
    if light is None:
        return html.escaped("–")
    sign = html.inline(SIGNS[light.colour], _KINDS[light.colour])
    return html.join([html.escaped(light.value), Html(" "), sign])


def before_and_after(run: Path, split: str) -> list[Html]:
    """The best iteration against vanilla RAG and the warm-up, paired."""
    results = read_results(run)
    after = run / f"predictions-{best_stage(results)}.jsonl"
    rows: list[tuple[str | int | float | Interval, ...]] = []
    for label, stage in (("vanilla RAG", "vanilla_rag"), ("the warm-up", "warm_up")):
        before = run / f"predictions-{stage}.jsonl"
        for entry in compare(before, after, np.random.default_rng(0), resamples=2000):
            metrics = (entry.questions, entry.first, entry.second, entry.difference, f"{entry.p_value:.4f}")
            rows.append((f"best against {label}: {entry.metric.replace('_', ' ')}", *metrics))
    columns = ("", f"{split} questions", "before", "after", "difference", "p")
    note = "± half of the 95 % paired bootstrap interval over the questions; p of a paired permutation test."
    return [html.table(Table(columns, tuple(rows))), html.paragraph(note, "dim")]


def changed(run: Path) -> list[Html]:
    """Answers that changed, as examples."""
    changes = find_changes(run)
    parts = []
    for title, group in changes.groups:
        parts.append(html.heading(f"{title} ({len(group)} of {changes.questions})", 3))
        parts += [_example(change) for change in group[:EXAMPLES]]
        if len(group) > EXAMPLES:
            parts.append(html.paragraph(f"and {len(group) - EXAMPLES} more", "dim"))
    return parts


def _example(change: Change) -> Html:
    first = f"at {change.between}" if change.between else "after the warm-up"
    inner = [
        html.paragraph(f"gold answer: {gold(change.before)}"),
        answered(first, change.before),
        answered("then", change.after),
    ]
    said = f"{change.before['answer'] or '(nothing)'} → {change.after['answer'] or '(nothing)'}"
    summary = [html.escaped(change.before.get("question", "")), Html(" "), html.inline(said, "said")]
    return html.folded(html.join(summary), html.join(inner))
