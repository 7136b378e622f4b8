"""Written queries against loops over the model's plain forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ragdro.errors import ConfigError
from ragdro.generation.reading import Reading
from ragdro.lm.scoring import score_all
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.rewriting.rewriter import Rewriter
from ragdro.types import ENOUGH
from tests.conftest import byte_level, random_model
from tests.worlds import pocket_tasks

TOKENS = 10_000


def rewriter(**settings: object) -> Rewriter:
    model = random_model(byte_level(), seed=5, **settings)
    return Rewriter(model, load_template("tiny-rewriter"), budget=Budget(24, 24), query_tokens=4)


def readings() -> list[Reading]:
    return [
        Reading(task.question, task.candidates.passages[: i + 1]) for i, task in enumerate(pocket_tasks(3, 5))
    ]


def next_log_p(rewriter: Rewriter, tokens: list[int]) -> torch.Tensor:
    logits = rewriter.model.hf(input_ids=torch.tensor([tokens])).logits[0, -1]
    return logits.double().log_softmax(-1).detach()


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_draws_invert_the_models_own_distribution(temperature: float) -> None:
    asks, rng = rewriter(), np.random.default_rng(1)
    numbers = [rng.random((count, 4)) for count in (3, 1, 2)]
    drawn = asks.sample(readings(), numbers, temperature=temperature, max_tokens=TOKENS)
    assert [len(own) for own in drawn] == [3, 1, 2]
    for one, rows, queries in zip(readings(), numbers, drawn, strict=True):
        for row, query in zip(rows, queries, strict=True):
            tokens, log_p, log_q = list[int](), 0.0, 0.0
            for u in row:
                p = next_log_p(asks, [*asks.prompt(one).tolist(), *tokens])
                q = (p / temperature).log_softmax(-1)
                tokens.append(int((q.exp().cumsum(-1) <= u).sum()))
                log_p, log_q = log_p + float(p[tokens[-1]]), log_q + float(q[tokens[-1]])
                if tokens[-1] in asks.model.tokenizer.end_ids:
                    break
            assert list(query.tokens) == tokens and query.text == asks.model.tokenizer.decode(tokens)
            assert query.log_prior == pytest.approx(log_p, abs=1e-4)
            assert query.log_proposal == pytest.approx(log_q, abs=1e-4)


def test_what_was_drawn_is_scored_alike() -> None:
    asks = rewriter()
    numbers = [np.random.default_rng(i).random((4, 4)) for i in range(3)]
    drawn = asks.sample(readings(), numbers, temperature=1.0, max_tokens=TOKENS)
    groups = [asks.group(r, [q.tokens for q in own]) for r, own in zip(readings(), drawn, strict=True)]
    for own, scores in zip(drawn, score_all(asks.model, groups, TOKENS), strict=True):
        assert [q.log_prior for q in own] == pytest.approx(scores, abs=1e-4)
        assert [q.log_proposal for q in own] == [q.log_prior for q in own]


def test_what_can_be_written_has_all_the_probability() -> None:
    """Queries of two tokens at most: the end, and every other token with everything behind it."""
    asks = rewriter()
    asks.query_tokens = 2
    (one, *_), end = readings(), asks.model.tokenizer.end_ids
    vocabulary = asks.model.hf.config.vocab_size
    likely = next_log_p(asks, asks.prompt(one).tolist()).argsort(descending=True)[:6].tolist()
    for first in set(likely) - set(end):
        group = asks.group(one, [(first, second) for second in range(vocabulary)])
        alone = asks.group(one, [(first,)])
        total = torch.tensor(score_all(asks.model, [group], 10**6)[0]).logsumexp(0)
        assert float(total) == pytest.approx(score_all(asks.model, [alone], TOKENS)[0][0], abs=1e-3)


def test_the_greedy_query_takes_the_likeliest_token_at_each_place() -> None:
    asks = rewriter()
    together = asks.greedy(readings(), TOKENS)
    for one, query in zip(readings(), together, strict=True):
        tokens = list[int]()
        while len(tokens) < 4 and not set(tokens) & set(asks.model.tokenizer.end_ids):
            tokens.append(int(next_log_p(asks, [*asks.prompt(one).tolist(), *tokens]).argmax()))
        assert list(query.tokens) == tokens


def test_a_teachers_query_is_one_that_could_be_drawn() -> None:
    asks = rewriter()
    tokens = asks.query_ids("a")
    assert tokens[-1] == asks.model.tokenizer.end_id and asks.model.tokenizer.decode(list(tokens)) == "a"
    cut = asks.query_ids("where does Mara Voss work today and tomorrow")
    assert len(cut) == 4 and asks.model.tokenizer.end_id not in cut
    asks.query_tokens = 30
    assert asks.model.tokenizer.decode(list(asks.query_ids(ENOUGH))) == ENOUGH


def test_a_prompt_that_does_not_fit_the_model_is_refused_by_the_key_to_lower() -> None:
    asks = rewriter(max_position_embeddings=64)
    asks.budget = Budget(24, 90)
    task = pocket_tasks(1, 5)[0]
    with pytest.raises(ConfigError, match=r"rewriter.passage_tokens.*64 positions"):
        asks.prompt(Reading(task.question, task.candidates.passages))
