"""One search against two on real questions, with a small pretrained model in every role.

    python reproductions/searches.py DATA [--sets 2wiki musique hotpotqa] [--rows one two] [--device cuda]
    python reproductions/searches.py DATA --table

The corpus is the set's whole one. *one* selects four of BM25's first twenty; *two* selects two of its first
ten, lets the rewriter write a query, and selects two of the ten that this finds: equal numbers of passages
are shown to the selector and read by the generator. The rewriter is taught the titles of gold passages that
were not found. DATA is a folder with `multihop/`, `corpora/` and `more/`; every row is a run in
`runs/searches/SET-ROW`, which resumes. `--table` prints what there is, at each stage: recall of gold and all
gold among what was read, exact match and F1 with 95 % bootstrap intervals, and *two* against *one*, paired.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ceilings import SETS, signed, whole_corpus
from kept import is_made, note
from pretrained import CONFIG, cell, run_keys, stages

import ragdro
from ragdro.data import read_questions
from ragdro.data.convert import write_questions
from ragdro.errors import RagdroError
from ragdro.evaluation.significance import paired_bootstrap, paired_permutation_test

ROWS: Mapping[str, Sequence[str]] = {
    "one": ["top_n=20", "selector.k=4"],
    "two": [
        "top_n=10",
        "selector.k=2",
        "retrieval={rounds: 2, k: [2, 2]}",
        "rewriter={model: .models/smollm2-135m-instruct, adapter: lora, amp: bfloat16, passage_tokens: 64,"
        " question_tokens: 64, query_tokens: 16}",
        *(f"{step}.rewriter.learning_rate=2e-4" for step in ("warm_up", "m_step")),
        *(f"{step}.rewriter.batch_size=16" for step in ("warm_up", "m_step")),
        *(f"{step}.rewriter.max_tokens_per_micro_batch=8192" for step in ("warm_up", "m_step")),
    ],
}
KEYS = (
    "iterations=1",
    "warm_up.teacher=gold",
    "retriever.kind=bm25",
    "data.train_questions=960",
    "e_step.questions=240",
    "evaluation.questions=500",
    "evaluation.test=best",
    "generator.passage_tokens=64",
    "warm_up.generator.batch_size=32",
    "warm_up.generator.learning_rate=3e-4",
    "m_step.generator.batch_size=16",
    *(f"{step}.max_tokens_per_micro_batch=32768" for step in ("e_step", "evaluation")),
    *(f"{step}.{role}.max_tokens_per_micro_batch=8192" for step in ("warm_up", "m_step")
      for role in ("selector", "generator")),
)  # fmt: skip
METRICS = ("recall_at_3", "full_recall", "exact_match", "f1")
_VALIDATION = 100


def prepare(data: Path, out: Path, name: str) -> list[str]:
    """The set's questions and corpus, written once; the keys that name them. Raises `RagdroError` where
    there are runs of other data."""
    parts = {part: out / f"{name}-{part}.jsonl" for part in ("train", "validation", "test")}
    corpus, record, made_of = out / f"{name}.jsonl", out / f"{name}.json", {"DATA": data.resolve()}
    if not is_made(record, made_of, out.parent.glob(f"{name}-*/config.yaml"), "give another --runs"):
        out.mkdir(parents=True, exist_ok=True)
        whole_corpus(name, data, out)
        test, *train = ([q for q in read_questions(data / file) if q.gold_passages] for file in SETS[name])
        rest = [q for questions in train for q in questions]
        random.Random(0).shuffle(rest)
        split = {"train": rest[_VALIDATION:], "validation": rest[:_VALIDATION], "test": test}
        for part, questions in split.items():
            write_questions(parts[part], questions)
        note(record, made_of)
    return [f"data.corpus={corpus}", *(f"data.{part}={path}" for part, path in parts.items())]


def table(runs: Path) -> None:
    """Print every stage of every finished row, and what two searches change."""
    rng = np.random.default_rng(0)
    for name in SETS:
        folders = {
            row: runs / f"{name}-{row}" for row in ROWS if (runs / f"{name}-{row}/results.json").is_file()
        }
        last: dict[str, Sequence[Mapping[str, float]]] = {}
        for row, folder in folders.items():
            shown = stages(folder, "warm-up") | stages(folder, row)
            print(f"\n{name}, {row}\n\n| | questions | {' | '.join(METRICS)} | searches |")
            print("|---" * (len(METRICS) + 3) + "|")
            for label, (metrics, records) in shown.items():
                cells = [cell([r[m] for r in records if r.get(m) is not None], rng) for m in METRICS]
                searches = metrics.get("retrievals")
                shown_searches = "1" if searches is None else f"{searches:.2f}"
                print(f"| {label} | {len(records)} | {' | '.join(cells)} | {shown_searches} |")
            last[row] = next((r for label, (_, r) in shown.items() if "best" in label), shown["warm-up"][1])
        if len(last) == len(ROWS):
            compare(last, rng)


def compare(last: Mapping[str, Sequence[Mapping[str, float]]], rng: np.random.Generator) -> None:
    """What two searches change of each metric, question by question."""
    one, two = ({r["id"]: r for r in last[row]} for row in ("one", "two"))
    for metric in METRICS:
        pairs = [
            (one[i][metric], two[i][metric])
            for i in one
            if None not in (one[i].get(metric), two[i].get(metric))
        ]
        if pairs:
            before, after = zip(*pairs, strict=True)
            p = paired_permutation_test(before, after, rng)
            print(f"\n{metric}, two less one: {signed(paired_bootstrap(before, after, rng))}, p = {p:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["2wiki", "musique", "hotpotqa"])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--runs", type=Path, default=Path("runs/searches"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print what there is and run nothing")
    parser.add_argument("--overrides", nargs="*", default=[], help="dotted.key=value of the config")
    options = parser.parse_args()
    for name in () if options.table else options.sets:
        keys = prepare(options.data, options.runs / "data", name)
        for row in options.rows:
            own = run_keys(f"{name}-{row}", options)
            config = ragdro.load_config(CONFIG, [*keys, *own, *KEYS, *ROWS[row], *options.overrides])
            ragdro.run(config, resume=True)
    table(options.runs)


if __name__ == "__main__":
    try:
        main()
    except RagdroError as error:
        sys.exit(f"searches: {error}")
