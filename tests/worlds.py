"""A pocket-sized system for tests: a few questions with candidates, random models, our own classes."""

from __future__ import annotations

from typing import Literal

import torch

from ragdro.generation.generator import Generator
from ragdro.lm.projections import Projections
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.selection.selector import selector_class
from ragdro.system import Rag
from ragdro.types import Candidates, Passage, Question, Task
from tests.conftest import byte_level, random_model

TOWNS = ("Freedonia", "Zubrowka", "Latveria", "Genovia", "Sokovia", "Wakanda")


def pocket_tasks(questions: int, candidates: int) -> list[Task]:
    """Question i asks for a town; its gold passages are candidates 2 (who works where) and 3."""
    tasks = []
    for i in range(questions):
        town = TOWNS[i % len(TOWNS)]
        texts = [f"Person{j} works for Firm{(i + j) % 7}." for j in range(candidates)]
        texts[2], texts[3] = f"Mara{i} works for Firm{i}.", f"Firm{i} is in {town}."
        passages = tuple(Passage(f"{i}-{j}", f"Title {j}", text) for j, text in enumerate(texts))
        gold = tuple(Passage(p.id, p.title, p.text, True) for p in passages[2:4])
        question = Question(f"q{i}", f"where does Mara{i} work?", (town, f"the land of {town}"), gold, hops=2)
        tasks.append(Task(question, Candidates(question.id, passages)))
    return tasks


def pocket_rag(
    k: int = 2,
    n: int = 5,
    seed: int = 0,
    kind: str = "list",
    passage_attention: Literal["full", "blocks"] = "full",
    **settings: object,
) -> Rag:
    """Two random models of different seeds behind the tiny prompts; so are a pointer's projections."""
    tokenizer, budget = byte_level(), Budget(24, 24)
    chooser = random_model(tokenizer, seed=2 * seed, **settings)
    reader = random_model(tokenizer, seed=2 * seed + 1, **settings)
    if kind == "pointer":
        chooser.projections = Projections(32, seed=seed)
        drawn = torch.Generator().manual_seed(seed)
        for matrix in (chooser.projections.passage, chooser.projections.query):
            matrix.data += 0.3 * torch.randn(matrix.shape, generator=drawn)
    template = load_template({"list": "tiny-selector", "pointer": "tiny-pointer"}[kind])
    return Rag(
        selector_class(kind)(chooser, template, k=k, n=n, budget=budget),
        Generator(
            reader,
            load_template("tiny-generator"),
            budget=budget,
            answer_tokens=6,
            passage_attention=passage_attention,
        ),
    )
