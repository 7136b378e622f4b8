"""Predictions as a person reads them: one answer with its passages, one question before and after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding

from ragdro.data.own import source_object
from ragdro.errors import DataError
from ragdro.evaluation.answering import distribution_record
from ragdro.evaluation.paths import path_record, thought_record
from ragdro.report.choices import in_words
from ragdro.report.paths import ShownRound, rounds, thought_of
from ragdro.report.plain import marked_up
from ragdro.runs.status import read_results
from ragdro.selection.rerank import RankedPassage, Reranking
from ragdro.types import Passage, Prediction, Task
from ragdro.units import counted, probability


def as_record(
    prediction: Prediction, reranking: Reranking | None = None, *, with_path: bool = False
) -> dict[str, Any]:
    """Answer (a marginal one with its confidence and what competes), the thought before it, selection (with
    the probability of each passage, `probability_of` says of what, and of being in the list at all where a
    `reranking` says it), candidates (with retrieval scores), and if asked for the rounds in which they were
    found."""
    ranked = {} if reranking is None else {passage.index: passage for passage in reranking.passages}
    candidates = prediction.task.candidates
    scores = candidates.scores or (None,) * len(candidates.passages)
    probabilities = prediction.selection.probabilities or (None,) * len(prediction.selection.permutation)
    return {
        "id": prediction.task.question.id,
        "question": prediction.task.question.question,
        "answer": prediction.answer,
        **distribution_record(prediction),
        **thought_record(prediction),
        "probability_of": prediction.selection.probability_of,
        "selection": [
            {**passage_record(p), "probability": q, **_inclusion(ranked.get(i)), "rank_in_candidates": i + 1}
            for p, q, i in zip(
                prediction.selected, probabilities, prediction.selection.permutation, strict=True
            )
        ],
        "candidates": [
            {**passage_record(p), "score": s} for p, s in zip(candidates.passages, scores, strict=True)
        ],
        **({"path": path_record(prediction)} if with_path else {}),
    }


def passage_record(passage: Passage) -> dict[str, Any]:
    """Id, title and text, and `source` where it is known which file the passage was cut from."""
    record: dict[str, Any] = {"id": passage.id, "title": passage.title, "text": passage.text}
    return record if passage.source is None else {**record, "source": source_object(passage.source)}


def print_prediction(prediction: Prediction, reranking: Reranking | None = None) -> None:
    """The answer and the passages it was read from, each with the probability of its choice and, from
    `reranking`, of being in the list at all."""
    record = as_record(prediction, reranking)
    console = Console(highlight=False)
    console.print(_headline(prediction))
    for place, (entry, passage) in enumerate(zip(record["selection"], prediction.selected, strict=True)):
        _print_passage(
            console, entry["rank_in_candidates"], f"({marked_up(_where(passage))}) ", entry["text"]
        )
        console.print(f"   {in_words(record, place, entry)}", style="dim")
    if reranking is not None:
        count = reranking.lists
        all_lists = "the only list" if count == 1 else f"all {counted(count, 'lists')}"
        lists = all_lists if reranking.exact else counted(count, "drawn lists")
        most = 3 / count
        how = (
            "exact" if reranking.exact else f"estimated, ± two standard errors (without ±: within {most:.2f})"
        )
        console.print(
            f"\\[rank]: the retriever's. In the list: of being in it at all, {how}, from {lists}.",
            style="dim",
        )


def print_path(prediction: Prediction) -> None:
    """Each round: its query, what was selected of what it found, and what else it found; the thought behind
    them. The answer is not printed."""
    console, record = Console(highlight=False), as_record(prediction, with_path=True)
    wheres = (f"({marked_up(_where(passage))})" for passage in prediction.selected)
    for one in rounds(record):
        _print_round(console, one, [next(wheres) for _ in one.choices])
        if one.others:
            others = Padding(f"found too: {marked_up(one.others)}", (0, 0, 0, 2), expand=False)
            console.print(others, style="dim")
    if prediction.selection.path is None:
        order = "" if prediction.selection.probabilities else "The retriever's order is read. "
        console.print(f"{order}The question is asked once; there is no further query.", style="dim")
    _print_thought(console, record)


def _print_thought(console: Console, record: dict[str, Any]) -> None:
    thought = thought_of(record)
    if thought is not None:
        console.print(f"thought: {marked_up(thought)}")


def _print_round(console: Console, one: ShownRound, wheres: Sequence[str]) -> None:
    note = f"  [dim]({marked_up(one.note)})[/dim]" if one.note else ""
    console.print(f"{one.label}: [bold]{marked_up(one.query)}[/bold]{note}")
    for choice, where in zip(one.choices, wheres, strict=True):
        noted = "".join(f"{part} " for part in (choice.score, where) if part)
        _print_passage(console, choice.rank, noted, choice.entry["text"])
        console.print(f"   {choice.words}", style="dim")


def _inclusion(ranked: RankedPassage | None) -> dict[str, float]:
    if ranked is None:
        return {}
    return {"inclusion": ranked.inclusion, "inclusion_error": ranked.inclusion_error}


def print_answer(prediction: Prediction) -> None:
    """The answer, and below it a line a source: number, probability, where it is from, how it begins."""
    console = Console(highlight=False)
    console.print(_headline(prediction))
    for number, p, passage in _numbered(prediction):
        line = f"  \\[{number}] {p:<6} ({marked_up(_where(passage))}) {marked_up(passage.text)}"
        console.print(line, no_wrap=True, overflow="ellipsis")


def print_sources(prediction: Prediction) -> None:
    """The passages that were read, whole."""
    console = Console(highlight=False)
    for number, p, passage in _numbered(prediction):
        console.print(f"[bold]\\[{number}][/bold] {p:<6} ({marked_up(_where(passage))})")
        console.print(f"    {marked_up(passage.text)}")


def _numbered(prediction: Prediction) -> list[tuple[int, str, Passage]]:
    """The sources with their numbers and how probable it was that they are chosen."""
    probabilities = prediction.selection.probabilities or (None,) * len(prediction.selected)
    shown = ["" if p is None else f"p {probability(p)}" for p in probabilities]
    return [
        (i + 1, p, passage) for i, (p, passage) in enumerate(zip(shown, prediction.selected, strict=True))
    ]


def print_headline(prediction: Prediction) -> None:
    """The answer, and how sure it is."""
    Console(highlight=False).print(f"answer: {_headline(prediction)}")


def _headline(prediction: Prediction) -> str:
    """The answer as rich markup, and behind it how sure it is."""
    sure = how_sure(prediction)
    return f"[bold]{marked_up(prediction.shown)}[/bold]" + (f"  {marked_up(sure)}" if sure else "")


def how_sure(prediction: Prediction) -> str:
    """Of a marginal answer its confidence, how many lists agree, and the nearest other answer."""
    distribution = prediction.distribution
    if distribution is None:
        return ""
    best, *others = distribution.answers
    answer = f"{best.answer}: " if prediction.abstained else ""
    rival = f"; next: {others[0].answer} {probability(others[0].probability)}" if others else ""
    return (
        f"({answer}p {probability(best.probability)}, lists that agree {probability(best.agreement)}{rival})"
    )


def _where(passage: Passage) -> str:
    """Where a passage is from: its file and place, else its title, else its id."""
    return str(passage.source) if passage.source is not None else passage.title or passage.id


def print_example(run: Path, tasks: Sequence[Task]) -> None:
    """A question that training put right: its candidates, and what was read and answered before and after.

    `tasks` are the questions that the run reports on.
    """
    best = read_results(run)["best"]["iteration"]
    before = read_records(run, "warm_up")
    after = read_records(run, f"iteration-{best}" if best else "warm_up")
    pairs = sorted(zip(before, after, strict=True), key=lambda pair: _gain(*pair), reverse=True)
    first, last = pairs[0]
    console = Console(highlight=False)
    gold = marked_up(" / ".join(first["answers"]))
    console.print(f"\n[bold]{marked_up(first['question'])}[/bold]  gold answer: {gold}")
    candidates = next(t.candidates for t in tasks if t.question.id == first["id"])
    console.print("\ncandidates")
    for rank, passage in enumerate(candidates.passages, start=1):
        _print_passage(console, rank, "", passage.text)
    shown = [("after the warm-up", first)]
    if best:
        shown.append((f"after iteration {best}", last))
    for label, record in shown:
        verdict = "right" if record["exact_match"] else "wrong"
        console.print(f"\n{label}: [bold]{marked_up(record['answer'])}[/bold] ({verdict}), read from")
        if "path" in record:
            for one in rounds(record):
                _print_round(console, one, [""] * len(one.choices))
        else:
            _print_selection(console, record)
        _print_thought(console, record)
    console.print()


def _print_selection(console: Console, record: dict[str, Any]) -> None:
    for place, entry in enumerate(record["selection"]):
        _print_passage(console, entry["rank_in_candidates"], "", entry["text"])
        console.print(f"   {in_words(record, place, entry)}", style="dim")


def _print_passage(console: Console, rank: int, note: str, text: str) -> None:
    line = f"  \\[{rank:>2}] {note}{marked_up(text)}"
    console.print(line, no_wrap=True, overflow="ellipsis")


def _gain(before: dict[str, Any], after: dict[str, Any]) -> tuple[float, float, int]:
    """Questions put right come first; among them, selections that became complete, then more hops."""
    complete = (after["full_recall"] or 0.0) - (before["full_recall"] or 0.0)
    return after["exact_match"] - before["exact_match"], complete, after["hops"] or 0


def read_records(run: Path, stage: str) -> list[dict[str, Any]]:
    """`predictions-STAGE.jsonl` of a run. Raises `DataError` naming the line of a damaged file."""
    path = run / f"predictions-{stage}.jsonl"
    if not path.is_file():
        raise DataError("missing: the run has not measured this stage", path=path)
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError("is not valid JSON", path=path, line=number) from error
        if not isinstance(record, dict) or not {"id", "exact_match", "answer", "answers"} <= set(record):
            raise DataError("is no prediction of a run", path=path, line=number)
        records.append(record)
    return records
