"""A finished run's folder as the evidence of its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragdro.algorithms.base import algorithm_of
from ragdro.config import Config
from ragdro.evaluation.evidence import Evidence
from ragdro.evaluation.verdict import Verdict, verdict
from ragdro.report.history import History, iteration_of, read_history
from ragdro.report.predictions import read_records
from ragdro.runs.status import read_results


def judge(run: Path) -> Verdict:
    """The verdict of a finished run. Raises `DataError` for one that has not finished, or whose files are
    damaged."""
    return verdict(read_evidence(run))


def read_evidence(run: Path) -> Evidence:
    """What the verdict is made from. Raises `DataError` as `judge` does."""
    results, history = read_results(run), read_history(run)
    config, best = history.config, results["best"]["iteration"]
    training, held_out = last_pair(history)
    samples = drawn_by(training, history)
    metric = config.evaluation.metric
    return Evidence(
        metric="exact_match" if metric == "bound" else metric,
        split=history.split,
        vanilla=read_records(run, "vanilla_rag"),
        warm_up=read_records(run, "warm_up"),
        best=read_records(run, best_stage(results)),
        iterations=history.iterations(),
        planned=config.iterations,
        best_iteration=best,
        samples=samples,
        held_out_samples=held_out_samples(history) or samples,
        candidates=config.top_n,
        selected=_chosen_at_once(config),
        selects=algorithm_of(config).selects,
        training=training,
        held_out=held_out,
        fitted=results["best"],
        cut=_cut(history),
        skipped_updates=len(history.curve("bad_batch", "step")),
    )


def last_pair(history: History) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last E-step and what was measured of validation questions just before it, by the same models.

    Where no E-step comes after a stage that was measured: the last one, and nothing.
    """
    measured = {iteration_of(r["stage"]): r for r in history.evaluations(history.chosen_by)}
    e_steps = [record for record in history.records if record["event"] == "e_step"]
    for record in reversed(e_steps):
        before = measured.get(iteration_of(record["stage"]) - 1)
        if before is not None:
            return record, before
    return (e_steps[-1], {}) if e_steps else ({}, {})


def last_e_step(history: History) -> dict[str, Any]:
    """What the last E-step said; nothing before the first."""
    return next((r for r in reversed(history.records) if r["event"] == "e_step"), {})


def drawn_by(e_step: dict[str, Any], history: History) -> int:
    """How many lists of a question an E-step weighted: what it drew and replayed, or all that there are."""
    return int(e_step.get("samples", history.config.e_step.samples))


def held_out_samples(history: History) -> int | None:
    """How many lists of a validation question were drawn; None where an objective draws none."""
    draws = algorithm_of(history.config).draws_lists
    return history.config.evaluation.samples if draws else None


def best_stage(results: dict[str, Any]) -> str:
    """The name of the best stage's files."""
    best = results["best"]["iteration"]
    return f"iteration-{best}" if best else "warm_up"


def _chosen_at_once(config: Config) -> int:
    """How many passages one draw chooses: K, or one where passages are independent of one another."""
    return 1 if algorithm_of(config).independent else config.selector.k


def _cut(history: History) -> dict[str, float]:
    return {key: value for key, value in history.start.items() if key.endswith("_tokens")}
