"""Train a run, load it, ask it: its own corpus, given passages, many questions.  python examples/load.py"""

from __future__ import annotations

import tempfile
from pathlib import Path

import ragdro

TINY = Path(__file__).parents[1] / "configs/tiny.yaml"
SHORT = [
    "iterations=0",  # the warm-up alone, so that this takes seconds: what it answers is often wrong
    "data.train_questions=16",
    "evaluation.questions=8",
    "evaluation.tight_samples=null",
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        places = [f"runs={folder}", f"cache={folder}/cache"]
        ragdro.run(ragdro.load_config(TINY, [*SHORT, *places]))
        rag = ragdro.load(f"{folder}/tiny")
        prediction = rag.answer("What animal is on the sculpture of the shop where Desus pays?")
        print("answer:", prediction.answer)
        print("read:", len(prediction.selected), "of", len(prediction.task.candidates.passages), "candidates")
        given = rag.answer(
            "What animal is on the painting of Risor?", ["Risor shows a mule upon its painting"]
        )
        print("from one passage:", given.answer)
        print("many:", len(rag.answer_many(["Where does Desus pay?", "Where does Minus pay?"])))


if __name__ == "__main__":
    main()
