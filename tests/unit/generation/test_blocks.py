"""A generator that reads passages as blocks: prompts, answers and log-likelihoods."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from ragdro.errors import ConfigError
from ragdro.generation.answers import answer_tables
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.lm.scoring import score_all
from ragdro.lm.tokens import TextTokenizer
from ragdro.lm.tree import Links, MaskedText, ScoredSequence
from ragdro.prompts import PromptTemplate, load_template
from ragdro.prompts.template import Budget
from ragdro.system import reading
from ragdro.types import Passage, Question
from tests.conftest import byte_level, random_model
from tests.worlds import pocket_tasks

BUDGET = Budget(24, 24)


def blocks_generator(
    architecture: str = "llama", template: str = "generator", **settings: object
) -> Generator:
    model = random_model(byte_level(), architecture, seed=1, **settings)
    return Generator(
        model, load_template(template), budget=BUDGET, answer_tokens=6, passage_attention="blocks"
    )


def readings() -> list[Reading]:
    lists = [(0, 1), (2,), (4, 3, 1), (1, 3, 4), ()]
    return [reading(t, z) for t, z in zip(pocket_tasks(5, 5), lists, strict=True)]


def next_logits(generator: Generator, sequence: ScoredSequence, written: list[int]) -> torch.Tensor:
    """Behind a prompt and what was written: a whole forward pass, its mask made cell by cell."""
    prompt = sequence.tokens[: sequence.targets.min()].tolist()
    ids, config = [*prompt, *written], generator.model.hf.config
    n, window = len(ids), getattr(config, "sliding_window", None)
    assert sequence.blocks is not None
    block = np.searchsorted(sequence.blocks, np.arange(n), side="right")
    mask = torch.full((1, 1, n, n), torch.finfo(torch.float32).min)
    for q in range(n):
        for k in range(0 if window is None else max(0, q - window + 1), q + 1):
            if block[q] in (block[k], len(sequence.blocks)):
                mask[0, 0, q, k] = 0
    with torch.no_grad():
        return generator.model.hf(
            input_ids=torch.tensor([ids]), attention_mask=mask, position_ids=torch.arange(n)[None]
        ).logits[0, -1]


@pytest.mark.parametrize("shared", [None, False])
@pytest.mark.parametrize("architecture", ["llama", "mistral-window"])
def test_greedy_answers_are_the_argmax_of_whole_passes(architecture: str, shared: bool | None) -> None:
    window = {"sliding_window": 20} if "window" in architecture else {}
    generator = blocks_generator(architecture.split("-")[0], **window)
    generator.model.shares_blocks = shared
    together = generator.answer_many(readings(), 100_000)
    assert generator.model.fallbacks == (5 if shared is False else 0)
    tokenizer, ends = generator.model.tokenizer, generator.model.tokenizer.end_ids
    for read, answer in zip(readings(), together, strict=True):
        sequence, written = generator.scored(read), list[int]()
        while len(written) < 6:
            best = int(next_logits(generator, sequence, written).argmax())
            if best in ends:
                break
            written.append(best)
        assert answer == tokenizer.decode(written)
        assert answer == generator.answer_many([read], 1)[0]


def test_log_likelihoods_are_those_of_whole_passes() -> None:
    generator = blocks_generator(template="tiny-generator")
    task = pocket_tasks(1, 5)[0]
    reads = [reading(task, z) for z in ((0, 1, 2), (2, 0), (1,))]
    expected = []
    for read in reads:
        sequence, total = generator.scored(read), 0.0
        answer = sequence.tokens[sequence.targets].tolist()
        for i, token in enumerate(answer):
            logits = next_logits(generator, sequence, answer[:i]).double()
            total += float(logits[token] - logits.logsumexp(0))
        expected.append(total)
    found = score_all(generator.model, [generator.group(reads)], 5000)[0]
    assert found == pytest.approx(expected, abs=1e-4)
    assert generator.model.shares_blocks is True
    full = Generator(generator.model, generator.template, budget=BUDGET, answer_tokens=6)
    assert score_all(full.model, [full.group(reads)], 5000)[0] != pytest.approx(expected, abs=1e-2)


def test_with_both_it_is_fitted_as_either_in_turn_and_reads_in_blocks() -> None:
    model, read = random_model(byte_level()), readings()[2]
    settings = {"budget": BUDGET, "answer_tokens": 6}
    template = load_template("tiny-generator")
    both, blocks, full = (
        Generator(model, template, passage_attention=how, **settings)  # type: ignore[arg-type]
        for how in ("blocks-then-full", "blocks", "full")
    )
    assert both.scored(read).blocks is not None and blocks.turns == (blocks,) and full.turns == (full,)
    for turn, like in zip(both.turns, (blocks, full), strict=True):
        ours, alone = ([generator.group([read])] for generator in (turn, like))
        assert score_all(model, ours, 5000) == score_all(model, alone, 5000)
        assert turn.model is model and turn.template.counts is both.template.counts


def test_every_answer_is_scored_under_every_reading() -> None:
    generator = blocks_generator()
    task = pocket_tasks(1, 5)[0]
    reads = [reading(task, z) for z in ((0, 1, 2), (2, 0), (0, 1, 2))]
    table = answer_tables(generator, [reads], 5000)[0]
    assert table.log_likelihoods.shape == (3, len(table.answers))
    for row, read in zip(table.log_likelihoods, reads, strict=True):
        for value, answer in zip(row, table.answers, strict=True):
            group = generator.model, generator.scored(read, answer)
            assert value == pytest.approx(score_one(*group), abs=1e-4)


def score_one(model: object, sequence: ScoredSequence) -> float:
    from ragdro.lm.scoring import SequenceGroup

    return score_all(model, [SequenceGroup.of([sequence])], 5000)[0][0]  # type: ignore[arg-type]


@pytest.mark.parametrize("template", ["generator", "tiny-generator"])
def test_a_passage_has_the_same_ids_wherever_it_stands(
    tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    """Whatever its neighbours begin and end with."""
    texts = TextTokenizer(tokenizer, name="t")
    passages = [
        Passage("a", "Mara Voss", "works for Zorba."),
        Passage("b", "[1]", " 1\n"),
        Passage("c", "", "\n\nsea"),
        Passage("d", "in", "Freedonia </s>"),
    ]
    seen: dict[str, set[tuple[int, ...]]] = {p.id: set() for p in passages}
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2), (2,), (1,)):
        chosen = [passages[i] for i in order]
        blocks = load_template(template).encode_blocks(texts, "where?", chosen, 4, BUDGET)
        assert len(blocks) == len(order) + 2
        for p, ids in zip(chosen, blocks[1:-1], strict=True):
            seen[p.id].add(tuple(ids))
    assert [len(ids) for ids in seen.values()] == [1, 1, 1, 1]
    assert tokenizer.eos_token_id not in {i for ids in seen["d"] for i in ids}


def test_where_newlines_are_borders_the_blocks_are_the_prompt() -> None:
    texts, passages = TextTokenizer(byte_level(), name="t"), readings()[2].passages
    template = load_template("tiny-generator")
    blocks = template.encode_blocks(texts, "where?", passages, 3, BUDGET)
    whole = template.encode(texts, "where?", passages, 3, BUDGET)
    assert [i for block in blocks for i in block] == whole


def test_answers_with_passages_kept_are_those_without() -> None:
    plain = blocks_generator()
    asked = [*readings(), *readings()[::-1]]
    expected = [plain.answer_many([read], 1)[0] for read in asked]
    keeping = Generator(
        plain.model,
        plain.template,
        budget=BUDGET,
        answer_tokens=6,
        passage_attention="blocks",
        passage_memory=1.0,
    )
    assert [keeping.answer_many([read], 1)[0] for read in asked] == expected
    store = plain.model.passage_states
    assert store is not None
    blocks = {b.tobytes() for read in asked for b in blocks_of(keeping, read)}
    assert store.misses == len(store) == len(blocks) and store.hits > len(blocks)
    with pytest.raises(ConfigError, match=r"passage_memory: 1\.0 with passage_attention: full"):
        Generator.from_pretrained("tiny:base", passage_memory=1.0)


@pytest.mark.parametrize("linked", ["last", "first"])
def test_answers_with_links_are_the_argmax_of_whole_passes(linked: Literal["last", "first"]) -> None:
    plain = blocks_generator()
    linking = Generator(
        plain.model,
        plain.template,
        budget=BUDGET,
        answer_tokens=4,
        passage_attention="blocks",
        link_tokens=3,
        linked=linked,
    )
    tokenizer, asked = plain.model.tokenizer, readings()[:3]
    for read, answer in zip(asked, linking.answer_many(asked, 100_000), strict=True):
        sequence, written = linking.scored(read), list[int]()
        assert sequence.blocks is not None and sequence.links == Links(3, linked == "first")
        prompt = sequence.tokens[: sequence.targets.min()]
        while len(written) < 4:
            text = np.append(prompt, np.array(written, np.int64))
            masked = MaskedText.of(text, sequence.blocks, sequence.links)
            tokens, places, seen = (
                torch.from_numpy(x)[None] for x in (masked.tokens, masked.positions, masked.visible)
            )
            mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None]
            with torch.no_grad():
                logits = plain.model.hf(input_ids=tokens, attention_mask=mask, position_ids=places).logits
            best = int(logits[0, masked.path[-1]].argmax())
            if best in tokenizer.end_ids:
                break
            written.append(best)
        assert answer == tokenizer.decode(written)
    assert plain.model.fallbacks == 0


def blocks_of(generator: Generator, read: Reading) -> list[np.ndarray]:
    sequence = generator.scored(read)
    assert sequence.blocks is not None
    return np.split(sequence.tokens, sequence.blocks)[:-1]


REFUSED = {
    "identifier": PromptTemplate(user="{passages}\n{question}", passage="[{identifier}] {text}\n"),
    "behind": PromptTemplate(user="{question}\n{passages}", passage="{text}\n"),
}


@pytest.mark.parametrize("cause", REFUSED)
def test_a_template_that_cannot_be_read_in_blocks_is_refused(cause: str) -> None:
    model = random_model(byte_level())
    with pytest.raises(ConfigError, match=rf"generator\.prompt.*{cause}"):
        Generator(model, REFUSED[cause], budget=BUDGET, answer_tokens=6, passage_attention="blocks")


def test_a_question_in_front_is_read_by_the_answer_alone() -> None:
    """The first block is one like the others: what it says changes no passage's states, but the answer's."""
    template = PromptTemplate(user="{question}\n{passages}So:", passage="{text}\n")
    model = random_model(byte_level())
    generator = Generator(model, template, budget=BUDGET, answer_tokens=6, passage_attention="blocks")
    passages = readings()[2].passages
    reads = [Reading(Question(q, q, ("Zorba",)), passages) for q in ("where?", "who works?")]
    sequences = [generator.scored(read) for read in reads]
    one, other = score_all(model, [generator.group(reads)], 5000)[0]
    assert one != pytest.approx(other, abs=1e-3)
    assert len(generator.group(reads)) < sum(len(s.inputs) for s in sequences) - sum(
        len(template.encode_blocks(model.tokenizer, "q", [p], 1, BUDGET)[1]) for p in passages[1:]
    )
