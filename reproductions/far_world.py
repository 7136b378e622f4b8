"""The embedded world that has to be asked twice, and what is counted of its answers: of `far.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

import ragdro
from ragdro.config.retrieval import Retrieval
from ragdro.evaluation.evaluate import evaluate
from ragdro.retrieval.queries import as_find
from ragdro.rewriting.asking import Asking
from ragdro.sources import resolve
from ragdro.system import Rag, as_retrieve
from ragdro.training.tasks import tasks_of
from ragdro.types import Prediction, Question, Task

TOP_N = 20


class World:
    """The models, each from the embedded base, the corpus's retriever and the first `most` questions of each
    split (None: all)."""

    def __init__(self, most: int | None) -> None:
        texts: dict[str, int] = {"question_tokens": 48, "passage_tokens": 24}
        base = "tiny:base"
        self.selector = ragdro.Selector.from_pretrained(base, k=3, n=TOP_N, prompt="tiny-selector", **texts)
        self.generator = ragdro.Generator.from_pretrained(
            base, answer_tokens=6, prompt="tiny-generator", **texts
        )
        self.rewriter = ragdro.Rewriter.from_pretrained(base, query_tokens=5, prompt="tiny-rewriter", **texts)
        self.retriever = ragdro.retriever_over(ragdro.read_corpus(resolve("tiny:far-corpus")))
        self.questions = {
            split: ragdro.load_questions(resolve(f"tiny:far-{split}"))[:most]
            for split in ("train", "validation", "test")
        }

    @property
    def models(self) -> list[torch.nn.Module]:
        """Those that are trained."""
        return [part.model.hf for part in (self.selector, self.generator, self.rewriter)]

    def load(self, path: Path) -> None:
        """The weights that `save` wrote."""
        for model, weights in zip(self.models, torch.load(path), strict=True):
            model.load_state_dict(weights)

    def save(self, path: Path) -> None:
        """The weights of all models."""
        torch.save([model.state_dict() for model in self.models], path)

    @property
    def tasks(self) -> list[Task]:
        """The test questions, with the candidates of a first search."""
        return tasks_of(self.questions["test"], as_retrieve(self.retriever, TOP_N), TOP_N) or []

    def rag(self, retrieval: Retrieval) -> Rag:
        """The models as one system."""
        asking = None
        if retrieval.rounds > 1:
            asking = Asking(self.rewriter, as_find(self.retriever), retrieval, self.selector)
        retrieve = as_retrieve(self.retriever, TOP_N)
        return Rag(self.selector, self.generator, retrieve, 4096, asking=asking)


def scores(predictions: Sequence[Prediction]) -> dict[str, float | None]:
    """Means over the questions."""
    records = [evaluate(one) for one in predictions]
    of_hops = {h: [r["exact_match"] for r in records if r["hops"] == h] for h in (1, 2)}
    named = [asks_for_it(one) for one in predictions if one.task.question.hops == 2]
    return {
        "two_hop": sum(of_hops[2]) / len(of_hops[2]),
        "one_hop": sum(of_hops[1]) / len(of_hops[1]),
        "full_recall": sum(r["full_recall"] for r in records) / len(records),
        "named": sum(named) / len(named) if any(one.selection.path for one in predictions) else None,
        "searches": sum(map(searches, predictions)) / len(predictions),
    }


def searches(prediction: Prediction) -> int:
    """How many queries were searched for."""
    path = prediction.selection.path
    return 1 if path is None else sum(bool(one.candidates.passages) for one in path.rounds)


def asks_for_it(prediction: Prediction) -> bool:
    """Whether the written query names the second passage's entity."""
    path, question = prediction.selection.path, prediction.task.question
    written = path.rounds[1].query.split() if path is not None and len(path.rounds) > 1 else []
    return name_of(question) in written


def name_of(question: Question) -> str:
    """The entity of a two-hop question."""
    return question.gold_passages[-1].title
