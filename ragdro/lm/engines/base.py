"""What the E-step asks of an engine: how likely each allowed token is, behind a prompt and what was chosen.

In: token sequences, each with the tokens that the grammar allows next. Out: their log-probabilities, from
which the selector draws with its own random numbers, as it does from its own forward passes. So q(z) is just
what was drawn from, whatever the engine's precision and however old its weights, and a draw can be repeated;
the importance weights make up for what q is not of p(z|x).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ragdro.errors import TrainingError
from ragdro.lm.decoding import Decoder, Place, SeparateDecoder, branch_decoder
from ragdro.lm.model import LanguageModel
from ragdro.lm.tree import Ints
from ragdro.units import counted

DecoderOf: TypeAlias = Callable[[LanguageModel, Sequence[Ints], int], Decoder]
"""From a model, the prompts of a batch and how many branches each has to what writes them."""


KEY = "e_step.engine"
"""What messages begin with."""
SAMPLING: dict[str, Any] = {
    "max_tokens": 1,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""What leaves the model's own distribution as it is, in vLLM's names."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What stands there so far, and the tokens that may come next."""

    tokens: tuple[int, ...]
    allowed: tuple[int, ...]


@dataclass(slots=True)
class Asked:
    """How much an engine was asked, and how long its answers took."""

    requests: int = 0
    beginnings: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        rate = self.beginnings / self.seconds if self.seconds else 0.0
        return (
            f"{counted(self.requests, 'requests')} for {counted(self.beginnings, 'beginnings')} in"
            f" {self.seconds:.1f} s, {rate:.3g} beginnings a second"
        )


def _silent(text: str) -> None:
    """Nobody is told."""


def _alone(asked: Asked) -> list[Asked]:
    """There is no other process."""
    return [asked]


class Engine(ABC):
    """Something that samples; `say` shows a line to who waits for it, `gather` brings together what all
    processes of a run asked."""

    say: Callable[[str], None] = staticmethod(_silent)
    gather: Callable[[Asked], list[Asked]] = staticmethod(_alone)

    def tell(self, who: str, asked: Asked) -> None:
        """Say how much all processes asked, which wait for one another here; the slowest one's seconds."""
        every = self.gather(asked)
        requests, beginnings = sum(one.requests for one in every), sum(one.beginnings for one in every)
        self.say(f"{who}: {Asked(requests, beginnings, max(one.seconds for one in every))}")

    @abstractmethod
    def serving(self, model: LanguageModel) -> AbstractContextManager[DecoderOf]:
        """While this is open the engine samples for `model` (with its weights, if it can take them)."""

    def close(self) -> None:  # noqa: B027  (most engines hold nothing)
        """Let go of what it has started: there is no E-step any more."""


class OwnEngine(Engine):
    """The model's own forward passes."""

    @contextmanager
    def serving(self, model: LanguageModel) -> Iterator[DecoderOf]:
        """See `Engine`."""
        yield branch_decoder


Ask: TypeAlias = Callable[[Sequence[Choice]], Sequence[Sequence[float]]]
"""log-probabilities (nats) of each choice's allowed tokens, up to a constant of the choice."""


class EngineDecoder(SeparateDecoder):
    """Branches whose next tokens an engine weighs; branches that say the same are asked about once."""

    def __init__(self, ask: Ask, model: LanguageModel, prompts: Sequence[Ints], branches: int) -> None:
        super().__init__(model, prompts, branches)
        self._ask = ask

    def choice_logits(self, branches: Sequence[Place], choices: Tensor, allowed: Tensor) -> Tensor:
        """See `Decoder`."""
        ids, mask = choices.cpu().numpy(), allowed.cpu().numpy()
        rows = [
            Choice(tuple(self._sequences[r][b]), tuple(ids[m].tolist()))
            for (r, b), m in zip(branches, mask, strict=True)
        ]
        distinct = list(dict.fromkeys(rows))
        log_probs = dict(zip(distinct, self._ask(distinct), strict=True))
        logits = np.full(mask.shape, -np.inf, np.float32)
        for row, m, choice in zip(logits, mask, rows, strict=True):
            row[m] = log_probs[choice]
        return torch.from_numpy(logits).to(self.model.device)


def allowed_log_probs(log_probs: dict[int, float], allowed: Sequence[int], who: str) -> list[float]:
    """The log-probabilities of the allowed tokens, in their order.

    Raises `TrainingError` where one is missing: a token that cannot be drawn is no proposal.
    """
    missing = [token for token in allowed if token not in log_probs]
    if missing:
        raise TrainingError(
            f"{who}: gave the log-probabilities of {len(log_probs)} tokens without {len(missing)} of the"
            f" {len(allowed)} allowed ones; they have to be taken after masking (--logprobs-mode"
            f" processed_logprobs), and --max-logprobs has to be {len(allowed)} at least"
        )
    return [log_probs[token] for token in allowed]
