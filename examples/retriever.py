"""A retriever and a metric of one's own, named in a config by import paths.  python examples/retriever.py"""

from __future__ import annotations

from collections.abc import Sequence

import ragdro

SHELF = [
    ragdro.Passage("risor", "", "Risor shows a mule upon its painting"),
    ragdro.Passage("kepin", "", "Kepin shows a lobster upon its sculpture"),
    ragdro.Passage("desus", "", "Desus buys from Kepin today"),
]


class Shelf:
    """`retriever: {kind: "retriever:Shelf"}`: by how many words a passage and the question have in common."""

    fingerprint = "shelf 1"  # candidates are cached under it

    def search(self, queries: Sequence[str], top_n: int) -> list[list[tuple[ragdro.Passage, float]]]:
        """The `top_n` best passages of each query, with their scores."""
        return [
            sorted(((p, _common(q, p.text)) for p in SHELF), key=lambda hit: -hit[1])[:top_n] for q in queries
        ]


def short(answer: str, golds: Sequence[str]) -> float:
    """`evaluation.metrics: ["retriever:short"]`: whether an answer is no longer than the gold ones
    (words)."""
    return float(len(answer.split()) <= max(len(gold.split()) for gold in golds))


def _common(question: str, text: str) -> float:
    return float(len(set(question.lower().split()) & set(text.lower().split())))


if __name__ == "__main__":
    for passage, score in Shelf().search(["What animal is on the painting of Risor"], 2)[0]:
        print(f"{score:.0f}  {passage.text}")
