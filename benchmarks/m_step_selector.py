"""One gradient of the selector: m lists over one shared prompt against m whole sequences, as one JSON line.

    python -m benchmarks.m_step_selector [--device cuda --model llama-1b]

The other side is transformers with the m sequences as one batch: `full` makes all logits, `kept` only those
of the list (`logits_to_keep`, which is what TRL does); `separate` takes one after another, where memory is
short. Log-probabilities and gradients are equal before anything is timed. About a minute on two cores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.timing import compare, report, same, that_fit
from benchmarks.trial import compared, lists_of, parse, selector_of, slope, world
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, sequence_log_probs
from ragdro.lm.tree import ScoredSequence


def textbook(model: LanguageModel, sequences: tuple[ScoredSequence, ...], *, keep: bool) -> Tensor:
    """log p(z|x) of each sequence: one batch of whole sequences, padded at the end."""
    longest = max(len(s.tokens) for s in sequences)
    ids = torch.full((len(sequences), longest), model.tokenizer.pad_id)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence.tokens)] = torch.from_numpy(sequence.tokens)
    ids = ids.to(model.device)
    first = min(int(s.targets[0]) for s in sequences) - 1
    with model.precision():
        kept = longest - first if keep else 0
        logits = model.hf(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
    offset = first if keep else 0
    totals = []
    for row, sequence in enumerate(sequences):
        assert sequence.allowed is not None
        total = torch.zeros((), device=model.device)
        for target, allowed in zip(sequence.targets.tolist(), sequence.allowed, strict=True):
            place = logits[row, target - 1 - offset].float()
            competing = place[torch.from_numpy(allowed).to(model.device)]
            total = total + place[int(sequence.tokens[target])] - competing.logsumexp(0)
        totals.append(total)
    return torch.stack(totals)


def main() -> None:
    trial = parse(__doc__)
    selector = selector_of(trial)
    model = selector.model
    tasks = world(trial)
    drawn = zip(tasks, lists_of(trial, tasks, 0.0), strict=True)
    groups = [selector.group(task, lists).sequences for task, lists in drawn]
    sequences = tuple(sequence for group in groups for sequence in group)
    weights = torch.linspace(0.5, 1.5, len(sequences), device=trial.device) / trial.samples

    def ours() -> tuple[Tensor, Tensor]:
        return step(torch.cat(sequence_log_probs(model, [SequenceGroup.of(group) for group in groups])))

    def full() -> tuple[Tensor, Tensor]:
        return step(textbook(model, sequences, keep=False))

    def kept() -> tuple[Tensor, Tensor]:
        return step(textbook(model, sequences, keep=True))

    def step(log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """The values and a gradient."""
        model.hf.zero_grad()
        (-(weights * log_probs).sum()).backward()
        return log_probs.detach(), slope(model)

    def separate() -> tuple[Tensor, Tensor]:
        model.hf.zero_grad()
        found = []
        for sequence, weight in zip(sequences, weights, strict=True):
            value = textbook(model, (sequence,), keep=True)
            (-(weight * value).sum()).backward()
            found.append(value.detach())
        return torch.cat(found), slope(model)

    sides = {"ours": ours, "full": full, "kept": kept, "separate": separate}
    model.shares_prefixes = True if trial.only else None  # the first-batch check is no part of a step
    if not trial.only:
        with compared(model) as tolerance:
            values, found = ours()
            for name, side in that_fit(sides).items():
                expected, gradient = side()  # type: ignore[misc]
                same(f"log p(z|x), {name}", values, expected, tolerance)
                same(f"gradient, {name}", found, gradient, tolerance)
    metrics = compare(trial, sides, memory=True)
    lengths = {
        "prompt_tokens": len(selector.prompt(tasks[0])),
        "tree_tokens": sum(len(SequenceGroup.of(group).tree) for group in groups),
    }
    report(trial, "m_step_selector", **lengths, **metrics)


if __name__ == "__main__":
    main()
