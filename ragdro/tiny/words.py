"""The vocabulary of the generated worlds: names, nouns, animals, and how facts and questions are worded.

Everything here is a constant; nothing is drawn. A name is two syllables (`Bazor`) and a token of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

CONSONANTS = "bdfghjklmnprstvz"
STARTS = [c.upper() + v for c in CONSONANTS for v in "aeiou"]
END_RIMES = ["an", "el", "or", "in", "us"]
ENDS = [c + rime for c in CONSONANTS for rime in END_RIMES]
NAME_STRIDE = 7
REAL_NAMES = {"Satan", "Jesus"}
"""Chance would make these too."""

# fmt: off
ANIMALS = [
    "heron", "wolf", "bear", "fox", "hare", "lion", "tiger", "raven", "falcon", "swan", "goose",
    "duck", "horse", "mule", "goat", "ram", "bull", "cow", "pig", "boar", "deer", "moose", "camel",
    "lynx", "panther", "beaver", "badger", "mole", "rat", "mouse", "frog", "toad", "snake",
    "turtle", "crab", "lobster", "whale", "shark", "salmon", "trout",
]
# fmt: on
"""The answers of questions about an emblem, a statue …: 40, equally likely for each."""
NEW_ANIMALS = ANIMALS[30:]
"""The base forgets these ten, so that the generator has something to learn too (`base.forget`)."""

# fmt: off
NOUNS = [
    "emblem", "mascot", "crest", "seal", "banner", "badge", "statue", "coin", "stamp", "totem",
    "logo", "flag", "medal", "mural", "mask", "trophy", "kite", "puppet", "poster", "fountain",
    "tapestry", "carving", "sculpture", "painting", "lantern", "balloon", "costume", "pendant",
    "sticker", "gate", "door", "roof", "tower", "bridge", "ticket", "uniform", "shield", "calendar",
    "ring", "clock", "window", "carpet", "pillar", "mosaic",
]
# fmt: on
"""What an animal can be shown on: 44, each in few worlds, so that the retriever's list has room for all."""

NOUN_WORDINGS = ["{e} has a {v} upon its {n}", "{e} shows a {v} upon its {n}", "{e} put a {v} upon its {n}"]
NOUN_QUESTION = "What animal is on the {n} of {e}?"
"""No passage shares a function word with a question: BM25 would rank by it what the noun should rank."""


@dataclass(frozen=True)
class Relation:
    """A relation from a person to an entity: its kind of entity, the fact's verb and the question's verb."""

    kind: str
    verb: str
    asked: str

    def fact(self, person: str, entity: str, ending: str) -> str:
        """The passage's text; `ending` is one of `ENDINGS`."""
        return f"{person} {self.verb} {entity}{ending}"

    def phrase(self, person: str) -> str:
        """The entity as a question describes it: in words that the passage does not have."""
        return f"the {self.kind} where {person} {self.asked}"


ENDINGS = ["", " now", " today"]
RELATIONS = [
    Relation("city", "lives in", "resides"),
    Relation("company", "works for", "earns"),
    Relation("school", "studies at", "learns"),
    Relation("club", "plays for", "competes"),
    Relation("temple", "prays at", "worships"),
    Relation("hotel", "sleeps at", "stays"),
    Relation("shop", "buys from", "pays"),
    Relation("theatre", "sings at", "performs"),
]


def all_names() -> list[str]:
    """Every name that a world may use: 914, each a token of its own."""
    return [
        start + end
        for i, start in enumerate(STARTS)
        for j, end in enumerate(ENDS)
        if (i + j) % NAME_STRIDE == 0 and start + end not in REAL_NAMES
    ]


def vocabulary() -> list[str]:
    """The lower- and upper-case words other than names that worlds and prompts are written with, sorted."""
    words = {"Passages", "Question", "Selection", "Answer", "Find", *ANIMALS, *NOUNS, *all_names()}
    templates = [*NOUN_WORDINGS, NOUN_QUESTION, *ENDINGS]
    for relation in RELATIONS:
        templates += [relation.fact("", "", ""), relation.phrase("")]
    for template in templates:
        words.update(word.strip("?") for word in template.split() if not word.startswith("{"))
    return sorted(words)


def content_words() -> list[str]:
    """The words that carry meaning: names, nouns, animals and the verbs of the relations."""
    verbs = [verb for relation in RELATIONS for verb in (relation.verb.split()[0], relation.asked)]
    return [*all_names(), *NOUNS, *ANIMALS, *verbs]
