"""m lists for each question: one prefill and m branches against `generate`, as one JSON line.

    python -m benchmarks.e_step_sample [--device cuda --model llama-1b]

The other side is `generate(num_return_sequences=m)` of transformers, one question at a time, writing as many
tokens as the longest list has. That both draw the same lists from the same random numbers is checked first,
with a processor that lets `generate` write nothing but lists; it is timed without one. About two minutes on
two cores.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from benchmarks.timing import compare, report
from benchmarks.trial import compared, parse, selector_of, world
from ragdro.selection.identifiers import DecodingState, IdentifierGrammar
from ragdro.selection.selector import Selector
from ragdro.types import Permutation, Task


class OneList(LogitsProcessor):
    """Leaves one token possible: the forced one, or the choice that a row's random number decides."""

    def __init__(self, grammar: IdentifierGrammar, uniforms: np.ndarray, prompt: int, n: int, k: int) -> None:
        self.states: list[DecodingState] = [grammar.begin(n, k) for _ in uniforms]
        self._uniforms = uniforms
        self._prompt = prompt
        self._queues = [list(state.pending) for state in self.states]
        self._choices = 0
        self._end = grammar.tokenizer.end_id
        self._taken = [0] * len(uniforms)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        only = torch.full_like(scores, -torch.inf)
        for row, (state, queue) in enumerate(zip(self.states, self._queues, strict=True)):
            if not queue and state.competing is not None:
                competing = state.competing
                p = (
                    scores[row, torch.from_numpy(competing).to(scores.device)]
                    .double()
                    .softmax(0)
                    .cpu()
                    .numpy()
                )
                sums = p.cumsum()
                choice = int((sums <= self._uniforms[row, self._taken[row]] * sums[-1]).sum())
                self._taken[row] += 1
                state.take(int(competing[choice]))
                queue.extend(state.pending)
            only[row, queue.pop(0) if queue else self._end] = 0
        return only


def generate(
    selector: Selector, task: Task, samples: int, tokens: int, processor: OneList | None = None
) -> None:
    """m continuations of `tokens` tokens, as transformers samples them."""
    prompt = torch.from_numpy(selector.prompt(task))[None].to(selector.model.device)
    config = GenerationConfig(
        max_new_tokens=tokens,
        min_new_tokens=None if processor else tokens,
        do_sample=True,
        top_k=0,
        num_return_sequences=samples,
        eos_token_id=selector.model.tokenizer.end_id,
        pad_token_id=selector.model.tokenizer.pad_id,
    )
    with torch.no_grad(), selector.model.precision():
        selector.model.hf.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=config,
            logits_processor=LogitsProcessorList([processor] if processor else []),
        )


def main() -> None:
    trial = parse(__doc__, questions=4)
    selector, tasks = selector_of(trial), world(trial)
    shape = (trial.samples, selector.choices_per_list)
    uniforms = [np.random.default_rng(i).random(shape) for i in range(len(tasks))]
    tokens = max(map(len, selector.grammar.first)) + (trial.k - 1) * max(map(len, selector.grammar.later))

    def ours() -> list[list[Permutation]]:
        drawn = selector.sample(tasks, uniforms, temperature=1.0, max_tokens=8192)
        return [[d.permutation for d in draws] for draws in drawn]

    def separate() -> None:
        for task in tasks:
            generate(selector, task, trial.samples, tokens)

    with compared(selector.model) as tolerance:
        exact = tolerance < 1e-3  # in 16 bits a random number may fall on the other side of a border
        for task, numbers, lists in zip(tasks, uniforms, ours() if exact else (), strict=exact):
            processor = OneList(selector.grammar, numbers, len(selector.prompt(task)), trial.n, trial.k)
            generate(selector, task, trial.samples, tokens + 1, processor)
            written = [state.chosen for state in processor.states]
            assert written == lists, f"the sides draw different lists: {written} and {lists}"
            if trial.model != "smallest":
                break
    metrics = compare(trial, {"ours": ours, "generate": separate})
    report(
        trial, "e_step_sample", prompt_tokens=len(selector.prompt(tasks[0])), list_tokens=tokens, **metrics
    )


if __name__ == "__main__":
    main()
