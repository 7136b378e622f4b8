"""log p(y|x,d_z) of m lists: distinct lists in one tree against m separate forward passes, as one JSON line.

    python -m benchmarks.e_step_score [--device cuda --model llama-1b]

Two cases: `none`, lists drawn uniformly, and `concentrated`, lists drawn from a selector about as sure as the
demo's is after three iterations (`distinct` says how many of the m lists differ). The other side computes
each sample's whole sequence with all logits. About half a minute on two cores.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import Side, compare, report, same
from benchmarks.trial import CONCENTRATED, Trial, compared, distinct, generator_of, lists_of, parse, world
from ragdro.generation.generator import Generator
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import score_all
from ragdro.lm.tree import ScoredSequence
from ragdro.system import reading
from ragdro.types import Permutation, Task

CASES = {"none": 0.0, "concentrated": CONCENTRATED}


def textbook(model: LanguageModel, sequence: ScoredSequence) -> Tensor:
    """log p(y|x,d_z) from all logits of one whole sequence."""
    ids = torch.from_numpy(sequence.tokens).to(model.device)[None]
    with model.precision():
        logits = model.hf(input_ids=ids, use_cache=False).logits[0, :-1].float()
    log_probs = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return log_probs[torch.from_numpy(sequence.targets - 1).to(model.device)].sum()


def sides_of(generator: Generator, tasks: list[Task], lists: list[list[Permutation]]) -> dict[str, Side]:
    """The two ways to the log-likelihoods [questions, samples]."""

    def ours() -> Tensor:
        unlike = [list(dict.fromkeys(drawn)) for drawn in lists]
        groups = [
            generator.group([reading(t, z) for z in drawn]) for t, drawn in zip(tasks, unlike, strict=True)
        ]
        log_likelihoods = score_all(generator.model, groups, 8192)
        by_list = [
            dict(zip(drawn, values, strict=True))
            for drawn, values in zip(unlike, log_likelihoods, strict=True)
        ]
        return torch.tensor(
            [[scores[z] for z in drawn] for scores, drawn in zip(by_list, lists, strict=True)]
        )

    def separate() -> Tensor:
        with torch.no_grad():
            values = [
                textbook(generator.model, generator.scored(reading(task, z)))
                for task, drawn in zip(tasks, lists, strict=True)
                for z in drawn
            ]
        return torch.stack(values).reshape(len(tasks), -1)

    return {"ours": ours, "separate": separate}


def case(trial: Trial, generator: Generator, tasks: list[Task], spread: float) -> dict[str, object]:
    """One case's metrics, after a check that its sides agree."""
    lists = lists_of(trial, tasks, spread)
    sides = sides_of(generator, tasks, lists)
    with compared(generator.model) as tolerance:
        same("log p(y|x,d_z)", sides["ours"](), sides["separate"](), tolerance)
    return {"distinct": distinct(lists), **compare(trial, sides)}


def main() -> None:
    trial = parse(__doc__, questions=4)
    generator, tasks = generator_of(trial), world(trial)
    length = np.mean([len(generator.prompt(reading(t, tuple(range(trial.k))))) for t in tasks])
    cases = {name: case(trial, generator, tasks, spread) for name, spread in CASES.items()}
    report(trial, "e_step_score", prompt_tokens=int(length), **cases)


if __name__ == "__main__":
    main()
