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
from the greedy path and 8 drawn ones: a row a way, and what it has more than the greedy path's, by seed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import ragdro
from ragdro.algorithms import Dro
from ragdro.config import Answering, EStep, Evaluation, MStep, Optimisation, TrainingSettings, WarmUp
from ragdro.config.answering import AnsweringKind
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
SAMPLES = 8
"""Paths that other than greedy answers draw."""
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
    for variant in options.variants:
        rows = [measured(variant, seed, options) for seed in options.seeds]
        show(variant, rows)
        for kind in options.answering:
            other = [answered(variant, seed, kind, options) for seed in options.seeds]
            show(f"{variant}: {kind}", other)
            show(f"{variant}: {kind} less greedy", [*map(less, other, rows)])


def less(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    """The differences of two rows."""
    return {c: None if None in (one[c], other[c]) else one[c] - other[c] for c in COLUMNS}


def show(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a row of the table: the mean over the seeds' `rows`."""
    cells = [shown([row[column] for row in rows if row[column] is not None]) for column in COLUMNS]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


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
    if path.is_file():
        row: dict[str, Any] = json.loads(path.read_text())
        if row["asked"] == asked:
            return row
    warm = None
    if "taught" in variant:
        warm = options.out / f"taught-{seed}.pt"
        if given.iterations:
            measured("two, taught, frozen", seed, options)
    row = {**trained(given, options.questions, warm, path.with_suffix(".pt")), "asked": asked}
    write_atomically(path, json.dumps(row, indent=1) + "\n")
    return row


def file_of(variant: str, seed: int, options: argparse.Namespace) -> Path:
    """Where the row is kept; beside it the weights, `.pt`."""
    out: Path = options.out
    return out / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}.json"


def answered(
    variant: str, seed: int, kind: AnsweringKind, options: argparse.Namespace
) -> dict[str, float | None]:
    """The row of another way of answering with a measured variant's weights; `seconds` of answering alone."""
    path = file_of(variant, seed, options)
    row: dict[str, Any] = json.loads(path.read_text())
    known: dict[str, dict[str, float | None]] = row.setdefault("answering", {})
    if kind not in known:
        world, begun = World(options.questions), time.process_time()
        world.load(path.with_suffix(".pt"))
        predictions = world.predictions(VARIANTS[variant][0], Answering(kind=kind, samples=SAMPLES))
        known[kind] = {**scores(predictions), "seconds": time.process_time() - begun}
        write_atomically(path, json.dumps(row, indent=1) + "\n")
    return known[kind]


class World:
    """The models, each from the embedded base, the corpus's retriever and the first `most` questions of each
    split (None: all)."""

    def __init__(self, most: int | None) -> None:
        texts: dict[str, int] = {"question_tokens": 48, "passage_tokens": 24}
        base = "tiny:base"
        self.selector = ragdro.Selector.from_pretrained(base, k=3, n=TOP_N, prompt="tiny-selector", **texts)
        self.generator = ragdro.Generator.from_pretrained(
            base, answer_tokens=6, prompt="tiny-generator", **texts
        )
        self.rewriter = ragdro.Rewriter.from_pretrained(base, query_tokens=5, prompt="tiny-rewriter", **texts)
        self.retriever = ragdro.retriever_over(ragdro.read_corpus(resolve("tiny:far-corpus")))
        self.questions = {
            split: ragdro.load_questions(resolve(f"tiny:far-{split}"))[:most]
            for split in ("train", "validation", "test")
        }

    @property
    def models(self) -> list[torch.nn.Module]:
        """Those that are trained."""
        return [part.model.hf for part in (self.selector, self.generator, self.rewriter)]

    def load(self, path: Path) -> None:
        """The weights that `save` wrote."""
        for model, weights in zip(self.models, torch.load(path), strict=True):
            model.load_state_dict(weights)

    def save(self, path: Path) -> None:
        """The weights of all models."""
        torch.save([model.state_dict() for model in self.models], path)

    def predictions(self, retrieval: Retrieval, answering: Answering | None = None) -> list[Prediction]:
        """The test questions, answered."""
        asking = None
        if retrieval.rounds > 1:
            asking = Asking(self.rewriter, as_find(self.retriever), retrieval, self.selector)
        retrieve = as_retrieve(self.retriever, TOP_N)
        rag = Rag(self.selector, self.generator, retrieve, 4096, asking=asking)
        return rag.predict(tasks_of(self.questions["test"], retrieve, TOP_N) or [], answering=answering)


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
    predictions = world.predictions(given.retrieval)
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
