"""What a request's body makes of the server's way of answering."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ragdro.config import Answering
from ragdro.errors import ConfigError
from ragdro.serve.schemas import AnswerRequest

MARGINAL = Answering(kind="marginal", samples=6, thoughts=2)


def test_thoughts_of_a_request_are_a_marginal_answers() -> None:
    assert AnswerRequest(question="q").answering_of(MARGINAL).thoughts == 2
    asked = AnswerRequest(question="q", thoughts=5).answering_of(MARGINAL)
    assert (asked.kind, asked.samples, asked.thoughts) == ("marginal", 6, 5)
    of_greedy = AnswerRequest(question="q", answering="marginal", thoughts=3).answering_of(Answering())
    assert (of_greedy.kind, of_greedy.thoughts) == ("marginal", 3)
    with pytest.raises(ConfigError, match="thoughts: a greedy answer has the likeliest one"):
        AnswerRequest(question="q", answering="greedy", thoughts=3).answering_of(MARGINAL)
    with pytest.raises(ValidationError, match="thoughts"):
        AnswerRequest(question="q", thoughts=0)
