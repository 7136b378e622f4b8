"""The documents that the tiny base is pre-trained on, from worlds that are drawn anew all the time.

Three kinds, each a list of `Piece`s (text and loss weight):
- *selection*: the selector's prompt and a list of identifiers, in one of two styles, as a base model would
  have seen lists of several: the facts needed, in order (`chain`), or simply the retriever's order.
- *reading*: the generator's prompt and the answer; now and then a passage that is needed is missing.
- *lookup*: one list of candidates and many short queries. It asks for many identifiers in one sequence, which
  is what a small model needs to learn to carry an identifier from a passage to the place where it is asked
  for.

The candidates imitate BM25's list (names weigh most, then nouns; ties by chance).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from ragdro.tiny.tokenizer import END
from ragdro.tiny.words import NOUNS, all_names
from ragdro.tiny.world import (
    NOUNS_PER_WORLD,
    WORLDS_PER_NOUN,
    Fact,
    World,
    WorldQuestion,
    make_worlds,
)

CANDIDATES = 20
SELECTED = 5
QUESTIONS_PER_CLUSTER = 30
"""How often one cluster of worlds is asked before a new one is made: few, or facts would be worth storing."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a document and how much the loss counts its tokens."""

    text: str
    weight: float


@dataclass(frozen=True)
class Mixture:
    """Shares: of two-hop questions, of lists that are chains, of readings that lack a passage."""

    two_hop: float = 0.7
    chain: float = 0.2
    missing: float = 0.1


CONTEXT, COPY, TARGET = 0.1, 0.5, 1.0
"""Loss weights: candidates are mostly noise, the question follows from them in part, targets matter."""


class DocumentSource:
    """An endless source of documents; every draw comes from `rng`."""

    def __init__(self, rng: random.Random, mixture: Mixture) -> None:
        self.rng = rng
        self.mixture = mixture
        self._names = all_names()
        self.clusters = self._questions()

    def _questions(self) -> Iterator[tuple[list[World], WorldQuestion]]:
        while True:
            nouns = self.rng.sample(NOUNS, NOUNS_PER_WORLD)
            worlds = make_worlds(self.rng, WORLDS_PER_NOUN, self._names, nouns)
            asked = [question for world in worlds for question in world.questions]
            hops = {n: [q for q in asked if len(q.facts) == n] for n in (1, 2)}
            for _ in range(QUESTIONS_PER_CLUSTER):
                yield worlds, self.rng.choice(hops[2 if self.rng.random() < self.mixture.two_hop else 1])

    def document(self, kind: str, candidates: int) -> list[Piece]:
        """A document of a kind (`lookup`, `reading`, `selection`) with so many candidates."""
        worlds, question = next(self.clusters)
        if kind == "lookup":
            return self.lookup(self.rng.choice(worlds), candidates)
        ranked = self.ranked(worlds, question)
        if kind == "reading":
            return self.reading(question, ranked)
        assert kind == "selection", kind
        return self.selection(question, self.shortened(question, ranked, candidates))

    def ranked(self, worlds: list[World], question: WorldQuestion) -> list[Fact]:
        """The 20 best candidates by the overlap with the question, as BM25 would rank them."""
        asked = set(question.question.strip("?").split())
        scored = []
        for world in worlds:
            for fact in world.facts:
                score = self.rng.random() + 6.0 * (fact.subject in asked)
                score += sum(_overlap(word) for word in fact.text.split() if word in asked)
                scored.append((score, fact))
        best = sorted(scored, key=lambda pair: -pair[0])[:CANDIDATES]
        missing = [fact for fact in question.facts if all(fact is not other for _, other in best)]
        return [fact for _, fact in best[: CANDIDATES - len(missing)]] + missing

    def shortened(self, question: WorldQuestion, ranked: list[Fact], size: int) -> list[Fact]:
        """`size` of the ranked candidates in their order, with those that the question needs."""
        others = [i for i, fact in enumerate(ranked) if fact not in question.facts]
        kept = set(self.rng.sample(others, min(len(others), size - len(question.facts))))
        return [fact for i, fact in enumerate(ranked) if i in kept or fact in question.facts]

    def selection(
        self, question: WorldQuestion, ranked: list[Fact], *, chain: bool | None = None
    ) -> list[Piece]:
        """The selector's prompt and a list: the facts needed first (`chain`; drawn if None), then the
        ranking's order."""
        if chain is None:
            chain = self.rng.random() < self.mixture.chain
        needed = question.facts if chain else ()
        first = [next(i for i, fact in enumerate(ranked) if fact is other) for other in needed]
        order = [*first, *(i for i in range(len(ranked)) if i not in first)][:SELECTED]
        listed = "".join(f"\n[{i}] {fact.text}" for i, fact in enumerate(ranked, 1))
        return [
            Piece(f"Passages:{listed}", CONTEXT),
            Piece(f"\nQuestion: {question.question} Selection:", COPY),
            Piece(" " + " > ".join(f"[{i + 1}]" for i in order) + END, TARGET),
        ]

    def reading(self, question: WorldQuestion, ranked: list[Fact], size: int | None = None) -> list[Piece]:
        """The generator's prompt with 2 to 4 passages (or `size`) in random order, and the answer."""
        needed = list(question.facts)
        if size is None:
            size = self.rng.randint(2, 4)
            if self.rng.random() < self.mixture.missing:
                needed.pop(self.rng.randrange(len(needed)))
        others = [fact for fact in ranked if fact not in question.facts]
        shown = needed + self.rng.sample(others, size - len(needed))
        self.rng.shuffle(shown)
        listed = "".join(f"\n{fact.text}" for fact in shown)
        return [
            Piece(f"Passages:{listed}", CONTEXT),
            Piece(f"\nQuestion: {question.question} Answer:", COPY),
            Piece(f" {question.answer}{END}", TARGET),
        ]

    def lookup(self, world: World, candidates: int) -> list[Piece]:
        """Pairs of a person's fact and the entity's, shuffled, then queries.

        A query names a person and the question's verb and is answered by both identifiers, or by the entity
        and its identifier; or it names the entity alone. The easier forms are the two halves of the first.
        """
        pairs: list[tuple[str, Fact, Fact]] = []
        for question in self.rng.sample(world.questions, len(world.questions)):
            if len(question.facts) == 2 and len(pairs) < candidates // 2:
                first, second = question.facts
                pairs.append((question.question.strip("?").split()[-1], first, second))
        listed = [fact for _, *facts in pairs for fact in facts]
        self.rng.shuffle(listed)
        number = {fact: i for i, fact in enumerate(listed, 1)}
        pieces = [
            Piece("Find:" + "".join(f"\n[{i}] {fact.text}" for i, fact in enumerate(listed, 1)), CONTEXT)
        ]
        for verb, first, second in self.rng.sample(pairs, len(pairs)):
            draw = self.rng.random()
            asked = second.subject if draw < 0.25 else f"{first.subject} {verb}"
            first_hop = (
                "" if draw < 0.25 else f" {second.subject} >" if draw < 0.5 else f" [{number[first]}] >"
            )
            pieces.append(Piece(f"\n{asked} >", CONTEXT))
            pieces.append(Piece(f"{first_hop} [{number[second]}]", TARGET))
        return [*pieces, Piece(END, CONTEXT)]


def _overlap(word: str) -> float:
    """A rough inverse document frequency of a passage's word that the question has too."""
    return 5.0 if word in NOUNS else 6.0 if word[0].isupper() else 0.0
