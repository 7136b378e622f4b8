"""How the selector's gradient grows with m, with the prompt and with the questions, as one JSON line.

    python -m benchmarks.growth [--device cuda --model llama-1b]

`samples`: seconds at m = 1 ... 32 with a prompt of 4,096 tokens, and the ratio to m = 1. `prompt`: seconds at
P = 512 ... 8,192 with m = 8. `questions`: seconds of 1, 2 and 4 of them. Before anything is timed,
the log-probabilities of m lists together are equal to those of each alone. About three minutes on two cores.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.timing import Side, middle, ratio, report, same, timed
from benchmarks.trial import Trial, compared, lists_of, parse, selector_of, world
from ragdro.algorithms.examples import TrainingExample
from ragdro.lm.scoring import SequenceGroup, sequence_log_probs
from ragdro.selection.selector import Selector


def group_of(selector: Selector, trial: Trial) -> list[TrainingExample]:
    """A question's lists, uniformly weighted, for each of the trial's questions."""
    tasks = world(trial)
    weights = (1 / trial.samples,) * trial.samples
    return [
        TrainingExample(task.question.id, selector.group(task, lists), weights)
        for task, lists in zip(tasks, lists_of(trial, tasks, 0.0), strict=True)
    ]


def step(selector: Selector, batch: list[TrainingExample]) -> None:
    """One gradient, a question at a time."""
    selector.model.hf.zero_grad()
    for one in batch:
        values = sequence_log_probs(selector.model, [one.group])[0]
        loss = -(torch.tensor(one.weights, device=values.device) * values).sum()
        loss.backward()


def sweep(trials: dict[int, Trial]) -> dict[str, list[float]]:
    """Seconds of each trial's step, turn by turn."""
    sides: dict[str, Side] = {}
    for value, trial in trials.items():
        selector = selector_of(trial)
        batch = group_of(selector, trial)
        with compared(selector.model) as tolerance, torch.no_grad():
            together = sequence_log_probs(selector.model, [batch[0].group])[0]
            alone = [
                sequence_log_probs(selector.model, [SequenceGroup.of([s])])[0]
                for s in batch[0].group.sequences[:2]
            ]
            same("log p(z|x)", together[:2], torch.cat(alone), tolerance)
        sides[str(value)] = lambda selector=selector, batch=batch: step(selector, batch)  # type: ignore[misc]
    return timed(next(iter(trials.values())), sides)


def main() -> None:
    trial = parse(__doc__)
    full = trial.model != "smallest"
    base = replace(trial, prompt=4096 if full else trial.prompt)
    samples = sweep(
        {m: replace(base, samples=m, questions=1) for m in ((1, 2, 4, 8, 16, 32) if full else (1, 3))}
    )
    prompts = (512, 1024, 2048, 4096, 8192) if full else (120, 200)
    prompt = sweep({p: replace(trial, prompt=p, questions=1) for p in prompts})
    questions = sweep({q: replace(trial, questions=q) for q in (1, 2, 4)})
    report(
        trial,
        "growth",
        samples={"seconds": middle(samples), "ratio": {m: ratio(samples, m, "1") for m in samples}},
        prompt={"seconds": middle(prompt)},
        questions={"seconds": middle(questions), "ratio": {q: ratio(questions, q, "1") for q in questions}},
    )


if __name__ == "__main__":
    main()
