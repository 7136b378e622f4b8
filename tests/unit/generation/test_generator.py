"""log p(y|x,d_z) and greedy answers against loops over the model's plain forward pass."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from ragdro.config import ModelSettings
from ragdro.errors import ConfigError
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.lm.load import load_language_model
from ragdro.lm.model import LanguageModel
from ragdro.lm.saving import save_language_model
from ragdro.lm.scoring import score_all
from ragdro.lm.tokens import TextTokenizer
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


SHIPPED: dict[str, dict[str, object]] = {
    "sampling": {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
    "repetition_penalty": {"repetition_penalty": 1.3},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "bad_words_ids": {"bad_words_ids": [[i] for i in range(5, 200)]},
    "suppress_tokens": {"suppress_tokens": list(range(5, 200))},
    "begin_suppress_tokens": {"begin_suppress_tokens": list(range(5, 200))},
    "forced_bos_token_id": {"forced_bos_token_id": 7},
    "forced_eos_token_id": {"forced_eos_token_id": 7},
    "min_new_tokens": {"min_new_tokens": 12},
    "min_length": {"min_length": 400},
    "max_length": {"max_length": 3},
    "num_beams": {"num_beams": 3, "length_penalty": 2.0},
    "several": {"num_beams": 2, "num_return_sequences": 2},
    "sequence_bias": {"sequence_bias": [[[9], 50.0]]},
    "exponential_decay": {"exponential_decay_length_penalty": [1, 4.0]},
    "guidance": {"guidance_scale": 3.0},
    "a cache": {"cache_implementation": "static"},
    "none": {"use_cache": False},
    "a dictionary": {"return_dict_in_generate": True, "output_scores": True},
}


def _greedy_loop(generator: Generator, prompt: list[int], ends: set[int]) -> list[int]:
    """Argmax by argmax through the model's plain forward pass."""
    written: list[int] = []
    while len(written) < generator.answer_tokens:
        logits = generator.model.hf(input_ids=torch.tensor([prompt + written])).logits[0, -1]
        best = int(logits.argmax())
        if best in ends:
            break
        written.append(best)
    return written


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_an_answer_is_the_argmax_whatever_the_checkpoint_ships(name: str, tmp_path: Path) -> None:
    tokenizer = byte_level()
    folder = str(tmp_path / "model")
    random_model(tokenizer, seed=3).hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    file = tmp_path / "model" / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **SHIPPED[name]}))
    model = load_language_model(folder, ModelSettings(model=folder), torch.device("cpu"))
    generator = Generator(model, load_template("tiny-generator"), budget=Budget(20, 40), answer_tokens=8)
    readings = [reading(t, (0, 1)) for t in pocket_tasks(4, 5)]
    expected = [
        _greedy_loop(generator, generator.prompt(r).tolist(), {tokenizer.eos_token_id}) for r in readings
    ]
    assert any(len(set(ids)) < len(ids) for ids in expected)  # what a penalty would change
    assert generator.answer_many(readings, 100_000) == [model.tokenizer.decode(ids) for ids in expected]
    shipped = model.hf.generation_config.to_dict()
    assert all(shipped[key] == value for key, value in SHIPPED[name].items() if key != "sequence_bias")
    save_language_model(model, tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert all(saved[key] == value for key, value in SHIPPED[name].items())


def test_an_answer_stops_at_every_end_token_and_is_scored_with_the_turns_own() -> None:
    hf = byte_level()
    hf.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|eot_id|>\n{% endfor %}assistant:"
    )
    made = random_model(hf, seed=3)
    template, budget = load_template("tiny-generator"), Budget(20, 40)
    one = reading(pocket_tasks(1, 5)[0], (0, 1))

    def generator(ends: list[int]) -> Generator:
        text = TextTokenizer(hf, name="x", ends=ends)
        return Generator(LanguageModel(made.hf, text), template, budget=budget, answer_tokens=8)

    plain = generator([])
    ids = _greedy_loop(plain, plain.prompt(one).tolist(), set())
    third = next(i for i in ids[2:] if i not in ids[:2])
    stopped = generator([third])
    assert stopped.answer_many([one], 1000) == [stopped.model.tokenizer.decode(ids[: ids.index(third)])]
    assert stopped.scored(one).tokens[-1] == hf.convert_tokens_to_ids("<|eot_id|>")


def test_an_answer_that_is_too_long_is_cut_and_not_ended() -> None:
    generator, task = pocket_rag().generator, pocket_tasks(1, 5)[0]
    tokenizer, one = generator.model.tokenizer, reading(task, (3, 2))
    long = "Zorba and Initech and Globex"
    whole = tokenizer.data(f" {long}")
    assert len(whole) > generator.answer_tokens
    start = len(generator.prompt(one))
    with pytest.warns(RuntimeWarning, match=r"answer_tokens is 6") as warned:
        cut = generator.scored(one, long)
    assert warned[0].filename == __file__
    assert cut.tokens[start:].tolist() == whole[: generator.answer_tokens]
    assert cut.targets.tolist() == list(range(start, start + generator.answer_tokens))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generator.scored(one, long)  # the second is counted alone
    ended = generator.scored(one, "Zo").tokens[start:].tolist()
    assert ended == [*tokenizer.data(" Zo"), tokenizer.end_id]
    assert generator.template.counts.fractions()["answers"] == 2 / 3
