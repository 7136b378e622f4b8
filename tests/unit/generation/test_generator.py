"""log p(y|x,d_z) and greedy answers against loops over the model's plain forward pass."""

from __future__ import annotations

import pytest
import torch

from ragdro.errors import ConfigError
from ragdro.generation.generator import Generator, Reading
from ragdro.lm.scoring import score_all
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.system import reading
from tests.conftest import byte_level, random_model
from tests.worlds import pocket_rag, pocket_tasks


def test_the_log_likelihood_is_a_sum_over_the_first_answer_and_the_end_token() -> None:
    generator, task = pocket_rag().generator, pocket_tasks(1, 5)[0]
    one = reading(task, (3, 2))
    tokenizer = generator.model.tokenizer
    answer = [*tokenizer.data(" " + task.question.answers[0]), tokenizer.end_id]
    tokens = generator.prompt(one).tolist()
    total = 0.0
    for token in answer:
        logits = generator.model.hf(input_ids=torch.tensor([tokens])).logits[0, -1].double()
        total += float((logits[token] - logits.logsumexp(0)).detach())
        tokens.append(token)
    assert score_all(generator.model, [generator.group([one])], 5000)[0][0] == pytest.approx(total, abs=1e-4)


def test_greedy_answers_do_not_depend_on_the_batch() -> None:
    generator = pocket_rag().generator
    readings = [reading(t, z) for t, z in zip(pocket_tasks(3, 5), [(0, 1), (2,), (4, 3, 1)], strict=True)]
    together = generator.answer_many(readings, 100_000)
    assert together == [generator.answer_many([r], 1)[0] for r in readings]
    tokens = generator.prompt(readings[1]).tolist()
    start = len(tokens)
    for _ in range(generator.answer_tokens):
        best = int(generator.model.hf(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
        if best == generator.model.tokenizer.end_id:
            break
        tokens.append(best)
    assert together[1] == generator.model.tokenizer.decode(tokens[start:])


def test_a_prompt_that_does_not_fit_the_model_is_refused_by_the_key_to_lower() -> None:
    model = random_model(byte_level(), max_position_embeddings=64)
    generator = Generator(model, load_template("tiny-generator"), budget=Budget(20, 90), answer_tokens=4)
    task = pocket_tasks(1, 5)[0]
    with pytest.raises(ConfigError, match=r"passage_tokens.*64 positions"):
        generator.prompt(Reading(task.question, task.candidates.passages))
