"""The M-step: fit one model to fixed sequences with fixed weights.

In: a model, a way to build question i's `SequenceGroup` with its weights, and `Optimisation` settings.
Out: the model, moved. The same function serves the M-step of both models and both warm-ups (a warm-up is
an M-step whose one sample has weight 1). The loss of an update is the mean over its questions of
-sum_i w_i log p_i (or of another objective's loss), however it is cut into micro-batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from ragdro.config import Optimisation
from ragdro.errors import TrainingError
from ragdro.lm.batching import packs_by_tokens
from ragdro.lm.model import LanguageModel
from ragdro.lm.scoring import SequenceGroup, sequence_log_probs
from ragdro.training.objectives import weighted_loss
from ragdro.training.optimisers import make_optimiser

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """One question's sequences with a weight each, and what `loss` makes of (weights, log-probabilities)."""

    question_id: str
    group: SequenceGroup
    weights: tuple[float, ...]
    loss: Loss = weighted_loss


@dataclass(frozen=True, slots=True)
class Update:
    """What one optimiser step was: mean loss in nats a question, gradient norm before clipping."""

    step: int
    steps: int
    loss: float
    gradient_norm: float
    learning_rate: float
    tokens: int


class Keeper:
    """What a fit tells and may be told, so that it can be watched and gone on with; this keeps nothing."""

    def begin(self, optimiser: Optimizer) -> int:
        """How many updates an interrupted fit had taken; `optimiser` is put where it stood then."""
        return 0

    def taken(self, update: Update, optimiser: Optimizer) -> None:
        """An update was taken."""

    def skipped(self, step: int, steps: int, what: str, batch: Sequence[Weighted]) -> None:
        """Update `step` (1-based) has a loss or gradient that is not finite. Raises `TrainingError`
        naming the questions, where it must not be left out."""
        raise TrainingError(f"{what} at questions {question_names(batch)}; try a lower learning_rate")


def fit(
    model: LanguageModel,
    questions: int,
    build: Callable[[int], Weighted],
    settings: Optimisation,
    rng: np.random.Generator,
    keeper: Keeper | None = None,
) -> None:
    """Take the updates that `settings` ask for over `questions` questions, in an order drawn from `rng`.

    An update whose loss or gradient is not finite goes to `keeper.skipped`. A fit that an interrupted run
    had begun draws the same order and takes the updates that are left.
    """
    keeper = keeper or Keeper()
    parameters = [p for p in model.hf.parameters() if p.requires_grad]
    optimiser = make_optimiser(parameters, settings, fused=model.device.type in ("cuda", "cpu"))
    steps = max(1, math.ceil(settings.epochs * questions / settings.questions_per_step))
    order, noise = _order(questions, rng), rng.spawn(1)[0]
    begun = keeper.begin(optimiser)
    model.hf.train()
    for step in range(steps):
        chosen = [next(order) for _ in range(min(settings.questions_per_step, questions))]
        torch.manual_seed(int(noise.integers(2**63)))  # dropout's, so that a fit gone on with has the same
        if step < begun:
            continue
        rate = settings.learning_rate * rate_at(step, steps, settings)
        for place in optimiser.param_groups:
            place["lr"] = rate
        batch = [build(i) for i in chosen]
        loss = _accumulate(model, batch, settings.tokens_per_batch)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient is {norm}"
            keeper.skipped(step + 1, steps, what, batch)
        else:
            optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        keeper.taken(Update(step + 1, steps, loss, norm, rate, sum(len(w.group) for w in batch)), optimiser)
    model.hf.eval()


def rate_at(step: int, steps: int, settings: Optimisation) -> float:
    """The learning rate of update `step` (0-based) as a share of its peak."""
    rising = settings.warm_up_fraction * steps
    if step < rising:
        return (step + 1) / (math.ceil(rising) + 1)
    done = (step - rising) / max(1.0, steps - rising)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - done if settings.schedule == "linear" else 1.0


def _accumulate(model: LanguageModel, batch: list[Weighted], tokens_per_batch: int) -> float:
    """Gradients of the mean loss over `batch`, a micro-batch at a time; returns that loss, or at once
    one that is not finite."""
    total = 0.0
    for chosen in packs_by_tokens([len(w.group) for w in batch], tokens_per_batch):
        part = [batch[i] for i in chosen]
        log_probs = sequence_log_probs(model, [w.group for w in part])
        losses = [
            w.loss(torch.tensor(w.weights, dtype=torch.float32, device=values.device), values)
            for w, values in zip(part, log_probs, strict=True)
        ]
        loss = torch.stack(losses).sum() / len(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value
        loss.backward()  # type: ignore[no-untyped-call]
        total += value
    return total


def _order(questions: int, rng: np.random.Generator) -> Iterator[int]:
    """Question indices, each epoch in a fresh order."""
    while True:
        yield from rng.permutation(questions).tolist()


def question_names(batch: Sequence[Weighted]) -> str:
    """The first question ids of a batch, for a message."""
    ids = [f"'{w.question_id}'" for w in batch]
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
