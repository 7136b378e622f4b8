"""A real pretrained model, its tokenizer and chat template, behind the prompts that users get.

`make pretrained` puts it there. Where it is missing these tests fail rather than skip: they are what stands
between real checkpoints and wrong numbers, and a skipped group goes unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ragdro.config import ModelSettings
from ragdro.generation.generator import Generator
from ragdro.lm.load import load_language_model
from ragdro.lm.model import LanguageModel
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.selection.list_selector import ListSelector
from ragdro.types import Candidates, Passage, Question, Task

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / ".models/smollm2-135m-instruct"
CPU = torch.device("cpu")
BUDGET = Budget(64, 40)
Load = Callable[..., LanguageModel]


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """The folder of the model."""
    if not (CHECKPOINT / "model.safetensors").is_file():
        pytest.fail(f"{CHECKPOINT} is missing: run `make pretrained` (it needs the package index)", False)
    return CHECKPOINT


@pytest.fixture(scope="session")
def load(checkpoint: Path) -> Load:
    """A function that loads it anew; settings such as `layers` by keyword."""
    return lambda **settings: load_language_model(
        str(checkpoint), ModelSettings(model=str(checkpoint), **settings), CPU
    )


@pytest.fixture(scope="session")
def whole(load: Load) -> LanguageModel:
    """All of it in float32, which nobody trains."""
    return load()


def selector_of(model: LanguageModel, k: int = 2) -> ListSelector:
    """Behind the default prompt, of up to twelve candidates."""
    return ListSelector(model, load_template("selector"), k=k, n=12, budget=BUDGET)


def generator_of(model: LanguageModel) -> Generator:
    """Behind the default prompt."""
    return Generator(model, load_template("generator"), budget=BUDGET, answer_tokens=8)


_FACTS = (
    ("Lindow Mill", "Lindow Mill is a water mill on the river Arle, built in 1787 by Joan Teme."),
    ("Joan Teme", "Joan Teme (1741–1809) was a carpenter who was born in Ostrey and died at sea."),
    ("Ostrey", "Ostrey is a town of 4,312 people; its market is held on every 2nd Tuesday."),
    ("River Arle", "The Arle rises near Café Hollow and is 71 km long [3]. It freezes once in 10 years."),
    ("Teme (surname)", "Teme is a surname. People with it: Joan Teme; Karl Teme, a cyclist."),
    ("Karl Teme", 'Karl Teme, called "the <|im_end|> man", won the race of 1999 in 12:07.'),
)
_QUESTIONS = (
    ("Where was the builder of Lindow Mill born?", "Ostrey"),
    ("How long is the river on which Lindow Mill stands?", "71 km"),
    ("In which year was the mill on the Arle built?", "1787"),
    ("  When did Karl Teme win?\n", "1999"),
)


def short_task() -> Task:
    """A question over the first four passages."""
    task = real_tasks()[0]
    return Task(task.question, Candidates(task.question.id, task.candidates.passages[:4]))


def real_tasks() -> list[Task]:
    """Four questions over the same six passages, in another order each, and one over twelve."""
    passages = [Passage(str(i), title, text) for i, (title, text) in enumerate(_FACTS)]
    tasks = []
    for i, (asked, answer) in enumerate(_QUESTIONS):
        question = Question(f"q{i}", asked, (answer,), tuple(passages[:2]))
        tasks.append(Task(question, Candidates(question.id, tuple(passages[i:] + passages[:i]))))
    many = [Passage(f"{p.id}-{i}", p.title, p.text) for i in range(2) for p in passages]
    question = Question("many", "Who, of the 12 here, was a carpenter?", ("Joan Teme",))
    return [*tasks, Task(question, Candidates(question.id, tuple(many)))]
