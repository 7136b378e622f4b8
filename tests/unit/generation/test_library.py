"""The generator without a config: what `answer` and `log_likelihood` say is what a run's own methods say."""

from __future__ import annotations

import pytest

from ragdro.errors import ConfigError, DataError, ModelError
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.lm.scoring import score_all
from ragdro.types import Passage, Question

QUESTION = "What animal is on the painting of Risor?"
TEXTS = ["Risor shows a mule upon its painting", "Vufan sings at Sivel"]


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_pretrained("tiny:base", answer_tokens=4, prompt="tiny-generator", device="cpu")


def test_answer_and_log_likelihood_are_those_of_a_run(generator: Generator) -> None:
    passages = tuple(Passage(str(i), "", text) for i, text in enumerate(TEXTS))
    reading = Reading(Question("q", QUESTION, ("mule",)), passages)
    assert [generator.answer(QUESTION, TEXTS)] == generator.answer_many([reading], 9999)
    ((expected,),) = score_all(generator.model, [generator.group([reading])], 9999)
    assert generator.log_likelihood(QUESTION, [{"text": t} for t in TEXTS], "mule") == pytest.approx(expected)
    assert generator.log_likelihood(QUESTION, TEXTS[1:], "mule") < expected
    assert isinstance(generator.answer(QUESTION, []), str)


def test_what_cannot_be_answered_or_loaded_is_named(generator: Generator) -> None:
    with pytest.raises(DataError, match=r"answer: has .* tokens, more than answer_tokens = 4"):
        generator.log_likelihood(QUESTION, TEXTS, "mule " * 5)
    with pytest.raises(DataError, match="question: is empty"):
        generator.answer("", TEXTS)
    with pytest.raises(ConfigError, match="answer_tokens: must be at least 1"):
        Generator.from_pretrained("tiny:base", answer_tokens=0)
    with pytest.raises(ModelError, match="no/such/folder: no such checkpoint folder"):
        Generator.from_pretrained("no/such/folder")
