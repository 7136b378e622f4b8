"""Which passages to read: a selector orders them and says how sure it is.  python examples/rerank.py"""

from __future__ import annotations

from ragdro import Selector

QUESTION = "What animal is on the sculpture of the shop where Desus pays?"
PASSAGES = [
    "Vufan sings at Sivel",
    "Desus buys from Kepin today",
    "Kepin shows a lobster upon its sculpture",
    "Risor shows a mule upon its painting",
    {"id": "p5", "title": "Sivel", "text": "Sivel put a frog upon its clock"},
    "Minus works for Bolus now",
]


def main() -> None:
    # The embedded model is where training starts: it mostly keeps the order given. It has its own short
    # prompt; for another model leave `prompt` out.
    selector = Selector.from_pretrained("tiny:base", k=3, prompt="tiny-selector")
    ranking = selector.rerank(QUESTION, PASSAGES)
    print("chosen  first  inclusion")
    for ranked in ranking.passages:
        chosen = "  –   " if ranked.probability is None else f"{ranked.probability:6.2f}"
        error = "" if ranking.exact else f" ± {ranked.inclusion_error:.2f}"
        print(f"{chosen} {ranked.first:6.2f}  {ranked.inclusion:.2f}{error}  {ranked.passage.text}")


if __name__ == "__main__":
    main()
