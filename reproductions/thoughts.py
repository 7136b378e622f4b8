"""A thought before the answer against none, on the embedded world's questions.

    python reproductions/thoughts.py OUT [--think 0 4] [--seeds 0 1] [--split test]

The generator reads six passages in the order that a frozen selector draws: those that the question needs
(two of most, where the first names what the second is about) and the first others that BM25 finds. Only the
generator is trained, without and with a thought of so many tokens, on the same questions, as many updates.
Measured on the split's questions behind the last iteration: exact match by hops; the fraction of thoughts
that are not empty, and of two-hop questions' thoughts that name the second passage's entity; the bound of
log p(y|x) after the warm-up and in the end; the process's own seconds. OUT keeps a file a row.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from far import fit, shown
from far_world import name_of
from kept import kept

import ragdro
from ragdro.algorithms import Dro
from ragdro.config import EStep, Evaluation, MStep, TrainingSettings, WarmUp
from ragdro.evaluation.evaluate import evaluate
from ragdro.sources import resolve
from ragdro.system import as_retrieve
from ragdro.training.callbacks import Callback
from ragdro.training.parts import TrainingParts
from ragdro.types import Candidates, Prediction, Question

READ = 6
COLUMNS = ("two_hop", "one_hop", "thinks", "names", "warm_up_bound", "bound", "seconds")


class Last(Callback):
    """What the last iteration's weights answer, before those that validate best are loaded again."""

    predictions: Sequence[Prediction] = ()

    def on_train_end(self, training: TrainingParts) -> None:
        """See `Callback`."""
        self.predictions = training.system.predict(training.validation)


def settings(seed: int) -> TrainingSettings:
    """The same with and without thoughts."""
    return TrainingSettings(
        seed=seed,
        iterations=2,
        patience=None,
        train_selector=False,
        warm_up=WarmUp(selector=None, generator=fit(3e-4, 0.5), teacher="gold"),
        e_step=EStep(samples=4, questions=96, max_tokens_per_micro_batch=4096),
        m_step=MStep(generator=fit(3e-4)),
        evaluation=Evaluation(samples=4, tight_samples=None, every=2, max_tokens_per_micro_batch=4096),
    )


def main() -> None:
    """Train what is not there yet and print a row for each length of a thought."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--think", nargs="+", type=int, default=[0, 4])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--split", choices=["validation", "test"], default="test")
    parser.add_argument("--questions", type=int, default=None, help="most questions of a split: a quick look")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"| thought | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for think in options.think:
        rows = [measured(think, seed, options) for seed in options.seeds]
        cells = [shown([row[column] for row in rows if row[column] is not None]) for column in COLUMNS]
        print(f"| {think or 'none'} | {' | '.join(cells)} |", flush=True)


def measured(think: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The row: what its file says, or a training."""
    path: Path = options.out / f"{options.split}-{think}-{seed}.json"
    asked = {"settings": settings(seed).model_dump(mode="json"), "questions": options.questions}
    asked["weights"] = "of the last iteration"  # rows of earlier versions have the best one's
    return kept(path, asked, partial(trained, think, seed, options))


def trained(think: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train the generator and measure it."""
    torch.manual_seed(seed)
    begun = time.process_time()
    texts: dict[str, int] = {"question_tokens": 48, "passage_tokens": 24}
    selector = ragdro.Selector.from_pretrained("tiny:base", k=READ, n=READ, prompt="tiny-selector", **texts)
    generator = ragdro.Generator.from_pretrained(
        "tiny:base",
        answer_tokens=6,
        prompt="tiny-thinking" if think else "tiny-generator",
        think=think,
        **texts,
    )
    retrieve = as_retrieve(ragdro.retriever_over(ragdro.read_corpus(resolve("tiny:corpus"))), 20)
    questions = {
        split: with_passages(ragdro.load_questions(resolve(f"tiny:{split}"))[: options.questions], retrieve)
        for split in ("train", options.split)
    }
    last = Last()
    results = ragdro.train(
        selector,
        generator,
        questions["train"],
        validation=questions[options.split],  # decides nothing: `last` is measured
        algorithm=Dro(samples=4),
        top_n=READ,
        settings=settings(seed),
        callbacks=[last],
    )
    bounds = {"warm_up_bound": results["warm_up"]["bound"], "bound": results["iterations"][-1]["bound"]}
    return {**scores(last.predictions), **bounds, "seconds": time.process_time() - begun}


def with_passages(questions: Sequence[Question], retrieve: Callable[..., Any]) -> list[Question]:
    """The questions with six candidates: their gold passages and others that were found, in an order of
    chance that is the same for all rows."""
    shelf = retrieve(questions)
    chosen = []
    for question, candidates in zip(questions, shelf, strict=True):
        gold = {passage.content for passage in question.gold_passages}
        others = [passage for passage in candidates.passages if passage.content not in gold]
        passages = [*question.gold_passages, *others][:READ]
        random.Random(question.id).shuffle(passages)
        chosen.append(replace(question, candidates=Candidates(question.id, tuple(passages))))
    return chosen


def scores(predictions: Sequence[Prediction]) -> dict[str, float | None]:
    """Means over the questions."""
    records = [evaluate(one) for one in predictions]
    of_hops = {h: [r["exact_match"] for r in records if r["hops"] == h] for h in (1, 2)}
    thoughts = [one.thought.text for one in predictions if one.thought is not None]
    named = [
        name_of(one.task.question) in one.thought.text.split()
        for one in predictions
        if one.thought is not None and one.task.question.hops == 2
    ]
    return {
        "two_hop": sum(of_hops[2]) / len(of_hops[2]),
        "one_hop": sum(of_hops[1]) / len(of_hops[1]),
        "thinks": sum(bool(text.strip()) for text in thoughts) / len(thoughts) if thoughts else None,
        "names": sum(named) / len(named) if named else None,
    }


if __name__ == "__main__":
    main()
