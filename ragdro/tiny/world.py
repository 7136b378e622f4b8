"""The generated worlds: people, cities, companies, schools, clubs and temples, one fact a passage.

In: a seed. Out: a corpus and questions as the records that `ragdro` reads from JSONL.

A world has 12 people and 24 entities (3 of each of 8 kinds). Each person has one fact per relation (lives
in, works for, …); each entity has one fact: an animal on its emblem, statue, …. A one-hop question asks for
the animal of a named entity, and the right passage is the retriever's first. A two-hop question ("What animal
is on the emblem of the city where Bazor resides?") names a person and a relation, in a verb that the passage
does not use: BM25 finds the person's eight facts and cannot distinguish them. The second passage shares no
name with the question: only the noun leads BM25 to it, together with the other passages of the same noun,
behind the eight.

A noun is used by at most `WORLDS_PER_NOUN` worlds, four facts each: 8 + 3 × 4 passages fit a top-20 list.
In one world those four facts share two animals, so that an answer string is also in passages that do not
help.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragdro.tiny.words import (
    ANIMALS,
    ENDINGS,
    NOUN_QUESTION,
    NOUN_WORDINGS,
    NOUNS,
    RELATIONS,
    all_names,
)

NOUNS_PER_WORLD = 6
WORLDS_PER_NOUN = 3


@dataclass(frozen=True)
class Shape:
    """How many people, entities of a kind, nouns and questions a world has, and how many worlds each split
    has: a fact is needed in one split only. `queries`: whether its questions have follow-up queries."""

    people: int
    entities_per_kind: int
    nouns: int
    one_hop: int
    two_hop: int
    splits: Mapping[str, int]
    queries: bool = False

    @property
    def names(self) -> int:
        """How many names a world takes."""
        return self.people + self.entities_per_kind * len(RELATIONS)


DEMO = Shape(
    people=12,
    entities_per_kind=3,
    nouns=NOUNS_PER_WORLD,
    one_hop=12,
    two_hop=30,
    splits={"train": 9, "validation": 2, "test": 5},
)


@dataclass(frozen=True)
class Fact:
    """One passage: its subject (the title), what it says of whom, and the text."""

    subject: str
    relation: str
    object: str
    text: str


@dataclass(frozen=True)
class WorldQuestion:
    """A question, its answer and the facts it needs, in the order they must be found."""

    question: str
    answer: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class World:
    """The facts of one world and the questions about them."""

    facts: tuple[Fact, ...]
    questions: tuple[WorldQuestion, ...]


@dataclass(frozen=True)
class DemoWorld:
    """The demo's corpus (of all its worlds together) and its questions by split, as JSON records."""

    corpus: list[dict[str, str]]
    questions: dict[str, list[dict[str, object]]]


def make_world(rng: random.Random, names: Sequence[str], nouns: Sequence[str], shape: Shape = DEMO) -> World:
    """A world with `names` (all different, as many as the shape takes) and `nouns`; every draw comes from
    `rng`."""
    people = list(names[: shape.people])
    kinds, size = len(RELATIONS), shape.entities_per_kind
    entities = [list(names[shape.people + k * size : shape.people + (k + 1) * size]) for k in range(kinds)]
    noun_facts = _noun_facts(rng, [e for group in entities for e in group], nouns)
    person_facts = {
        (person, k): _person_fact(rng, person, k, entities[k][(i + k) % size])
        for k in range(kinds)
        for i, person in enumerate(rng.sample(people, len(people)))
    }
    asked = rng.sample(list(person_facts.items()), shape.two_hop)
    two_hop = [_two_hop(k, fact, noun_facts[fact.object]) for (_, k), fact in asked]
    one_hop = [
        WorldQuestion(NOUN_QUESTION.format(n=f.relation, e=f.subject), f.object, (f,))
        for f in rng.sample(list(noun_facts.values()), shape.one_hop)
    ]
    return World((*person_facts.values(), *noun_facts.values()), (*two_hop, *one_hop))


def _noun_facts(rng: random.Random, entities: Sequence[str], nouns: Sequence[str]) -> dict[str, Fact]:
    """One fact for each entity; the facts of a noun share two animals, half and half."""
    shuffled = rng.sample(entities, len(entities))
    size = len(entities) // len(nouns)
    facts: dict[str, Fact] = {}
    for i, noun in enumerate(nouns):
        animals = rng.sample(ANIMALS, 2)
        for j, entity in enumerate(shuffled[i * size : (i + 1) * size]):
            animal = animals[j % 2]
            text = rng.choice(NOUN_WORDINGS).format(e=entity, n=noun, v=animal)
            facts[entity] = Fact(entity, noun, animal, text)
    return facts


def _person_fact(rng: random.Random, person: str, kind: int, entity: str) -> Fact:
    relation = RELATIONS[kind]
    return Fact(person, relation.kind, entity, relation.fact(person, entity, rng.choice(ENDINGS)))


def _two_hop(kind: int, first: Fact, second: Fact) -> WorldQuestion:
    question = NOUN_QUESTION.format(n=second.relation, e=RELATIONS[kind].phrase(first.subject))
    return WorldQuestion(question, second.object, (first, second))


def make_worlds(
    rng: random.Random, count: int, names: Sequence[str], nouns: Sequence[str], shape: Shape = DEMO
) -> list[World]:
    """`count` worlds with no name in common; the uses of any two of `nouns` differ by one world at most."""
    size = shape.names
    drawn = rng.sample(names, count * size)
    used = dict.fromkeys(nouns, 0)
    worlds = []
    for i in range(count):
        # The least used first (ties by chance): a greedy draw at random could leave too few different nouns.
        order = sorted(rng.sample(nouns, len(nouns)), key=used.__getitem__)
        chosen = order[: shape.nouns]
        for noun in chosen:
            used[noun] += 1
        worlds.append(make_world(rng, drawn[i * size : (i + 1) * size], chosen, shape))
    return worlds


def build_world(seed: int, shape: Shape = DEMO, nouns: Sequence[str] = NOUNS) -> DemoWorld:
    """All worlds of a shape. The demo: 16 worlds, 1,920 passages; train 378, validation 84, test 210
    questions. Same seed, same records."""
    rng = random.Random(seed)
    worlds = make_worlds(rng, sum(shape.splits.values()), all_names(), nouns, shape)
    facts = [fact for world in worlds for fact in world.facts]
    rng.shuffle(facts)
    corpus = [{"id": f"p{i:04d}", "title": fact.subject, "text": fact.text} for i, fact in enumerate(facts)]
    questions: dict[str, list[dict[str, object]]] = {}
    for split, count in shape.splits.items():
        drawn = [question for world in worlds[:count] for question in world.questions]
        worlds = worlds[count:]
        rng.shuffle(drawn)
        questions[split] = [
            _question_record(f"{split}-{i:03d}", question, queries=shape.queries)
            for i, question in enumerate(drawn)
        ]
    return DemoWorld(corpus, questions)


def _question_record(identifier: str, question: WorldQuestion, *, queries: bool) -> dict[str, object]:
    follow_up = [f"{fact.subject} {fact.relation}" for fact in question.facts[1:]]
    return {
        "id": identifier,
        "question": question.question,
        "answers": [question.answer],
        "passages": [{"title": fact.subject, "text": fact.text, "gold": True} for fact in question.facts],
        "hops": len(question.facts),
        **({"queries": follow_up} if queries else {}),
    }


def write_world(folder: Path, seed: int = 0) -> None:
    """Write `corpus.jsonl` and `train.jsonl`, `validation.jsonl`, `test.jsonl` of `build_world(seed)` to
    `folder`."""
    write_records(folder, build_world(seed))


def write_records(folder: Path, demo: DemoWorld) -> None:
    """Write a world's corpus and the questions of each split to `folder`, a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Sequence[object]] = {"corpus": demo.corpus, **demo.questions}
    for name, records in files.items():
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
