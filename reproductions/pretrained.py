"""A small pretrained model on real questions: warm-up, DRO, its ablations and sft, set by set and row by row.

    python reproductions/pretrained.py DATA --sets hotpotqa --rows warm-up dro
    python reproductions/pretrained.py DATA --device cuda --size large
    python reproductions/pretrained.py DATA --table

DATA is a folder with `multihop/`, `rc/`, `corpora/` and `more/` (see `SETS`). Every row is a run in
`runs/pretrained/SET-ROW`; one that was stopped resumes, one that is finished is not repeated, and all start
from the warm-up of their set. `--table` prints what there is, with paired tests.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from kept import is_made, note
from ten_paragraphs import bm25_orders, record

import ragdro
from ragdro.config.retriever import parse_settings
from ragdro.data import read_questions
from ragdro.evaluation.significance import bootstrap_interval, holm, paired_permutation_test
from ragdro.files import atomic_file
from ragdro.retrieval.cache import cached_candidates
from ragdro.runs.status import read_results
from ragdro.types import Question

CONFIG = Path(__file__).parents[1] / "configs/smollm2-135m.yaml"
SETS: Mapping[str, Mapping[str, Any]] = {
    "hotpotqa": {
        "train": ["multihop/hotpotqa_train.jsonl", "more/hotpotqa_train_2226.jsonl.gz"],
        "test": "multihop/hotpotqa_dev.jsonl",
        "kept_out": 300,
        "teacher": "gold",
    },
    "2wiki": {
        "train": ["multihop/2wiki_train.jsonl", "more/2wiki_train_472.jsonl.gz"],
        "test": "multihop/2wiki_dev.jsonl",
        "corpus": ["corpora/2wiki.jsonl", "more/corpus_2wiki_more.jsonl.gz"],
        "teacher": "gold",
    },
    "nq": {
        "train": ["more/nq_train_6876.jsonl.gz"],
        "test": "rc/nq_dev_gold_2655.jsonl",
        "corpus": ["corpora/nq.jsonl", "more/corpus_nq_more.jsonl.gz"],
        "teacher": "distant",
    },
    "musique": {
        "train": ["multihop/musique_train.jsonl", "more/musique_train_508.jsonl.gz"],
        "test": "multihop/musique_dev.jsonl",
        "teacher": "gold",
        "keys": ["top_n=20"],
    },
}
"""HotpotQA has its ten paragraphs and MuSiQue its twenty, in BM25's order; the others BM25's top ten of the
whole corpus. `kept_out`: so many of the training questions join the test."""
UNLABELLED, DISTANT = "warm-up-unlabelled", "warm-up-distant"
WARM_UP = ("iterations=0", "checkpoints.keep=all", "evaluation.test=all")
BLOCKS = ("blocks", "blocks-then-full")
LIST = (
    *("selector.kind=list", "selector.prompt=selector", "selector.layers=null"),
    "warm_up.selector={learning_rate: 1e-4, batch_size: 8, max_tokens_per_micro_batch: 2048}",
    "m_step.selector={learning_rate: 1e-4, batch_size: 8, max_tokens_per_micro_batch: 2048}",
)
"""A selector that writes identifiers, as the paper's does; all its weights are trained."""
ROWS: Mapping[str, Sequence[str]] = {
    "zero-shot": ["iterations=0", "warm_up.selector=null", "warm_up.generator=null", "evaluation.test=all"],
    "warm-up": WARM_UP,
    "dro": [],
    "dro-seed-1": ["seed=1"],
    "selector-frozen": ["train_selector=false"],
    "generator-frozen": ["train_generator=false"],
    "sft": ["objective=sft"],
    UNLABELLED: [*WARM_UP, "warm_up.teacher=fused"],
    "dro-unlabelled": [],
    DISTANT: [*WARM_UP, "warm_up.teacher=distant"],
    "dro-distant": [],
    "list": [*WARM_UP, *LIST],
    "dro-list": [*LIST],
    **{row: [*WARM_UP, f"generator.passage_attention={row}"] for row in BLOCKS},
}
"""`unlabelled`: no label of a passage is used; the teacher is BM25's order fused with the order by the
question's likelihood under the generator. `distant`: nor there; it puts passages that hold the answer first.
`list`: the selector writes identifiers. `blocks`: a generator that reads each passage by itself."""
_OTHERS = {"dro-unlabelled": UNLABELLED, "dro-distant": DISTANT, "dro-list": "list"}
FIRST = {row: _OTHERS.get(row, "warm-up") for row in ROWS}
"""Which row's warm-up each starts from."""
NAMES: Mapping[str, Mapping[str, str]] = {
    "zero-shot": {"zero-shot vanilla RAG": "vanilla_rag"},
    "warm-up": {"warmed-up vanilla RAG": "vanilla_rag", "warm-up": "warm_up"},
    UNLABELLED: {"vanilla RAG, warmed up without labels": "vanilla_rag", "warm-up without labels": "warm_up"},
    DISTANT: {"vanilla RAG, warmed up from answers": "vanilla_rag", "warm-up from answers": "warm_up"},
    **{r: {f"{r}, vanilla RAG": "vanilla_rag", f"{r}, warm-up": "warm_up"} for r in ("list", *BLOCKS)},
}
"""What is shown of the rows that do not start from another's warm-up: a label for each stage."""
SIZES: Mapping[str, Sequence[str]] = {
    "small": [
        "data.train_questions=200",
        "e_step.questions=64",
        "evaluation.questions=200",
        "evaluation.test=best",
        "selector.passage_tokens=40",
        "generator.answer_tokens=12",
        *(f"{role}.question_tokens=48" for role in ("selector", "generator")),
    ],
    "large": [
        "iterations=2",
        "data.train_questions=960",
        "e_step.questions=480",
        "evaluation.questions=500",
        "evaluation.test=best",
        "e_step.max_tokens_per_micro_batch=65536",
        "evaluation.max_tokens_per_micro_batch=65536",
        "warm_up.generator.batch_size=32",
        "warm_up.generator.learning_rate=3e-4",
        "m_step.generator.batch_size=16",
        *(f"{step}.selector.max_tokens_per_micro_batch=20480" for step in ("warm_up", "m_step")),
        *(f"{step}.generator.max_tokens_per_micro_batch=8192" for step in ("warm_up", "m_step")),
    ],
}
VALIDATION = {"small": 60, "large": 200}
MOST_TRAIN, _PER_QUESTION = 2000, 10
METRICS = ("exact_match", "f1", "recall_at_1", "recall_at_3", "full_recall", "k_precision")


def lines(paths: Sequence[Path]) -> Iterator[bytes]:
    """The records of JSON lines, packed or not."""
    for path in paths:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from file


def prepare(data: Path, out: Path, name: str, size: str) -> list[str]:
    """Write the set's training, validation and test questions with their candidates, once, and again where
    they are of another DATA or `SETS` says otherwise than it did then; the keys that name them. Raises
    `RagdroError` where there are runs of the former ones."""
    spec, options = SETS[name], out / f"{name}.json"
    made_of = {"DATA": data.resolve(), "SETS": spec, "VALIDATION": VALIDATION, "MOST_TRAIN": MOST_TRAIN}
    if not is_made(options, made_of, out.parent.glob(f"{name}-*/config.yaml"), "give another --runs"):
        out.mkdir(parents=True, exist_ok=True)
        train = [q for path in spec["train"] for q in read_questions(data / path)]
        test = list(read_questions(data / spec["test"]))
        random.Random(0).shuffle(train)
        kept_out, held_out = spec.get("kept_out", 0), max(VALIDATION.values())
        test, train = test + train[len(train) - kept_out :], train[: len(train) - kept_out][:MOST_TRAIN]
        records = with_candidates(data, out, name, [*train, *test])
        train_records, test_records = records[: len(train)], records[len(train) :]
        parts = {
            "train": train_records[held_out:],
            **{f"validation-{s}": train_records[:n] for s, n in VALIDATION.items()},
            "test": test_records,
        }
        for part, rows in parts.items():
            with atomic_file(out / f"{name}-{part}.jsonl") as file:
                file.writelines(orjson.dumps(row) + b"\n" for row in rows)
        note(options, made_of)
    files = {"train": "train", "validation": f"validation-{size}", "test": "test"}
    return [
        *(f"data.{key}={out / f'{name}-{part}.jsonl'}" for key, part in files.items()),
        "data.corpus=null",
        "retriever.kind=given",
        f"warm_up.teacher={spec['teacher']}",
        *spec.get("keys", ()),
    ]


def with_candidates(data: Path, out: Path, name: str, asked: Sequence[Question]) -> list[dict[str, Any]]:
    """The questions in our own format: their paragraphs in BM25's order, or BM25's first of the corpus."""
    spec = SETS[name]
    if "corpus" not in spec:
        return [record(q, ranks) for q, ranks in zip(asked, bm25_orders(list(asked)), strict=True)]
    corpus = out / f"{name}-corpus.jsonl"
    with atomic_file(corpus) as file:
        file.writelines(lines([data / path for path in spec["corpus"]]))
    settings = parse_settings({"kind": "bm25"})
    retrieved = cached_candidates(asked, str(corpus), settings, _PER_QUESTION, out / "cache")
    return [
        {**record(q, []), "candidates": [{"id": p.id, "title": p.title, "text": p.text} for p in c.passages]}
        for q, c in zip(asked, retrieved, strict=True)
    ]


def config_of(row: str, name: str, keys: Sequence[str], options: argparse.Namespace) -> ragdro.Config:
    """What a row trains; `keys` name the set's files."""
    start = [] if row in NAMES else [f"warm_up.from={options.runs / f'{name}-{FIRST[row]}'}"]
    own = run_keys(f"{name}-{row}", options)
    return ragdro.load_config(
        CONFIG, [*keys, *own, *SIZES[options.size], *ROWS[row], *start, *options.overrides]
    )


def run_keys(name: str, options: argparse.Namespace) -> list[str]:
    """What the run is called, where it lies and what it runs on."""
    return [
        f"name={name}",
        f"runs={options.runs}",
        f"cache={options.runs / 'cache'}",
        f"device={options.device}",
        f"threads={options.threads}",
    ]


def stages(folder: Path, row: str) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """What a finished run has to show: for each stage its metrics and its record of every question."""
    results = read_results(folder)
    shown = [(label, stage, results[stage]) for label, stage in NAMES.get(row, {}).items()]
    if not shown:
        best = results["best"]["iteration"]
        shown = [
            (f"{row}, iteration {i}{', best' * (i == best)}", f"iteration-{i}" if i else "warm_up", measured)
            for measured in results["iterations"] or [results["best"]]  # the warm-up, where that was best
            for i in [measured["iteration"]]
        ]
    records = {}
    for label, stage, metrics in shown:
        file = folder / f"predictions-{stage}.jsonl"
        records[label] = (metrics, [json.loads(line) for line in file.read_text().splitlines()])
    return records


def table(runs: Path) -> None:
    """Print the figures of every finished row, and what is better than the warm-up by Holm over the rows."""
    rng = np.random.default_rng(0)
    for name in SETS:
        shown: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
        for row in ROWS:
            if (runs / f"{name}-{row}/results.json").is_file():
                shown |= stages(runs / f"{name}-{row}", row)
        if shown:
            print(f"\n{name}\n\n| | questions | {' | '.join(METRICS)} | bound | ESS |")
            print("|---" * (len(METRICS) + 4) + "|")
        for label, (metrics, records) in shown.items():
            cells = [cell([r[m] for r in records if r.get(m) is not None], rng) for m in METRICS]
            sampled = [metrics.get("bound"), metrics.get("effective_sample_size")]
            cells += ["–" if value is None else f"{value:.2f}" for value in sampled]
            print(f"| {label} | {len(records)} | {' | '.join(cells)} |")
        if "warm-up" in shown:
            compare(shown, rng)


def cell(values: Sequence[float], rng: np.random.Generator) -> str:
    """A mean with its bootstrap interval."""
    if not values:
        return "–"
    interval = bootstrap_interval(values, rng)
    return f"{interval.mean:.3f} ({interval.low:.3f}–{interval.high:.3f})"


def compare(shown: Mapping[str, tuple[Any, Sequence[Mapping[str, Any]]]], rng: np.random.Generator) -> None:
    """Paired permutation tests of every row against the warm-up."""
    for metric in ("full_recall", "f1"):
        first = {r["id"]: r[metric] for r in shown["warm-up"][1]}
        tested = {}
        for label, (_, records) in shown.items():
            if label != "warm-up":
                both = [(first[r["id"]], r[metric]) for r in records]
                pairs = [pair for pair in both if None not in pair]
                if pairs:
                    tested[label] = paired_permutation_test(*zip(*pairs, strict=True), rng)
        said = ", ".join(f"{row} p = {tested[row]:.4f}, Holm {p:.4f}" for row, p in holm(tested).items())
        print(f"\n{metric} against the warm-up: {said}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--runs", type=Path, default=Path("runs/pretrained"))
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wait", action="store_true", help="until the set's warm-up is there")
    parser.add_argument("--table", action="store_true", help="print what there is and run nothing")
    parser.add_argument("--overrides", nargs="*", default=[], help="dotted.key=value of the config")
    options = parser.parse_args()
    if not options.table:
        for name in options.sets:
            keys = prepare(options.data, options.runs / "data", name, options.size)
            for row in options.rows:
                first = options.runs / f"{name}-{FIRST[row]}/results.json"
                while options.wait and row not in NAMES and not first.is_file():
                    time.sleep(0.2)
                ragdro.run(config_of(row, name, keys, options), resume=True)
    table(options.runs)


if __name__ == "__main__":
    main()
