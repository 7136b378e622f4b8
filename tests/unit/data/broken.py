"""A corpus of broken files: mutations of every format that is read, each read or refused.

Run as a program it reads them all in a folder and prints one JSON object: what became of each, and the
most memory that was in use.
"""

from __future__ import annotations

import gzip
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ragdro.config import load_config
from ragdro.data import read_corpus, read_questions, recognise
from ragdro.data.twowiki import read_aliases
from ragdro.errors import RagdroError
from ragdro.evaluation.predictions import read_predictions
from ragdro.prompts import load_template
from ragdro.report.history import read_history
from ragdro.report.watch import view
from ragdro.retrieval.candidates import read_candidates
from ragdro.retrieval.external import read_trec_run
from ragdro.runs.status import read_results
from tests.unit.data.originals import CORPUS_FILES, QUESTION_FILES, jsonl

SECONDS = 20
"""Far above what any of the files takes; a reader that hangs is cut off by it."""

SPECIALS = (
    "<|begin_of_text|><|eot_id|><|start_header_id|>",  # Llama
    "<s>[INST] [/INST]</s>",  # Mistral
    "<|im_start|>system<|im_end|><|endoftext|>",  # Qwen, ChatML
    "<start_of_turn>user<end_of_turn><eos><bos>",  # Gemma
)
STEERING = "\u202eright\u202c\u2066to\u2069 left\u200b\u200d\ufeff"
WRONG: tuple[Any, ...] = (7, [], {}, [None], {"a": [1]}, True, "", 1e308)

METRICS = {"exact_match": 0.5, "f1": 0.5, "bound": -1.0, "effective_sample_size": 1.5}
METRICS_LOG = jsonl(
    {
        "event": "update",
        "stage": "warm_up",
        "role": "selector",
        "step": 1,
        "steps": 2,
        "loss": 1.5,
        "seconds": 1.0,
    },
    {"event": "evaluation", "stage": "warm_up", "split": "reported", **METRICS, "seconds": 2.0},
    {"event": "shard", "stage": "iteration-1", "questions": 2, "of": 4, "seconds": 3.0},
)
PASSAGE = {"id": "p", "title": "Arlen", "text": "Arlen lies on the Visk."}
CONFIG = b"""data: {train: a.jsonl, validation: b.jsonl}
selector: {model: m, k: 3}
generator: {model: m}
retriever: {kind: bm25, k1: 1.2}
iterations: 2
"""
OTHERS = {
    "candidates": jsonl(
        {"question_id": "q1", "passages": [PASSAGE, {**PASSAGE, "id": "p2"}], "scores": [2.0, 1.0]},
        {"question_id": "q2", "passages": [PASSAGE], "scores": None},
    ),
    "trec": b"q1 Q0 p1 1 9.5 bm25\nq1 Q0 p2 2 9.25 bm25\nq2 Q0 p1 1 3 bm25\n",
    "aliases": jsonl(
        {"Q_id": "Q1", "aliases": ["the Visk"], "demonyms": []},
        {"Q_id": "Q2", "aliases": [], "demonyms": ["x"]},
    ),
    "predictions": jsonl({"id": "q1", "answer": "the Visk"}, {"id": "q2", "answer": "Oster"}),
    "config": CONFIG,
    "prompt": b"user: |\n  {question}\n  {passages}\npassage: '{title} {text}'\nstart: ' '\n",
    "metrics": METRICS_LOG,
    "results": json.dumps(
        {"vanilla_rag": METRICS, "warm_up": METRICS, "iterations": [], "best": {"iteration": 0, **METRICS}}
    ).encode(),
    "run-predictions": jsonl({"question": "Who?", "answer": "x", "answers": ["x"], "exact_match": 1.0}),
}
ORIGINALS = {
    **{f"questions-{k}": v for k, v in QUESTION_FILES.items()},
    **{f"corpus-{k}": v for k, v in CORPUS_FILES.items()},
    **OTHERS,
}

LARGE = {"questions-own", "corpus-own", "corpus-psgs-w100", *OTHERS}
"""Formats whose own line reader sees a line of 10 MB; most share one."""


def of_bytes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Mutations that know nothing of a format."""
    middle = len(data) // 2
    yield "cut in the middle", data[:middle]
    yield "cut before the end", data[:-3]
    yield "empty", b""
    yield "blank", b" \n\t\r\n"
    yield "NUL", data[:middle] + b"\x00" + data[middle:]
    yield "not UTF-8", data[:middle] + b"\xff\xc3" + data[middle:]
    yield "UTF-16", data.decode().encode("utf-16")
    yield "UTF-32", data.decode().encode("utf-32")
    yield "deep nesting", data[:middle] + b"[" * 50_000 + data[middle:]
    yield "deep nesting alone", b'{"a":' * 50_000
    yield "twice", data + data
    yield "one line", data.replace(b"\n", b"")
    yield "carriage returns", data.replace(b"\n", b"\r")
    yield "cut gzip", gzip.compress(data * 50)[:-20]
    yield "junk", bytes(range(256)) * 40
    yield "a string", b'"only a string"\n'


def of_records(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Mutations of single fields, where the file is JSON records."""
    try:
        whole = data[:1] == b"["
        records = json.loads(data) if whole else [json.loads(line) for line in data.splitlines()]
    except ValueError:
        return
    if not all(isinstance(record, dict) for record in records):
        return

    def written(changed: Any) -> bytes:
        return json.dumps(changed).encode() if whole else jsonl(*changed)

    grown = False
    for index, field in enumerate(records[-1]):
        for value in (WRONG[index % len(WRONG)], WRONG[(index + 3) % len(WRONG)], None):
            yield f"{field} = {value!r}", written([*records[:-1], {**records[-1], field: value}])
        yield f"no {field}", written([*records[:-1], {k: v for k, v in records[-1].items() if k != field}])
        if isinstance(records[-1][field], str):
            large = () if grown or name not in LARGE else ("word " * 2_000_000,)
            grown = True
            for text in (*SPECIALS, STEERING, " ", "\ud800", *large):
                yield (
                    f"{field} = {text[:20]!r} of {len(text)}",
                    written([*records[:-1], {**records[-1], field: text}]),
                )
    yield "record twice", written([*records, records[-1]])


def corpus() -> Iterator[tuple[str, str, bytes]]:
    """(format, mutation, bytes) of every broken file."""
    for name, data in ORIGINALS.items():
        for how, broken in (*of_bytes(data), *of_records(name, data)):
            yield name, how, broken
        if name in LARGE:
            yield name, "a line of 10 MB", data + b"x" * 10_000_000 + b"\n"


def reader(name: str, folder: Path) -> tuple[Path, Callable[[], object]]:
    """Where a file of the format goes, and what reads it to the end."""
    path = folder / {"config": "c.yaml", "prompt": "p.yaml", "metrics": "metrics.jsonl"}.get(name, "file")
    if name.startswith(("questions", "corpus")):
        return path, lambda: [
            list(read_corpus(path)) if recognise(path).kind == "corpus" else list(read_questions(path))
        ]
    if name in ("metrics", "run-predictions", "results"):
        (folder / "config.yaml").write_bytes(CONFIG)
        if name == "results":
            return folder / "results.json", lambda: read_results(folder)
        if name == "run-predictions":
            return folder / "predictions-warm_up.jsonl", lambda: view(read_history(folder))
        return path, lambda: view(read_history(folder))
    readers: dict[str, Callable[[], object]] = {
        "candidates": lambda: list(read_candidates(path)),
        "trec": lambda: read_trec_run(path),
        "aliases": lambda: read_aliases(path),
        "predictions": lambda: read_predictions(path),
        "config": lambda: load_config(path),
        "prompt": lambda: load_template(str(path)),
    }
    return path, readers[name]


def main(folder: Path) -> None:
    """Read them all; a traceback of anything but a `RagdroError` is a failure of the suite."""
    signal.signal(signal.SIGALRM, _too_long)
    outcomes = []
    for number, (name, how, data) in enumerate(corpus()):
        place = folder / str(number)
        place.mkdir()
        path, read = reader(name, place)
        path.write_bytes(data)
        said: str | None = None
        failed: str | None = None
        signal.alarm(SECONDS)
        try:
            read()
        except RagdroError as error:
            said = str(error)
        except Exception as error:  # noqa: BLE001  (what must not happen is what is looked for)
            failed = f"{type(error).__name__}: {str(error)[:200]}"
        signal.alarm(0)
        outcomes.append({"format": name, "how": how, "path": str(path), "said": said, "failed": failed})
        path.unlink()
    status = Path("/proc/self/status").read_text()  # rusage would count what started this process, too
    megabytes = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024
    print(json.dumps({"files": outcomes, "megabytes": megabytes}))


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"still reading after {SECONDS} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
