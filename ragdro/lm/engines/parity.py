"""Whether an engine computes the model that it was given: both are asked behind a few random tokens."""

from __future__ import annotations

import numpy as np
import torch

from ragdro.errors import TrainingError
from ragdro.lm.decoding import SeparateDecoder
from ragdro.lm.engines.base import Ask, Choice
from ragdro.lm.model import LanguageModel

_PROMPTS, _LENGTH, _CHOICES = 3, 32, 20
"""Random tokens that are compared."""
_EQUAL = 1e-3
"""Nats by which an engine with our weights may always differ."""
_SPREADS = 5
"""How many times as much as when it was started: in 16 bits it differs from us anyway."""
_FARTHEST = {torch.float32: 0.02, torch.float16: 0.5, torch.bfloat16: 0.5}
"""Nats by which an engine that has just been started may differ from us, by the dtype of products."""


def difference(ask: Ask, model: LanguageModel) -> float:
    """How far an engine's log-probabilities (nats) are at most from the model's own."""
    rng = np.random.default_rng(0)
    tokens = min(len(model.tokenizer.hf), model.hf.get_input_embeddings().weight.shape[0])
    prompts = rng.integers(tokens, size=(_PROMPTS, _LENGTH))
    choices = np.sort(rng.choice(tokens, min(_CHOICES, tokens), replace=False))
    asked = [Choice(tuple(prompt.tolist()), tuple(choices.tolist())) for prompt in prompts]
    said = torch.tensor(ask(asked), dtype=torch.float64)
    model.hf.eval()
    with torch.no_grad():
        every = torch.ones(len(prompts), len(choices), dtype=torch.bool, device=model.device)
        columns = torch.from_numpy(choices).to(model.device)
        places = [(question, 0) for question in range(len(prompts))]
        logits = SeparateDecoder(model, list(prompts), 1).choice_logits(places, columns, every)
    own = logits.cpu().double().log_softmax(-1)
    return float((said.log_softmax(-1) - own).abs().max())


def refuse_another(apart: float, model: LanguageModel, who: str, advice: str) -> None:
    """Raises `TrainingError` for an engine that has just been given the model and says something else."""
    most = _FARTHEST[model.autocast or model.hf.dtype]
    if not apart <= most:
        raise TrainingError(
            f"{who} has just loaded the selector, and its log-probabilities are {apart:.2g} nats from the"
            f" model's own (at most {most:g} is rounding), so it computes another model; {advice}"
        )


def is_stale(apart: float, rounding: float) -> bool:
    """Whether new weights have not reached all of an engine that was `rounding` nats from the model when it
    had just been started, and is `apart` now."""
    return not apart <= max(_EQUAL, _SPREADS * rounding)


def stale_weights(apart: float, rounding: float, who: str) -> str:
    """What is said then, once."""
    return (
        f"{who}: new weights did not reach all of vLLM (log-probabilities differ by {apart:.2g}, and did by"
        f" {rounding:.2g} when it was started), so it is started anew for every E-step"
    )
