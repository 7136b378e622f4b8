"""What it takes until a run of two processes begins to train, as one JSON line.

    python -m benchmarks.start [--questions 1000] [--before CHECKOUT]

Counted over both processes: texts that went through a tokenizer and how many of the data's did so more than
once, prompts that were built, files that were hashed and how often at most, processor seconds. `--before` is
a folder with another version of the code, whose start is counted after ours.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
_WORDS = (
    "river",
    "stone",
    "Marta",
    "harbour",
    "seven",
    "letters",
    "copper",
    "the",
    "a",
    "of",
    "built",
    "crossed",
)


def world(folder: Path, questions: int) -> Path:
    """A config over so many questions and five times as many passages; all files are some seconds old."""
    from ragdro.config.models import ScratchModel
    from ragdro.lm.scratch import scratch_model

    rng = random.Random(0)

    def sentence(words: int) -> str:
        return " ".join(rng.choices(_WORDS, k=words))

    corpus = [
        {"id": f"p{i}", "title": f"Place {i}", "text": f"{sentence(20)} {i} {sentence(10)}."}
        for i in range(5 * questions)
    ]
    asked = [
        {"id": f"q{i}", "question": f"Who {sentence(5)} {5 * i}?", "answers": [f"Place {5 * i}"]}
        for i in range(questions)
    ]
    parts = {
        "corpus": corpus,
        "train": asked[: questions * 8 // 10],
        "validation": asked[questions * 8 // 10 : questions * 9 // 10],
        "test": asked[questions * 9 // 10 :],
    }
    for name, records in parts.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
        os.utime(path, (time.time() - 60,) * 2)
    settings = ScratchModel(width=32, layers=1, heads=2, vocabulary=2000, positions=4096)
    model = scratch_model(settings, (str(r["text"]) for r in corpus), folder / "model", 0)
    role = {"model": str(model), "passage_tokens": 96, "question_tokens": 48}
    config = {
        "name": "run",
        "runs": str(folder / "runs"),
        "cache": str(folder / "cache"),
        "threads": 1,
        "data": {name: str(folder / f"{name}.jsonl") for name in parts},
        "selector": {**role, "prompt": "tiny-selector"},
        "generator": {**role, "prompt": "tiny-generator", "answer_tokens": 6},
    }
    path = folder / "config.yaml"  # JSON is YAML
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


class _Counted:
    """A tokenizer that counts what it encodes."""

    def __init__(self, tokenizer: Any, counts: Counter[str]) -> None:
        self._tokenizer, self._counts = tokenizer, counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str, **options: Any) -> Any:
        self._counts[text] += 1
        return self._tokenizer.encode(text, **options)

    def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
        self._counts.update(texts)
        return self._tokenizer.encode_batch_fast(texts, **options)


def count(config: Path) -> None:
    """One of the processes: starts the run, and leaves `RANK.json` beside the config."""
    from ragdro.config import load_config
    from ragdro.lm.vocabulary import Vocabulary
    from ragdro.planning.start import StartLines
    from ragdro.prompts import PromptTemplate
    from ragdro.retrieval import hashing
    from ragdro.runs.run import run
    from ragdro.training.callbacks import Callback
    from ragdro.training.parts import TrainingParts

    encoded: Counter[str] = Counter()
    hashed: Counter[str] = Counter()
    prompts: Counter[str] = Counter()
    make, digest = Vocabulary.__init__, hashing._hash

    def counted(self: Vocabulary, *arguments: Any) -> None:
        make(self, *arguments)
        self._full, self._plain = (_Counted(t, encoded) for t in (self._full, self._plain))  # type: ignore[assignment]

    def hash_counted(path: Path) -> str:
        hashed[str(path)] += 1
        return digest(path)

    Vocabulary.__init__, hashing._hash = counted, hash_counted  # type: ignore[method-assign]

    def building(own: Any) -> Any:
        def build(self: Any, tokenizer: Any, question: str, *rest: Any) -> Any:
            prompts[question] += 1
            return own(self, tokenizer, question, *rest)

        return build

    for name in ("encode", "encode_blocks", "encode_with_ends", "encode_with_spans"):
        setattr(PromptTemplate, name, building(getattr(PromptTemplate, name)))

    class Begun(Exception):  # noqa: N818
        pass

    class Stop(Callback):
        def on_train_begin(self, training: TrainingParts) -> None:
            raise Begun

    settings, rank = load_config(config), os.environ["RANK"]
    begun, wall = time.process_time(), time.monotonic()
    try:
        run(settings, callbacks=[*([StartLines(settings)] if rank == "0" else []), Stop()])
    except Begun:
        counts = {
            "seconds": time.process_time() - begun,
            "wall": time.monotonic() - wall,
            "encoded": encoded,
            "prompts": prompts.total() - prompts[""],
            "hashed": hashed,
        }
        config.with_name(f"{rank}.json").write_text(json.dumps(counts), encoding="utf-8")


def started(code: Path, questions: int) -> dict[str, float]:
    """Start the run of `code` in an empty folder; the counts of both processes."""
    with tempfile.TemporaryDirectory() as folder:
        config = world(Path(folder), questions)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, __file__, "--count", str(config)],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stderr)
        both = [json.loads(config.with_name(f"{rank}.json").read_text()) for rank in (0, 1)]
        data = config.with_name("corpus.jsonl").read_text() + config.with_name("train.jsonl").read_text()
    records = list(map(json.loads, data.splitlines()))
    known = {r[key] for r in records for key in ("title", "text", "question") if key in r}
    texts: Counter[str] = Counter()
    for one in both:
        for text, times in one["encoded"].items():
            texts[text.removeprefix("x\n").removesuffix("\nx")] += times
    hashed = sum((Counter(one["hashed"]) for one in both), Counter())
    return {
        "encoded": texts.total(),
        "texts": sum(text in known for text in texts),
        "texts_again": sum(texts[text] - 1 for text in known if texts[text] > 1),
        "prompts": sum(one["prompts"] for one in both),
        "hashed": hashed.total(),
        "hashed_at_most": max(hashed.values(), default=0),
        "processor_seconds": round(sum(one["seconds"] for one in both), 1),
        "wall_seconds": round(max(one["wall"] for one in both), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--count", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.count:
        count(arguments.count)
        return
    sides = {"ours": HERE, **({"before": arguments.before.resolve()} if arguments.before else {})}
    measured = {name: started(code, arguments.questions) for name, code in sides.items()}
    print(json.dumps({"benchmark": "start", "questions": arguments.questions, **measured}))


if __name__ == "__main__":
    main()
