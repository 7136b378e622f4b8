"""How much the gradient estimates of both models vary from one draw of m lists to another.

    python -m ragdro.studies.gradients RUN OUT.json

In: a run with the checkpoints of its iterations. Out: for the models that iterations 1, 2 and 3 sample
with, for training and held-out questions and each m, means over questions of

    likelihood             Var of 1/m sum_i p(y|x,d_zi)
    ROLE_weighted          tr Cov of sum_i w_i grad_i, grad_i of log p(z_i|x) or of log p(y|x,d_zi)
    ROLE_uniform           tr Cov of 1/m sum_i grad_i: the same lists, not weighted
    selector_centered      tr Cov of sum_i (w_i - 1/m) grad_i
    ROLE_raised            fraction of the questions whose weighted estimate varies more than the uniform one

over independent repetitions. An estimate is a combination of the gradients of the distinct lists, so their
inner products are all that is needed: one backward pass for each distinct list.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ragdro.algorithms import weights as formulas
from ragdro.algorithms.base import algorithm_of
from ragdro.config import Config, EStep, load_config
from ragdro.errors import ConfigError
from ragdro.files import write_atomically
from ragdro.lm.groups import ScoredGroup, log_probs
from ragdro.lm.model import LanguageModel
from ragdro.lm.snapshot import trained_parameters
from ragdro.runs.setup import build_rag, load_tasks
from ragdro.runs.status import CHECKPOINTS, CONFIG
from ragdro.system import Rag, reading
from ragdro.training.proposals import proposals
from ragdro.types import Task

DRAWS = 128
SAMPLES = (1, 2, 4, 8, 16)
QUESTIONS = 8
ITERATIONS = 3
_STREAM = 1_000_000
"""Far from the streams of training, so that these draws are new to the models."""

Row = dict[str, float | int | str]


def measure(run: Path) -> list[Row]:
    """A row an iteration, split and m."""
    config = load_config(run / CONFIG)
    if config.generator.think:
        raise ConfigError(
            f"{run}: generator.think is {config.generator.think}, and variances are those of lists alone;"
            " take a run without thoughts"
        )
    torch.set_num_threads(config.threads or torch.get_num_threads())
    splits = {
        "training": load_tasks(config, config.data.train)[: config.data.train_questions],
        "held-out": load_tasks(config, config.data.test or config.data.validation),
    }
    rows: list[Row] = []
    for iteration in range(1, min(ITERATIONS, config.iterations) + 1):
        folder = run / CHECKPOINTS / f"iteration-{iteration - 1}"
        rag = build_rag(config, folder)
        for split, tasks in splits.items():
            spreads = [spread(rag, config, task) for task in tasks[:QUESTIONS]]
            for m in SAMPLES:
                means = {key: float(np.mean([f[m][key] for f in spreads])) for key in spreads[0][m]}
                rows.append({"iteration": iteration, "split": split, "m": m, **means})
    return rows


def spread(rag: Rag, config: Config, task: Task) -> dict[int, dict[str, float]]:
    """By m, the variances of one question's estimates over `DRAWS` / m repetitions."""
    settings = EStep(samples=DRAWS, max_tokens_per_micro_batch=config.e_step.max_tokens_per_micro_batch)
    (draws,) = proposals(algorithm_of(config), settings, config.seed, _STREAM)(rag.selector, [task])
    lists = list(dict.fromkeys(draw.permutation for draw in draws))
    selecting = [rag.selector.group(task, [z]) for z in lists]
    answering = [rag.generator.group([reading(task, rag.generator.ordered(z))]) for z in lists]
    _, of_selector = gradients(rag.selector.model, selecting)
    scores, of_generator = gradients(rag.generator.model, answering)
    place = {z: i for i, z in enumerate(lists)}
    drawn = torch.tensor([place[draw.permutation] for draw in draws])
    prior = torch.tensor([draw.log_prior for draw in draws], dtype=torch.float64)
    proposal = torch.tensor([draw.log_proposal for draw in draws], dtype=torch.float64)
    variances = {}
    for m in SAMPLES:
        groups = drawn.reshape(-1, m)
        ratios = formulas.log_ratios(scores[groups], prior.reshape(-1, m), proposal.reshape(-1, m))
        weights = formulas.importance_weights(ratios)
        variances[m] = _variances(scores[groups], groups, weights, of_selector, of_generator)
    return variances


def _variances(
    scores: Tensor, groups: Tensor, weights: Tensor, of_selector: Tensor, of_generator: Tensor
) -> dict[str, float]:
    uniform = torch.full_like(weights, 1 / weights.shape[1])
    variances = {"likelihood": float(scores.exp().mean(1).var())}
    for role, gram in (("selector", of_selector), ("generator", of_generator)):
        weighted = trace_of_covariance(_shares(groups, weights, len(gram)), gram)
        plain = trace_of_covariance(_shares(groups, uniform, len(gram)), gram)
        variances[f"{role}_weighted"], variances[f"{role}_uniform"] = weighted, plain
        variances[f"{role}_raised"] = float(weighted > plain * (1 + 1e-9))
    centered = formulas.centered(weights)
    variances["selector_centered"] = trace_of_covariance(
        _shares(groups, centered, len(of_selector)), of_selector
    )
    return variances


def _shares(groups: Tensor, weights: Tensor, lists: int) -> Tensor:
    """[repetitions, distinct lists]: the weight of each distinct list in each repetition."""
    return torch.zeros(len(groups), lists, dtype=torch.float64).scatter_add_(1, groups, weights)


def trace_of_covariance(
    shares: Float[Tensor, "repetitions lists"], gram: Float[Tensor, "lists lists"]
) -> float:
    """tr Cov over the repetitions of `shares @ g`, where `gram` is g gᵀ (unbiased: over repetitions - 1)."""
    deviation = shares - shares.mean(0)
    return float((deviation @ gram * deviation).sum().clamp(min=0) / (len(shares) - 1))


def gradients(
    model: LanguageModel, groups: Sequence[ScoredGroup]
) -> tuple[Float[Tensor, " lists"], Float[Tensor, "lists lists"]]:
    """log-probabilities of sequences (nats), and the inner products of their gradients over all parameters.

    Holds one gradient a sequence in memory.
    """
    parameters = list(trained_parameters(model).values())
    values, rows = [], []
    model.hf.eval()
    for group in groups:
        (value,) = log_probs(model, [group])[0]
        parts = torch.autograd.grad(value, parameters, allow_unused=True)
        rows.append(torch.cat([p.flatten().cpu() for p in parts if p is not None]))
        values.append(float(value.detach()))
    stacked = torch.stack(rows)
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for start in range(0, stacked.shape[1], 1 << 18):  # in float64, a piece at a time
        piece = stacked[:, start : start + (1 << 18)].double()
        gram += piece @ piece.T
    return torch.tensor(values, dtype=torch.float64), gram


if __name__ == "__main__":
    write_atomically(Path(sys.argv[2]), json.dumps(measure(Path(sys.argv[1]))) + "\n")
