"""One search against two, on the embedded world that has to be asked twice.

    python reproductions/far.py OUT [--variants one two "two, rewriter frozen" ...] [--seeds 0 1 2]

Each variant trains selector, generator and rewriter in memory, from the embedded base. All read three
passages: *one* selects them from one search, *two* two from the first and one from the second; *stop* may
also end after the first. "X frozen" leaves X as the warm-up made it; *brief* warms the rewriter up for 0.6
epochs in place of one, after which it rarely asks for what is missing; *taught* teaches the selector to find
the first passage before the loop, and the rewriter for 0.7 epochs: in the loop, 8 paths of each of 128
questions, only the rewriter is trained, and "taught, frozen" is where it begins; "all trained" trains the
three, "rewriter frozen" the two others. Measured on the test
questions with the best iteration's weights (*taught*: the last one's): exact match by hops, all gold passages
read, the fraction of two-hop questions whose written query names the entity that is missing, searches a
question, and the process's own seconds. OUT keeps a file a variant and seed; what was trained with the same
settings is not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import ragdro
from ragdro.algorithms import Dro
from ragdro.config import EStep, Evaluation, MStep, Optimisation, TrainingSettings, WarmUp
from ragdro.config.retrieval import Retrieval
from ragdro.evaluation.evaluate import evaluate
from ragdro.evaluation.significance import student_interval
from ragdro.files import write_atomically
from ragdro.retrieval.queries import as_find
from ragdro.rewriting.asking import Asking
from ragdro.sources import resolve
from ragdro.system import Rag, as_retrieve
from ragdro.training.tasks import tasks_of
from ragdro.types import Prediction, Question

TOP_N = 20
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
COLUMNS = ("two_hop", "one_hop", "full_recall", "named", "searches", "seconds")


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
            questions=52,
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
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"| mean of {len(options.seeds)} | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for variant in options.variants:
        rows = [measured(variant, seed, options) for seed in options.seeds]
        cells = [shown([row[column] for row in rows if row[column] is not None]) for column in COLUMNS]
        print(f"| {variant} | {' | '.join(cells)} |", flush=True)


def shown(values: Sequence[float]) -> str:
    """A mean, with its interval over seeds where there are several."""
    if len(values) < 2:
        return f"{values[0]:.3f}" if values else "–"
    interval = student_interval(values)
    return f"{interval.mean:.3f} ± {interval.high - interval.mean:.3f}"


def measured(variant: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The variant's row: what its file says, or a training."""
    path: Path = options.out / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}.json"
    given = settings(variant, seed, options.iterations)
    asked = {"settings": given.model_dump(mode="json"), "questions": options.questions}
    if path.is_file():
        row: dict[str, Any] = json.loads(path.read_text())
        if row["asked"] == asked:
            return row
    warm = None
    if "taught" in variant:
        warm = options.out / f"taught-{seed}.pt"
        if given.iterations:
            measured("two, taught, frozen", seed, options)
    row = {**trained(given, options.questions, warm), "asked": asked}
    write_atomically(path, json.dumps(row, indent=1) + "\n")
    return row


def trained(given: TrainingSettings, most: int | None, warm: Path | None = None) -> dict[str, Any]:
    """Train on the world and measure on its test questions. `seconds` are the process's own. `warm`: the file
    of a warm-up's weights, which a training of no iterations writes and others begin with; these measure no
    validation questions."""
    torch.manual_seed(given.seed)
    begun, rounds = time.process_time(), given.retrieval.rounds
    texts: dict[str, int] = {"question_tokens": 48, "passage_tokens": 24}
    selector = ragdro.Selector.from_pretrained("tiny:base", k=3, n=TOP_N, prompt="tiny-selector", **texts)
    generator = ragdro.Generator.from_pretrained(
        "tiny:base", answer_tokens=6, prompt="tiny-generator", **texts
    )
    rewriter = ragdro.Rewriter.from_pretrained("tiny:base", query_tokens=5, prompt="tiny-rewriter", **texts)
    retriever = ragdro.retriever_over(ragdro.read_corpus(resolve("tiny:far-corpus")))
    questions = {
        split: ragdro.load_questions(resolve(f"tiny:far-{split}"))[:most]
        for split in ("train", "validation", "test")
    }
    models = [part.model.hf for part in (selector, generator, rewriter)]
    if warm is not None and given.iterations:
        for model, weights in zip(models, torch.load(warm), strict=True):
            model.load_state_dict(weights)
    results = ragdro.train(
        selector,
        generator,
        questions["train"],
        validation=questions["validation"] if warm is None else (),
        algorithm=Dro(samples=given.e_step.samples),
        retriever=retriever,
        rewriter=rewriter if rounds > 1 else None,
        top_n=TOP_N,
        settings=given,
    )
    if warm is not None and not given.iterations:
        torch.save([model.state_dict() for model in models], warm)
    asking = Asking(rewriter, as_find(retriever), given.retrieval, selector) if rounds > 1 else None
    rag = Rag(selector, generator, as_retrieve(retriever, TOP_N), 4096, asking=asking)
    predictions = rag.predict(tasks_of(questions["test"], rag.retrieve, TOP_N) or [])
    return {**scores(predictions), "seconds": time.process_time() - begun, "validation": results}


def scores(predictions: Sequence[Prediction]) -> dict[str, float | None]:
    """Means over the questions."""
    records = [evaluate(one) for one in predictions]
    of_hops = {h: [r["exact_match"] for r in records if r["hops"] == h] for h in (1, 2)}
    named = [asks_for_it(one) for one in predictions if one.task.question.hops == 2]
    return {
        "two_hop": sum(of_hops[2]) / len(of_hops[2]),
        "one_hop": sum(of_hops[1]) / len(of_hops[1]),
        "full_recall": sum(r["full_recall"] for r in records) / len(records),
        "named": sum(named) / len(named) if any(one.selection.path for one in predictions) else None,
        "searches": sum(map(searches, predictions)) / len(predictions),
    }


def searches(prediction: Prediction) -> int:
    """How many queries were searched for."""
    path = prediction.selection.path
    return 1 if path is None else sum(bool(one.candidates.passages) for one in path.rounds)


def asks_for_it(prediction: Prediction) -> bool:
    """Whether the written query names the second passage's entity."""
    path, question = prediction.selection.path, prediction.task.question
    written = path.rounds[1].query.split() if path is not None and len(path.rounds) > 1 else []
    return name_of(question) in written


def name_of(question: Question) -> str:
    """The entity of a two-hop question."""
    return question.gold_passages[-1].title


if __name__ == "__main__":
    main()
