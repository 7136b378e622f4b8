"""What to answer from passages, and how likely an answer is under them.  python examples/answer.py"""

from __future__ import annotations

from ragdro import Generator

QUESTION = "What animal is on the painting of Risor?"
PASSAGES = [
    "Risor shows a mule upon its painting",
    "Kepin shows a lobster upon its sculpture",
    {"id": "p3", "title": "Desus", "text": "Desus buys from Kepin today"},
]


def main() -> None:
    # The embedded model has its own short prompt; for another one leave `prompt` out.
    generator = Generator.from_pretrained("tiny:base", answer_tokens=6, prompt="tiny-generator")
    print("answer:", generator.answer(QUESTION, PASSAGES))
    for name, passages in (("all passages", PASSAGES), ("the last two", PASSAGES[1:])):
        print(f"log p(mule) from {name}: {generator.log_likelihood(QUESTION, passages, 'mule'):.2f} nats")


if __name__ == "__main__":
    main()
