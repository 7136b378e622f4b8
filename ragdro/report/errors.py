"""The answers that are still wrong, all of them, to be searched; and answers as the page shows them.

In: records of predictions. Out: HTML, a folded part a question.
"""

from __future__ import annotations

from collections.abc import Sequence

from ragdro.evaluation.diagnosis import Record, was_read
from ragdro.report import html
from ragdro.report.choices import in_words, ordinal
from ragdro.report.html import Html
from ragdro.report.paths import further_queries, path, thought_of

NOT_FOUND = "not among the candidates"
NOT_SELECTED = "among the candidates, not selected"
READ = "read, answered wrong"


def errors(records: Sequence[Record]) -> Html:
    """Every wrong answer, with a search and a choice of whose fault it is."""
    wrong = [record for record in records if not record["exact_match"]]
    if not wrong:
        return html.paragraph("None.")
    sorts = [sort for sort in (NOT_FOUND, NOT_SELECTED, READ) if any(fault(r) == sort for r in wrong)]
    return html.searched(html.join(map(_error, wrong)), sorts)


def fault(record: Record) -> str:
    """Where a wrong answer went wrong. What is needed is all gold passages where they are labelled, else a
    passage that holds a gold answer."""
    if was_read(record):
        return READ
    labelled = record.get("gold_in_candidates")
    held = record.get("answer_in_candidates") if labelled is None else labelled
    return NOT_FOUND if held == 0 else NOT_SELECTED


def _error(record: Record) -> Html:
    summary = html.join(
        [
            html.escaped(str(record.get("question", record["id"]))),
            Html(" "),
            html.inline(_said(record), "said bad"),
            Html(" not "),
            html.escaped(gold(record)),
            Html(" "),
            html.inline(fault(record), "tag"),
            *_further(record),
        ]
    )
    return html.folded(summary, read(record), sort=fault(record))


def _further(record: Record) -> list[Html]:
    return [
        part
        for query in further_queries(record)
        for part in (Html(" "), html.inline(f"then asked: {query}", "dim"))
    ]


def gold(record: Record) -> str:
    """The gold answers."""
    return " / ".join(record["answers"])


def _said(record: Record) -> str:
    return str(record["answer"]).strip() or "(nothing)"


def answered(label: str, record: Record) -> Html:
    """An answer, whether it is right, and the passages that it was read from."""
    verdict = html.inline("right", "good") if record["exact_match"] else html.inline("wrong", "bad")
    said = html.join([html.escaped(f"{label}: {_said(record)}"), Html(" ("), verdict, Html("), read from")])
    return html.join([Html(f"<p>{said}</p>\n"), read(record)])


def read(record: Record) -> Html:
    """The passages in the order read, each with the probability of its choice in words; round by round where
    the question was asked more than once. Below them what was thought of them, where a thought came first."""
    thought = thought_of(record)
    thoughts = [] if thought is None else [html.paragraph(f"thought: {thought}")]
    return html.join([path(record) if "path" in record else _passages(record), *thoughts])


def _passages(record: Record) -> Html:
    passages = []
    for place, entry in enumerate(record.get("selection", [])):
        said = [
            in_words(record, place, entry),
            f"{ordinal(entry['rank_in_candidates'])} of the retriever",
        ]
        title = f"{entry['title']}: " if entry["title"] else ""
        note = html.inline(f"({'; '.join(filter(None, said))})", "dim")
        text = [html.inline(title, "said"), Html(" "), html.escaped(entry["text"]), Html(" "), note]
        passages.append(html.join(text))
    return html.items(passages, "read", ordered=True)
