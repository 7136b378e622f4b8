"""A rewriter that makes a dialogue's last turn stand alone, trained by the loop's signal alone.

    python reproductions/standalone.py DATA --model FOLDER [--questions 96] [--iterations 3] [--stages 0 3]

DATA and the corpus are those of `dialogues.py`. Nobody wrote a standalone query. The rewriter (an adapter on
the model in FOLDER) begins untrained, eight queries of a dialogue are drawn, BM25 finds three sentences with
each, and a query's weight is how likely the same model, frozen, makes the wizard's own response behind them.
The training dialogues are of the training split; the row is of the same held-out ones as `dialogues.py`
rewrites. Behind each stage that is asked for (0: untrained): the fraction whose own sentence is among the
first 5 and 20 that the greedy query finds, with the standard error, and the last stage less the first,
paired, with its 95 % interval. The run is `RUNS/standalone`; it resumes, and `--stages` alone measures it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dialogues import TOP, later_turns, recalls, shelf_of
from kept import is_made, note
from pretrained import CONFIG

import ragdro
from ragdro.data import load_questions
from ragdro.data.convert import write_questions
from ragdro.errors import RagdroError
from ragdro.evaluation.significance import paired_bootstrap
from ragdro.files import write_atomically
from ragdro.generation.reading import Reading
from ragdro.retrieval.over import retriever_over
from ragdro.retrieval.queries import Find, as_find
from ragdro.types import Passage, Question

SPLITS = ("train", "dev")
_FIT = "{learning_rate: 3e-4, epochs: 2, batch_size: 8, max_tokens_per_micro_batch: 2048}"
KEYS = (
    "name=standalone",
    "threads=1",
    "top_n=3",
    "retrieval={rewrite_first: true}",
    # All that is found is read, by rank: the selector has nothing to decide.
    "selector={model: 'tiny:base', prompt: tiny-selector, k: 3}",
    "train_selector=false",
    "train_generator=false",
    "warm_up={selector: null, generator: null, rewriter: null}",
    "e_step={samples: 8, questions: 40, max_tokens_per_micro_batch: 2048, questions_per_shard: 8}",
    f"m_step={{rewriter: {_FIT}}}",
    "patience=null",
    "checkpoints.keep=all",
    "evaluation={samples: 1, tight_samples: null, questions: 2, metric: bound}",
)


def main() -> None:
    """Train what is not there yet and print a line a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", required=True, help="folder or hub name of the model in both roles")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--questions", type=int, default=96, help="training dialogues")
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--stages", type=int, nargs="+", default=None, help="measure these alone")
    parser.add_argument("--written", type=int, default=100, help="held-out dialogues that are rewritten")
    options = parser.parse_args()
    splits = [load_questions(options.data / f"wow_{name}.jsonl") for name in SPLITS]
    shelf = shelf_of([question for split in splits for question in split])
    if options.stages is None:
        begun = time.process_time()
        ragdro.run(ragdro.load_config(CONFIG, keys(options, splits[0], shelf)), resume=True)
        print(json.dumps({"training, CPU s": round(time.process_time() - begun)}), flush=True)
    stages = options.stages or (0, options.iterations)
    find, held_out = as_find(retriever_over(shelf)), later_turns(splits[1], options.written)
    queries = {stage: written(options.runs / "standalone", stage, held_out) for stage in stages}
    for stage, own in queries.items():
        line = {"stage": stage, "questions": len(held_out), **recalls(find, held_out, own)}
        print(json.dumps({**line, "examples": own[:3]}), flush=True)
    print(json.dumps(less(find, held_out, queries[stages[0]], queries[stages[-1]])), flush=True)


def keys(options: argparse.Namespace, training: Sequence[Question], shelf: Sequence[Passage]) -> list[str]:
    """Write the questions and the corpus; the keys of the run. Raises `RagdroError` where there is a run of
    others, which would resume."""
    folder: Path = options.runs / "standalone-data"
    folder.mkdir(parents=True, exist_ok=True)
    made_of = {"DATA": options.data.resolve(), "--questions": options.questions}
    is_made(folder / "options.json", made_of, [options.runs / "standalone"], "give another --runs")
    note(folder / "options.json", made_of)
    # Those that are validated are never trained on. They choose nothing: the last iteration is measured.
    *chosen, one, two = later_turns(training, options.questions + 2)
    write_questions(folder / "train.jsonl", chosen)
    write_questions(folder / "validation.jsonl", [one, two])
    passages = ({"id": p.id, "title": p.title, "text": p.text} for p in shelf)
    write_atomically(folder / "corpus.jsonl", "".join(json.dumps(p) + "\n" for p in passages))
    model = json.dumps(str(options.model))
    return [
        *KEYS,
        *(f"data.{part}={folder / part}.jsonl" for part in ("train", "validation", "corpus")),
        f"iterations={options.iterations}",
        f"evaluation.every={options.iterations}",
        f"runs={options.runs}",
        f"cache={options.runs / 'cache'}",
        f"generator={{model: {model}, dtype: bfloat16, order: retriever, question_tokens: 96,"
        " passage_tokens: 48, answer_tokens: 48}",
        f"rewriter={{model: {model}, adapter: lora, amp: bfloat16, prompt: standalone,"
        " question_tokens: 128, query_tokens: 24}",
    ]


def written(run: Path, stage: int, questions: Sequence[Question]) -> list[str]:
    """The greedy queries of the run's rewriter behind an iteration."""
    asking = ragdro.load(run, stage=f"iteration-{stage}" if stage else "warm-up").asking
    assert asking is not None
    return [query.text for query in asking.rewriter.greedy([Reading(q, ()) for q in questions], 2048)]


def less(
    find: Find, questions: Sequence[Question], first: Sequence[str], last: Sequence[str]
) -> Mapping[str, Any]:
    """By how many are looked at: `last` less `first`, with the 95 % interval."""

    def hits(texts: Sequence[str], k: int) -> list[float]:
        pairs = zip(questions, texts, strict=True)
        return [recalls(find, [q], [text])[f"recall@{k}"][0] for q, text in pairs]

    result = {}
    for k in TOP:
        interval = paired_bootstrap(hits(first, k), hits(last, k), np.random.default_rng(0))
        result[f"recall@{k}, last less first"] = [
            round(x, 3) for x in (interval.mean, interval.low, interval.high)
        ]
    return result


if __name__ == "__main__":
    try:
        main()
    except RagdroError as error:
        sys.exit(f"standalone: {error}")
