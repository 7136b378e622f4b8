"""Time to the first token of an answer whose passages were read before, as JSON.

    python -m benchmarks.first_token [--device cuda --model llama-1b]

Prompts of 5 and of 20 passages of 180 tokens, tokenising included, in three ways: `ours` (blocks, the
passages' keys and values kept from an earlier question), `read` (blocks, every passage computed) and `full`
(ordinary causal attention, the library's own prefill). Before anything is timed, the cache that `ours` writes
from is equal to that of `read`, and an answer's log-likelihood to that of a separate pass. A minute on two
cores.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.blocks import FULL_PROMPT
from benchmarks.timing import compare, report, same
from benchmarks.trial import Trial, compared, parse, random_model, world
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.lm.block_cache import block_cache
from ragdro.lm.blocks import BlockText
from ragdro.lm.parity import separate_log_probs
from ragdro.lm.passage_states import PassageStates
from ragdro.lm.scoring import SequenceGroup, sequence_log_probs
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.types import Question

BUDGET = 2**34
COUNTS = (5, 20)
ANSWER = (5, 6)
"""Any tokens."""


def cached(generator: Generator, read: Reading) -> Tensor:
    """All keys and values that an answer is written from."""
    sequence = generator.sequences(read, [ANSWER])[0]
    assert sequence.blocks is not None
    cache = block_cache(generator.model, [BlockText(sequence.inputs, sequence.blocks)])
    return torch.stack([x.float() for layer in cache.layers for x in (layer.keys, layer.values)])


def case(trial: Trial, full: Generator, blocks: Generator, count: int) -> dict[str, object]:
    """The three ways with so many passages."""
    passages = world(trial)[0].candidates.passages[:count]
    read = Reading(Question("now", "what is written where?" + "?" * 20, ("x",)), passages)
    earlier = Reading(Question("earlier", "what was asked before?", ("x",)), passages[::-1])
    model, store = blocks.model, PassageStates(BUDGET)

    def first_token(generator: Generator, kept: PassageStates | None) -> list[str]:
        model.passage_states = kept
        return generator.answer_many([read], BUDGET)

    with compared(model) as tolerance:
        model.passage_states = None
        expected = cached(blocks, read)
        model.passage_states = PassageStates(BUDGET)
        cached(blocks, earlier)
        same("ours", cached(blocks, read), expected, tolerance)
        with torch.no_grad():
            scored = blocks.sequences(read, [ANSWER])
            ours = sequence_log_probs(model, [SequenceGroup.of(scored)])[0]
            same("ours", ours, separate_log_probs(model, scored), tolerance)
    model.passage_states = store
    blocks.answer_many([earlier], BUDGET)
    result = compare(
        trial,
        {
            "ours": lambda: first_token(blocks, store),
            "read": lambda: first_token(blocks, None),
            "full": lambda: first_token(full, None),
        },
    )
    return {**result, "kept_mib_per_passage": round(store.bytes / len(store) / 2**20, 3)}


def main() -> None:
    trial = parse(__doc__, questions=1, repeats=9)
    if trial.model != "smallest":
        trial = replace(trial, prompt=FULL_PROMPT)
    model = random_model(trial, seed=1)
    template, budget = load_template("tiny-generator"), Budget(40, trial.passage_tokens)
    full = Generator(model, template, budget=budget, answer_tokens=1)
    blocks = Generator(model, template, budget=budget, answer_tokens=1, passage_attention="blocks")
    counts = [c for c in COUNTS if c <= trial.n]
    report(trial, "first_token", **{str(c): case(trial, full, blocks, c) for c in counts})


if __name__ == "__main__":
    main()
