"""A second search behind a pair that is trained already: only the rewriter learns, so that two cores will do.

    python reproductions/asking_again.py DATA RUN [--sets hotpotqa musique] [--train 160] [--test 100]

RUN is a run of `configs/smollm2-135m.yaml` (`make demo-real` is one), whose best pair reads. The searches are
those of `searches.py`: *one* selects four of BM25's first twenty over the set's whole corpus; *two* selects
two of its first ten, lets the rewriter write a query, and selects two of the ten that this finds; *vanilla*
reads BM25's first four. The rewriter is taught the titles of gold passages that were not found, of `--train`
questions. What each held-out question got is kept in `runs/asking-again/SET-ROW.json`; what was made with the
same options is not made again. Shown are 95 % bootstrap intervals, and *two* against *one*, paired.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ceilings import SETS
from kept import kept
from pretrained import CONFIG, cell
from searches import METRICS, compare, prepare
from searches import ROWS as SEARCHES

import ragdro
from ragdro.config import Optimisation, TrainingSettings, WarmUp
from ragdro.data import read_corpus, read_questions
from ragdro.errors import RagdroError
from ragdro.evaluation.evaluate import evaluate
from ragdro.retrieval.hashing import hash_values, model_fingerprint
from ragdro.retrieval.queries import as_find
from ragdro.rewriting.asking import Asking
from ragdro.runs.models import load_rewriter
from ragdro.runs.setup import rewriter_behind_prompt
from ragdro.runs.stages import checkpoint_of
from ragdro.system import Rag, as_retrieve
from ragdro.training.evaluate import spaced
from ragdro.training.tasks import tasks_of
from ragdro.types import Prediction, Question

ROWS = ("vanilla", "one", "two")
TAUGHT = Optimisation(learning_rate=2e-4, batch_size=16, max_tokens_per_micro_batch=4096)


def answered(config: ragdro.Config, row: str, options: argparse.Namespace) -> list[Prediction]:
    """The row's answers to the held-out questions."""
    retriever = ragdro.retriever_over(read_corpus(config.data.corpus))
    pair = ragdro.load(options.run, retriever=retriever)
    selector, generator, asking = pair.selector, pair.generator, None
    selector.k, selector.n = (2, 10) if row == "two" else (4, 20)
    if row == "two":
        assert config.rewriter is not None
        torch.manual_seed(config.seed)
        model = load_rewriter(config, None, selector.model)
        rewriter = rewriter_behind_prompt(config.rewriter, model)
        learn = WarmUp(selector=None, generator=None, rewriter=TAUGHT, teacher="gold")
        settings = TrainingSettings(iterations=0, warm_up=learn, retrieval=config.retrieval)
        train = spaced(list(read_questions(config.data.train)), options.train)
        taught = {"rewriter": rewriter, "retriever": retriever, "top_n": selector.n, "settings": settings}
        ragdro.train(selector, generator, train, **taught)
        asking = Asking(rewriter, as_find(retriever), config.retrieval, selector)
    system = Rag(selector, generator, as_retrieve(retriever, selector.n), pair.max_tokens, asking=asking)
    return system.predict(_tasks(config, system, options.test), select=row != "vanilla")


def _tasks(config: ragdro.Config, system: Rag, most: int) -> list[Any]:
    assert config.data.test is not None
    questions: list[Question] = spaced(list(read_questions(config.data.test)), most)
    return tasks_of(questions, system.retrieve, system.selector.n)


def records(config: ragdro.Config, name: str, row: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """What each question got: from its file, or made now."""

    def answer() -> dict[str, Any]:
        begun = time.process_time()
        made = [evaluate(prediction) for prediction in answered(config, row, options)]
        print(f"{name}, {row}: {(time.process_time() - begun) / 60:.1f} CPU minutes", flush=True)
        return {"records": made}

    asked = {key: getattr(options, key) for key in ("data", "train", "test")} | {"pair": pair_of(options.run)}
    return list(kept(options.runs / f"{name}-{row}.json", asked, answer)["records"])


@cache
def pair_of(run: Path) -> str:
    """A hash of the pair that reads: a run of the same name may have been trained anew."""
    best = checkpoint_of(run, "best")
    return hash_values(model_fingerprint(str(best / role)) for role in ("selector", "generator"))


def table(shown: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> None:
    """Each row's figures, and what the second search changes."""
    rng = np.random.default_rng(0)
    print(f"\n{name}, {len(shown['one'])} questions\n\n| | {' | '.join(METRICS)} | searches |")
    print("|---" * (len(METRICS) + 2) + "|")
    for row, made in shown.items():
        cells = [cell([r[m] for r in made if r.get(m) is not None], rng) for m in METRICS]
        print(
            f"| {row} | {' | '.join(cells)} | {sum(r.get('retrievals') or 1 for r in made) / len(made):.2f} |"
        )
    compare({row: shown[row] for row in ("one", "two")}, rng)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["hotpotqa", "musique"])
    parser.add_argument("--train", type=int, default=160, help="questions that the rewriter learns from")
    parser.add_argument("--test", type=int, default=100, help="held-out questions")
    parser.add_argument("--runs", type=Path, default=Path("runs/asking-again"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.sets:
        keys = prepare(options.data, options.runs / "data", name)
        config = ragdro.load_config(CONFIG, [*keys, *SEARCHES["two"]])
        table({row: records(config, name, row, options) for row in ROWS}, name)


if __name__ == "__main__":
    try:
        main()
    except RagdroError as error:
        sys.exit(f"asking_again: {error}")
