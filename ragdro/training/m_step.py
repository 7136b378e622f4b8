"""The M-step: fit one model to fixed sequences with fixed weights.

In: a model, a way to build question i's `TrainingExample`, and `Optimisation` settings.
Out: the model, moved. The same function serves the M-step of both models and both warm-ups (a warm-up is
an M-step whose one sample has weight 1). The loss of an update is the mean over its questions of
-sum_i w_i log p_i (or of another objective's loss), however it is cut into micro-batches and processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from ragdro.algorithms.examples import TrainingExample
from ragdro.config import Optimisation
from ragdro.errors import ModelError, TrainingError
from ragdro.lm.groups import batches_of, log_probs
from ragdro.lm.model import LanguageModel
from ragdro.lm.snapshot import trained_parameters
from ragdro.parallel.gradients import all_reduce_gradients, clip
from ragdro.parallel.sharding import is_sharded, reshard, unshard
from ragdro.parallel.world import all_reduce_any, all_reduce_max, all_reduce_sum, local_shard, waiting_for
from ragdro.parallel.zero import Zero
from ragdro.training.optimisers import make_optimiser
from ragdro.training.prefetch import prefetched


@dataclass(frozen=True, slots=True)
class Update:
    """What one optimiser step was: mean loss in nats a question, gradient norm before clipping."""

    step: int
    steps: int
    loss: float
    gradient_norm: float
    learning_rate: float
    tokens: int


Build: TypeAlias = Callable[[int], TrainingExample]
"""Makes the example of question i."""


class FitObserver:
    """What sees a fit and lets it resume; this one keeps nothing."""

    def begin(self, optimiser: Optimizer | Zero) -> int:
        """How many updates an interrupted fit had taken; `optimiser` is put where it stood then."""
        return 0

    def started(self, taken: int, steps: int) -> None:
        """So many of the fit's `steps` updates were taken before; the next one is computed now."""

    def computing(self) -> AbstractContextManager[None]:
        """What every update is computed within."""
        return nullcontext()

    def taken(self, update: Update, optimiser: Optimizer | Zero) -> None:
        """An update was taken. Behind the last one ZeRO's model is whole again."""

    def skipped(self, step: int, steps: int, problem: str, batch: Sequence[TrainingExample]) -> None:
        """Update `step` (1-based) has a loss or gradient that is not finite; `batch` is this process's part.
        Raises `TrainingError` naming the questions, where it must not be left out."""
        raise TrainingError(
            f"{problem} at questions {question_names([e.question_id for e in batch])}; try a lower"
            " learning_rate"
        )


@waiting_for("gradient_step")
def fit(
    model: LanguageModel,
    questions: int,
    build: Build | Sequence[Build],
    settings: Optimisation,
    rng: np.random.Generator,
    observer: FitObserver | None = None,
) -> None:
    """Take the updates that `settings` ask for over `questions` questions, in an order drawn from `rng`.

    `build` makes the example of question i; of several, update u (from 0) takes number u modulo their count.

    An update whose loss or gradient is not finite goes to `observer.skipped`. A fit that resumes draws the
    same order and takes the updates that are left. The model's dropout is on where the
    loss is of these log-probabilities alone (see `TrainingExample.compares`). Raises `ModelError` for weights
    of 16 bits, which steps of a usual size leave as they are.
    """
    observer = observer or FitObserver()
    sharded, builds = is_sharded(model.hf), (build,) if callable(build) else tuple(build)
    if sharded or model.zero_stage:
        for each in builds:
            _agree(model, each(0))
    reshard(model.hf)
    _refuse_half(model)
    parameters = list(trained_parameters(model).values())
    optimiser = make_optimiser(model, settings, sharded=sharded)
    schedule = _schedule(questions, settings, rng)
    zero = Zero(model.hf, optimiser, model.zero_stage, settings.max_grad_norm) if model.zero_stage else None
    steps, begun = len(schedule), observer.begin(zero or optimiser)
    observer.started(begun, steps)
    model.hf.train()

    def examples(drawn: _Drawn) -> list[TrainingExample]:
        return [builds[drawn.update % len(builds)](i) for i in local_shard(drawn.questions)]

    batches = prefetched(schedule[begun:], examples)
    with closing(batches):
        for step, (drawn, batch) in enumerate(batches, start=begun):
            torch.manual_seed(drawn.seed)
            fraction = rate_at(step, steps, settings)
            for place in optimiser.param_groups:
                place["lr"] = place["peak"] * fraction
            idle = partial(builds[drawn.update % len(builds)], drawn.questions[0])
            with observer.computing():
                losses = _accumulate(
                    model, batch, len(drawn.questions), settings.max_tokens_per_micro_batch, idle, zero
                )
            norm = _norm(parameters, settings.max_grad_norm) if zero is None else zero.step()
            # Behind the norm: reading a number waits for the device, which has to be done by then anyway.
            local_loss = sum(torch.stack(losses).tolist()) if losses else 0.0
            loss, tokens = all_reduce_sum(local_loss, sum(len(w.group) for w in batch))
            if not (math.isfinite(loss) and math.isfinite(norm)):
                problem = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient is {norm}"
                observer.skipped(step + 1, steps, problem, batch)
            elif zero is None:
                with observer.computing():
                    optimiser.step()
            if zero is None:
                optimiser.zero_grad(set_to_none=True)
            elif step + 1 == steps:
                zero.close()
            rate = settings.learning_rate * fraction
            observer.taken(Update(step + 1, steps, loss, norm, rate, int(tokens)), zero or optimiser)
    if zero is not None:
        zero.close()
    unshard(model.hf)
    model.hf.eval()
    model.recheck()


def _norm(parameters: Sequence[Parameter], longest: float) -> float:
    """The norm of the gradients of all processes, which are clipped to `longest`."""
    all_reduce_gradients(parameters)
    return clip(parameters, longest)


def _refuse_half(model: LanguageModel) -> None:
    for name, p in model.hf.named_parameters():
        if p.requires_grad and p.dtype in (torch.bfloat16, torch.float16):
            raise ModelError(
                f"{model.tokenizer.name}: {name} is to be trained in {str(p.dtype)[6:]}, in which small"
                " steps are lost; load it in float32, with amp: bfloat16 for fast products"
            )


def rate_at(step: int, steps: int, settings: Optimisation) -> float:
    """The learning rate of update `step` (0-based) as a fraction of its peak."""
    rising = settings.warm_up_fraction * steps
    if step < rising:
        return (step + 1) / (math.ceil(rising) + 1)
    done = (step - rising) / max(1.0, steps - rising)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - done if settings.schedule == "linear" else 1.0


def _accumulate(
    model: LanguageModel,
    batch: list[TrainingExample],
    questions: int,
    max_tokens: int,
    idle: Callable[[], TrainingExample],
    zero: Zero | None,
) -> list[Tensor]:
    """Gradients of the loss of `batch`, summed and over the update's `questions`, a micro-batch at a time;
    returns each one's part of that loss, still on the device: none is waited for.

    The layers of a sharded model are gathered by all processes together: one that has fewer micro-batches
    than another goes along with `idle`, which counts for nothing.
    """
    losses, sharded = list[Tensor](), is_sharded(model.hf) or zero is not None
    parts = [part for example in batch for part in example.parts()]
    packs = _packs(parts, max_tokens)
    rounds = all_reduce_max(len(packs)) if sharded else len(packs)
    for done, chosen in enumerate([*packs, *[[]] * (rounds - len(packs))], start=1):
        together = [parts[i] for i in chosen] or idle().parts()[:1]
        mean = partial(_loss, model, together, float(questions) if chosen else math.inf)
        dropout = nullcontext() if any(w.compares for w in together) else model.dropout()
        with dropout:  # behind the backward pass, which may compute layers again
            if zero is not None:
                losses.append(zero.backward(mean, last=done == rounds))
                continue
            loss = mean()
            losses.append(loss.detach())
            loss.backward()  # type: ignore[no-untyped-call]
    return losses


def _packs(parts: Sequence[TrainingExample], max_tokens: int) -> list[list[int]]:
    """Which examples are computed together: those of one kind. A loss that compares keeps the prompts of its
    question together, beside others' prompts that are apart."""
    by_kind: dict[type, list[int]] = {}
    for i, part in enumerate(parts):
        by_kind.setdefault(type(part.group), []).append(i)
    return [
        [places[j] for j in pack]
        for places in by_kind.values()
        for pack in batches_of([parts[i].group for i in places], max_tokens)
    ]


def _loss(model: LanguageModel, together: Sequence[TrainingExample], questions: float) -> Tensor:
    """A micro-batch's part of the mean over `questions` questions (of infinitely many: nothing)."""
    scored = log_probs(model, [w.group for w in together])
    losses = [
        w.loss(torch.tensor(w.weights, dtype=torch.float32, device=values.device), values)
        for w, values in zip(together, scored, strict=True)
    ]
    return torch.stack(losses).sum() / questions


def _agree(model: LanguageModel, weighted: TrainingExample) -> None:
    """Have all processes look at the same question whether prompts can be shared, while the model is whole.

    Raises `ModelError` where they cannot: one forward pass a sequence, or a class of lengths, is not the same
    number everywhere.
    """
    if model.length_classes is not None:
        raise ModelError(
            f"{model.tokenizer.name}: its frequencies depend on a sequence's length, so sequences are"
            " computed apart and parallel.strategy must be ddp"
        )
    assert (
        model.logit_transform is not None or not model.shares_prefixes
    )  # looked at while the model is whole
    if all_reduce_any(not weighted.group.one_pass(model, weighted.group)):
        raise ModelError(
            f"{model.tokenizer.name}: its sequences have to be computed separately, so parallel.strategy must"
            " be ddp"
        )


@dataclass(frozen=True, slots=True)
class _Drawn:
    """An update's number (from 0) and questions, and the seed of its dropout, so that a fit that resumes has
    the same."""

    update: int
    questions: list[int]
    seed: int


def _schedule(questions: int, settings: Optimisation, rng: np.random.Generator) -> list[_Drawn]:
    """Every update of a fit."""
    order, noise = _order(questions, rng), rng.spawn(1)[0]
    count = min(settings.batch_size, questions)
    steps = max(1, math.ceil(settings.epochs * questions / count))
    return [
        _Drawn(update, [next(order) for _ in range(count)], int(noise.integers(2**63)))
        for update in range(steps)
    ]


def _order(questions: int, rng: np.random.Generator) -> Iterator[int]:
    """Question indices, each epoch in a fresh order."""
    while True:
        yield from rng.permutation(questions).tolist()


def question_names(ids: Sequence[str]) -> str:
    """The first question ids of a batch, for a message."""
    named = ", ".join(f"'{i}'" for i in ids[:5])
    return named + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
