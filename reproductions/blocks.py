"""Block attention with a small pretrained model on real questions: three generators, trained alike, compared.

    python reproductions/blocks.py DATA --sets hotpotqa nq
    python reproductions/blocks.py DATA --table

The generator of `configs/smollm2-135m.yaml` alone: no selector, no loop. Each way to read (`full`, `blocks`,
`blocks-then-full`) is trained once over the same lists of three, in the same order: the passages of the set's
teacher (labelled gold, or holding the answer), then BM25's first. Held-out questions are answered from that
list, and from BM25's first three. DATA and the files made of it are those of `pretrained.py`. Answers are
kept in `runs/blocks/SET-WAY.json`; what was made with the same options is not made again. The table compares
what was made with those of `full`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import kept
from pretrained import CONFIG, SETS, prepare

import ragdro
from ragdro.algorithms.examples import TrainingExample
from ragdro.data import read_questions
from ragdro.errors import RagdroError
from ragdro.evaluation.metrics import exact_match, f1
from ragdro.evaluation.significance import bootstrap_interval, holm, paired_bootstrap, paired_permutation_test
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.runs.models import load_pair
from ragdro.runs.setup import behind_prompts
from ragdro.training.m_step import fit
from ragdro.training.teachers import teacher_permutation
from ragdro.types import Question, Task

WAYS = ("full", "blocks", "blocks-then-full")
LISTS = ("teacher", "bm25")
K = 3
KEYS = ("generator.question_tokens=48", "generator.answer_tokens=12", f"selector.k={K}", "threads=1")
MAX_TOKENS = 8192
MADE_WITH = ("data", "train", "test", "lists", "overrides")
"""Options that change what is answered."""
Scores = dict[str, list[float]]


def lists_of(question: Question, teacher: str) -> list[Reading]:
    """What is read, in the order of `LISTS`."""
    assert question.candidates is not None
    task = Task(question, question.candidates)
    taught = teacher_permutation(task, K, teacher)
    return [Reading.of(task, taught), Reading.of(task, tuple(range(K)))]


def first(path: str, count: int) -> list[Question]:
    """The first questions of a file that have K candidates."""
    questions = [q for q in read_questions(path) if q.candidates and len(q.candidates.passages) >= K]
    return questions[:count]


def trained(config: ragdro.Config, questions: Sequence[Question]) -> Generator:
    """The config's generator, fitted to the first gold answer of each question behind the teacher's list."""
    torch.manual_seed(config.seed)
    generator = behind_prompts(config, *load_pair(config))[1]
    readings = [lists_of(q, config.warm_up.teacher)[0] for q in questions]

    def answer(reader: Generator, number: int) -> TrainingExample:
        return TrainingExample(questions[number].id, reader.group([readings[number]]), (1.0,))

    settings, rng = config.warm_up.generator, np.random.default_rng(config.seed)
    assert settings is not None
    fit(generator.model, len(questions), [partial(answer, each) for each in generator.turns], settings, rng)
    return generator


def answered(name: str, way: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one way to read; the answers to each test question from both lists."""
    keys = [*prepare(options.data, options.runs / "data", name, "small"), *KEYS, *options.overrides]
    config = ragdro.load_config(CONFIG, [*keys, f"generator.passage_attention={way}"])
    assert config.data.test is not None
    test = first(config.data.test, options.test)
    begun = time.process_time()
    generator = trained(config, first(config.data.train, options.train))
    minutes = [(time.process_time() - begun) / 60]
    records: list[dict[str, Any]] = [{"id": q.id, "gold": q.answers} for q in test]
    readings = [lists_of(q, config.warm_up.teacher) for q in test]
    for reader in generator.turns:
        for label in options.lists:
            number = LISTS.index(label)
            answers = reader.answer_many([each[number] for each in readings], MAX_TOKENS)
            for record, answer in zip(records, answers, strict=True):
                record[f"{reader.passage_attention}, {label}"] = answer
    minutes.append((time.process_time() - begun) / 60 - minutes[0])
    print(f"{name}, {way}: {minutes[0]:.1f} CPU minutes of training, {minutes[1]:.1f} of answers", flush=True)
    return {"records": records}


def scores_of(records: Sequence[Mapping[str, Any]]) -> dict[str, Scores]:
    """Exact match and F1 of each question, by list and by how it was read."""
    shown = [key for key in records[0] if key not in ("id", "gold")]
    metrics = {"exact match": exact_match, "F1": f1}
    return {
        key: {name: [metric(r[key], r["gold"]) for r in records] for name, metric in metrics.items()}
        for key in shown
    }


def table(runs: Path, name: str) -> None:
    """Print each row's figures, and what it differs by from `full` behind the same list, Holm over a list."""
    by_list: dict[str, dict[str, Scores]] = {label: {} for label in LISTS}
    files = {way: runs / f"{name}-{way}.json" for way in WAYS}
    rows_of = {way: json.loads(file.read_text()) for way, file in files.items() if file.is_file()}
    for way, row in rows_of.items():
        if row["asked"] != rows_of.get("full", row)["asked"]:
            print(f"{files[way]}: left out, as it was made with other options than {files['full'].name}")
            continue
        for key, scores in scores_of(row["records"]).items():
            read, label = key.split(", ")
            by_list[label][way if way == read else f"{way}, read with {read}"] = scores
    rng = np.random.default_rng(0)
    for label, rows in by_list.items():
        for metric in ("exact match", "F1") if "full" in rows else ():
            base = rows["full"][metric]
            others = {row: rows[row][metric] for row in rows if row != "full"}
            tests = {row: paired_permutation_test(base, own, rng) for row, own in others.items()}
            adjusted, center = holm(tests), bootstrap_interval(base, rng)
            print(f"\n{name}, {label}, {metric}, {len(base)} questions")
            print(f"| full | {center.mean:.3f} ({center.low:.3f}–{center.high:.3f}) | | |")
            for row, own in others.items():
                interval, difference = bootstrap_interval(own, rng), paired_bootstrap(base, own, rng)
                gain = f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
                read = f"{interval.mean:.3f} ({interval.low:.3f}–{interval.high:.3f})"
                print(f"| {row} | {read} | {gain} | {tests[row]:.4f}, Holm {adjusted[row]:.4f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["hotpotqa", "nq"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--train", type=int, default=200, help="questions")
    parser.add_argument("--test", type=int, default=200, help="questions")
    parser.add_argument("--lists", nargs="+", choices=LISTS, default=list(LISTS), help="answered from")
    parser.add_argument("--runs", type=Path, default=Path("runs/blocks"))
    parser.add_argument("--table", action="store_true", help="print what there is and run nothing")
    parser.add_argument("--overrides", nargs="*", default=[], help="dotted.key=value of the config")
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = {key: getattr(options, key) for key in MADE_WITH}
    for name in options.sets:
        for way in () if options.table else options.ways:
            kept(options.runs / f"{name}-{way}.json", asked, partial(answered, name, way, options))
        table(options.runs, name)


if __name__ == "__main__":
    try:
        main()
    except RagdroError as error:
        sys.exit(f"blocks: {error}")
