"""Train both models in memory: no config file, no run folder.  python examples/train.py"""

from __future__ import annotations

import ragdro
from ragdro.algorithms import Dro
from ragdro.config import Evaluation, MStep, Optimisation, WarmUp
from ragdro.sources import resolve


class Print(ragdro.Callback):
    """Says how each stage went."""

    def on_evaluation(self, stage: str, split: str, metrics: dict[str, float], records: list[object]) -> None:
        """See `Callback`."""
        print(f"{stage}: exact match {metrics['exact_match']:.2f}, full recall {metrics['full_recall']:.2f}")


def main(questions: int = 48, held_out: int = 24, iterations: int = 3) -> None:
    # The embedded world; with files of your own leave out `resolve`.
    passages = ragdro.retriever_over(ragdro.read_corpus(resolve("tiny:corpus")))
    train, validation = (ragdro.load_questions(resolve(f"tiny:{part}")) for part in ("train", "validation"))
    selector = ragdro.Selector.from_pretrained("tiny:base", k=5, prompt="tiny-selector")
    generator = ragdro.Generator.from_pretrained("tiny:base", answer_tokens=6, prompt="tiny-generator")
    fit = Optimisation(learning_rate=1e-4, batch_size=16, beta2=0.98)
    how = {
        "warm_up": WarmUp(selector=None, generator=fit),
        "m_step": MStep(selector=fit, generator=fit),
        "evaluation": Evaluation(tight_samples=None),
        "iterations": iterations,
    }
    splits = {"questions": train[:questions], "validation": validation[:held_out], "retriever": passages}
    ragdro.train(selector, generator, **splits, algorithm=Dro(samples=8), callbacks=[Print()], **how)
    rag = ragdro.Rag(selector, generator, lambda asked: list(passages.search(asked, 20)))
    print(rag.answer(validation[0].question).answer, "is right:", ", ".join(validation[0].answers))


if __name__ == "__main__":
    main()
