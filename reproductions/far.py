"""One search against two, on the embedded world that has to be asked twice.

    python reproductions/far.py OUT [--variants one two "two, rewriter frozen" ...] [--seeds 0 1 2]
        [--answering marginal joint]

Each variant trains selector, generator and rewriter in memory, from the embedded base. All read three
passages: *one* selects them from one search, *two* two from the first and one from the second; *stop* may
also end after the first. "X frozen" leaves X as the warm-up made it; *brief* warms the rewriter up for 0.6
epochs in place of one, after which it rarely asks for what is missing; *taught* teaches the selector to find
the first passage before the loop, and the rewriter for 0.7 epochs: in the loop, 8 paths of each of 128
questions, only the rewriter is trained, and "taught, frozen" is where it begins; "all trained" trains the
three, "rewriter frozen" the two others. Measured on the test
questions with the best iteration's weights (*taught*: the last one's): exact match by hops, all gold passages
read, the fraction of two-hop questions whose written query names the entity that is missing, searches a
question, and the process's own seconds. OUT keeps a file a variant and seed, and the weights beside it; what
was trained with the same settings is not trained again. `--answering` answers the test questions once more
from the greedy path and 8 drawn ones: a row a way, and what it has more than the greedy path's, by seed; of
marginal answers also what their confidence is worth beside the likelihood of the greedy path's answer.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from far_world import TOP_N, World, scores
from kept import kept

import ragdro
from ragdro.algorithms import Dro
from ragdro.config import Answering, EStep, Evaluation, MStep, Optimisation, TrainingSettings, WarmUp
from ragdro.config.answering import AnsweringKind
from ragdro.config.retrieval import Retrieval
from ragdro.evaluation.answering import compare_ways
from ragdro.evaluation.significance import student_interval
from ragdro.files import write_atomically

ONE = Retrieval(rounds=1)
TWO = Retrieval(rounds=2, k=(2, 1))
STOP = Retrieval(rounds=2, k=(2, 1), stop=True)
BRIEF = 0.6
"""Epochs of a warm-up of the rewriter that leaves it something to learn."""
TAUGHT = 0.7
"""The same, of a warm-up that teaches the selector too."""
VARIANTS: dict[str, tuple[Retrieval, dict[str, bool]]] = {
    "one": (ONE, {}),
    "two": (TWO, {}),
    "two, stop": (STOP, {}),
    **{
        f"two, {role} frozen": (TWO, {f"train_{role}": False})
        for role in ("rewriter", "selector", "generator")
    },
    "two, brief": (TWO, {}),
    "two, brief, rewriter frozen": (TWO, {"train_rewriter": False}),
    "two, taught, frozen": (TWO, {"train_selector": False, "train_generator": False}),
    "two, taught": (TWO, {"train_selector": False, "train_generator": False}),
    "two, taught, all trained": (TWO, {}),
    "two, taught, rewriter frozen": (TWO, {"train_rewriter": False}),
}
SAMPLES = 8
"""Paths that other than greedy answers draw."""
COLUMNS = ("two_hop", "one_hop", "full_recall", "named", "searches", "seconds")
CONFIDENCE = ("exact_match", "risk_coverage_area", "best_risk_coverage_area", "calibration_error", "brier")
Confidences: TypeAlias = Mapping[str, Mapping[str, float]]
"""Of each way of answering, these."""


def fit(rate: float, epochs: float = 1.0) -> Optimisation:
    """How a model of the base's size is fitted."""
    return Optimisation(
        learning_rate=rate, epochs=epochs, batch_size=16, beta2=0.98, max_tokens_per_micro_batch=4096
    )


def settings(variant: str, seed: int, iterations: int | None) -> TrainingSettings:
    """The variant's. The warm-up is gentle: it teaches to read and roughly to ask, and not to select, unless
    it is *taught*."""
    retrieval, frozen = VARIANTS[variant]
    taught = "taught" in variant
    epochs = TAUGHT if taught else BRIEF if "brief" in variant else 1.0
    selected = fit(2e-4, 0.5) if taught else None
    samples, questions = (8, 128) if taught else (4, 64)
    begun = WarmUp(selector=selected, generator=fit(3e-4), rewriter=fit(2e-4, epochs), teacher="gold")
    if variant == "two, taught, frozen":
        iterations = 0
    elif taught:  # begins with that one's weights
        begun = WarmUp(selector=None, generator=None, rewriter=None)
    if iterations is None:
        iterations = 2 if taught else 4
    return TrainingSettings(
        seed=seed,
        iterations=iterations,
        patience=None,
        retrieval=retrieval,
        warm_up=begun,
        e_step=EStep(samples=samples, questions=questions, max_tokens_per_micro_batch=4096),
        m_step=MStep(selector=fit(1e-4), generator=fit(2e-4), rewriter=fit(3e-4, 3 if taught else 1)),
        evaluation=Evaluation(
            samples=2,
            tight_samples=None,
            every=max(1, iterations),
            max_tokens_per_micro_batch=4096,
        ),
        **frozen,
    )


def main() -> None:
    """Train what is not there yet and print a row a variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--iterations", type=int, default=None, help="default: the variant's")
    parser.add_argument("--questions", type=int, default=None, help="most questions of a split: a quick look")
    parser.add_argument("--answering", nargs="*", default=[], choices=["marginal", "joint"])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"| mean of {len(options.seeds)} | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    confidences: list[tuple[str, Sequence[Confidences]]] = []
    for variant in options.variants:
        rows = [measured(variant, seed, options) for seed in options.seeds]
        show(variant, rows)
        for kind in options.answering:
            other = [answered(variant, seed, kind, options) for seed in options.seeds]
            show(f"{variant}: {kind}", other)
            show(f"{variant}: {kind} less greedy", [*map(less, other, rows)])
            if kind == "marginal":
                confidences.append((variant, [row["confidence"] for row in other]))
    show_confidences(confidences)


def less(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    """The differences of two rows."""
    return {c: None if None in (one[c], other[c]) else one[c] - other[c] for c in COLUMNS}


def show(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a row of the table: the mean over the seeds' `rows`."""
    cells = [shown([row[column] for row in rows if row[column] is not None]) for column in COLUMNS]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def show_confidences(variants: Sequence[tuple[str, Sequence[Confidences]]]) -> None:
    """Print what the confidence of either way of answering is worth, and the difference by seed."""
    if variants:
        print(f"\n| confidence | {' | '.join(CONFIDENCE)} |\n|---|{'---|' * len(CONFIDENCE)}")
    for variant, seeds in variants:
        greedy, marginal = ([seed[way] for seed in seeds] for way in ("greedy", "marginal"))
        both = list(zip(greedy, marginal, strict=True))
        by_row = {
            "greedy": greedy,
            "marginal": marginal,
            "marginal less greedy": [{c: other[c] - one[c] for c in CONFIDENCE} for one, other in both],
        }
        for name, rows in by_row.items():
            cells = [shown([row[column] for row in rows]) for column in CONFIDENCE]
            print(f"| {variant}: {name} | {' | '.join(cells)} |", flush=True)


def shown(values: Sequence[float]) -> str:
    """A mean, with its interval over seeds where there are several."""
    if len(values) < 2:
        return f"{values[0]:.3f}" if values else "–"
    interval = student_interval(values)
    return f"{interval.mean:.3f} ± {interval.high - interval.mean:.3f}"


def measured(variant: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The variant's row: what its file says, or a training."""
    path = file_of(variant, seed, options)
    given = settings(variant, seed, options.iterations)
    asked = {"settings": given.model_dump(mode="json"), "questions": options.questions}

    def train() -> dict[str, Any]:
        warm = None
        if "taught" in variant:
            warm = options.out / f"taught-{seed}.pt"
            if given.iterations:
                measured("two, taught, frozen", seed, options)
        return trained(given, options.questions, warm, path.with_suffix(".pt"))

    return kept(path, asked, train)


def file_of(variant: str, seed: int, options: argparse.Namespace) -> Path:
    """Where the row is kept; beside it the weights, `.pt`."""
    out: Path = options.out
    return out / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}.json"


def answered(variant: str, seed: int, kind: AnsweringKind, options: argparse.Namespace) -> dict[str, Any]:
    """The row of another way of answering with a measured variant's weights; `seconds` of answering alone."""
    path = file_of(variant, seed, options)
    row: dict[str, Any] = json.loads(path.read_text())
    known: dict[str, dict[str, Any]] = row.setdefault("answering", {})
    if kind not in known or (kind == "marginal" and "confidence" not in known[kind]):
        world, begun = World(options.questions), time.process_time()
        world.load(path.with_suffix(".pt"))
        rag, tasks = world.rag(VARIANTS[variant][0]), world.tasks
        predictions = rag.predict(tasks, answering=Answering(kind=kind, samples=SAMPLES))
        known[kind] = {**scores(predictions), "seconds": time.process_time() - begun}
        if kind == "marginal":
            greedy = rag.predict(tasks)
            ways = compare_ways(greedy, rag.likelihoods(greedy), predictions)
            known[kind]["confidence"] = {
                way: {column: ways[way][column] for column in CONFIDENCE} for way in ("greedy", "marginal")
            }
        write_atomically(path, json.dumps(row, indent=1) + "\n")
    return known[kind]


def trained(
    given: TrainingSettings, most: int | None, warm: Path | None = None, kept: Path | None = None
) -> dict[str, Any]:
    """Train on the world and measure on its test questions. `seconds` are the process's own. `warm`: the file
    of a warm-up's weights, which a training of no iterations writes and others begin with; these measure no
    validation questions. `kept`: where the weights that were measured go."""
    torch.manual_seed(given.seed)
    begun, world = time.process_time(), World(most)
    if warm is not None and given.iterations:
        world.load(warm)
    results = ragdro.train(
        world.selector,
        world.generator,
        world.questions["train"],
        validation=world.questions["validation"] if warm is None else (),
        algorithm=Dro(samples=given.e_step.samples),
        retriever=world.retriever,
        rewriter=world.rewriter if given.retrieval.rounds > 1 else None,
        top_n=TOP_N,
        settings=given,
    )
    if warm is not None and not given.iterations:
        world.save(warm)
    if kept is not None:
        world.save(kept)
    predictions = world.rag(given.retrieval).predict(world.tasks)
    return {**scores(predictions), "seconds": time.process_time() - begun, "validation": results}


if __name__ == "__main__":
    main()
