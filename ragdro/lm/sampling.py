"""Texts that a model writes freely, token by token over its whole vocabulary, with exact log-probabilities.

In: prompts and, for each, the random numbers of as many texts as are drawn behind it, or none for the
likeliest token at each place. Out: what was written, each with log q of what it was drawn from and log p
under the model, its end token included. A text ends with an end token or is as long as it may be: its
log-probability is then that of beginning so, which leaves nothing out and counts nothing twice. The prompt is
read once for all its texts (`ragdro.lm.decoding`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ragdro.lm.batching import batches_by_tokens
from ragdro.lm.decoding import BranchDecoder, Decoder, Place, branch_decoder
from ragdro.lm.model import LanguageModel
from ragdro.lm.tree import Ints
from ragdro.profiling import phase

_AT_ONCE = 2**22
"""Probabilities that are looked at together: a vocabulary has a hundred thousand tokens."""


@dataclass(frozen=True, slots=True)
class Written:
    """The tokens of a text, its end token among them if it has one, with log q and log p (nats)."""

    tokens: tuple[int, ...]
    log_proposal: float
    log_prior: float


def write_freely(
    model: LanguageModel,
    prompts: Sequence[Ints],
    uniforms: Sequence[NDArray[np.float64]] | None,
    most: int,
    *,
    temperature: float,
    max_tokens: int,
) -> list[list[Written]]:
    """The texts behind each prompt, of `most` tokens at most: one for each row of its `uniforms`
    [texts, most], numbers in [0, 1); one greedy text where these are None. `max_tokens` bounds one pass."""
    written: dict[int, list[Written]] = {}
    model.hf.eval()
    for batch in batches_by_tokens([len(p) + most for p in prompts], max_tokens):
        numbers = None if uniforms is None else [uniforms[i] for i in batch]
        texts = _write(model, [prompts[i] for i in batch], numbers, most, temperature)
        written.update(zip(batch, texts, strict=True))
    return [written[i] for i in range(len(prompts))]


def rehearse_writing(model: LanguageModel, prompts: Sequence[Ints], texts: int, most: int) -> Iterator[int]:
    """Compute the most that `write_freely` may for a batch of prompts with so many texts behind each; yields
    after each forward pass the bytes of the key-value cache."""
    decoder = BranchDecoder(model, prompts, texts)
    yield decoder.cache_bytes
    size = int(model.hf.get_input_embeddings().weight.shape[0])
    places = [(r, b) for r in range(len(prompts)) for b in range(texts)][: max(1, _AT_ONCE // size)]
    for step in range(most):
        decoder.feed([[[b][:step] for b in range(texts)]] * len(prompts))  # no two texts are alike
        allowed = torch.ones(len(places), size, dtype=torch.bool)
        decoder.choice_logits(places, torch.arange(size), allowed).cpu().double().log_softmax(-1)
        yield decoder.cache_bytes


class _Text:
    """A text being written."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.log_proposal = 0.0
        self.log_prior = 0.0
        self.ended = False


@phase("decode")
def _write(
    model: LanguageModel,
    prompts: Sequence[Ints],
    uniforms: Sequence[NDArray[np.float64]] | None,
    most: int,
    temperature: float,
) -> list[list[Written]]:
    counts = [1] * len(prompts) if uniforms is None else [len(u) for u in uniforms]
    rows = [[_Text() for _ in range(count)] for count in counts]
    ends = set(model.tokenizer.end_ids)
    with torch.no_grad():
        decoder = branch_decoder(model, prompts, max(counts))
        for step in range(most):
            going = [(r, b) for r, row in enumerate(rows) for b, text in enumerate(row) if not text.ended]
            if not going:
                break
            decoder.feed(_last_tokens(rows, max(counts)))
            u = None if uniforms is None else np.array([uniforms[r][b, step] for r, b in going])
            chosen = _choose(model, decoder, going, u, temperature)
            for (r, b), token, log_q, log_p in zip(going, *chosen, strict=True):
                text = rows[r][b]
                text.tokens.append(token)
                text.log_proposal += log_q
                text.log_prior += log_p
                text.ended = token in ends
    return [[Written(tuple(t.tokens), t.log_proposal, t.log_prior) for t in row] for row in rows]


def _last_tokens(rows: Sequence[Sequence[_Text]], branches: int) -> list[list[list[int]]]:
    """What each branch that goes on is fed: its last token, at first none; branches that a prompt has no text
    for are fed nothing."""
    fed = [[[] if t.ended else t.tokens[-1:] for t in row] for row in rows]
    return [row + [[]] * (branches - len(row)) for row in fed]


def _choose(
    model: LanguageModel,
    decoder: Decoder,
    going: Sequence[Place],
    uniforms: NDArray[np.float64] | None,
    temperature: float,
) -> tuple[list[int], list[float], list[float]]:
    """The next token of each text, and its log q and log p."""
    size = int(model.hf.get_input_embeddings().weight.shape[0])
    vocabulary = torch.arange(size, device=model.device)
    tokens, log_qs, log_ps = list[int](), list[float](), list[float]()
    at_once = max(1, _AT_ONCE // size)
    for start in range(0, len(going), at_once):
        places = going[start : start + at_once]
        allowed = torch.ones(len(places), size, dtype=torch.bool, device=model.device)
        logits = decoder.choice_logits(places, vocabulary, allowed)
        log_p = logits.cpu().double().log_softmax(-1)  # some devices have no float64
        log_q = log_p if temperature == 1 else (log_p / temperature).log_softmax(-1)
        u = None if uniforms is None else torch.from_numpy(uniforms[start : start + at_once])
        columns = log_p.argmax(-1) if u is None else _drawn(log_q, u)
        tokens += columns.tolist()
        log_ps += log_p.gather(1, columns[:, None])[:, 0].tolist()
        log_qs += [0.0] * len(places) if u is None else log_q.gather(1, columns[:, None])[:, 0].tolist()
    return tokens, log_qs, log_ps


def _drawn(log_q: Tensor, uniforms: Tensor) -> Tensor:
    """[texts]: inverse transform sampling of one token of each row."""
    cumulative = log_q.exp().cumsum(-1)
    reached = (cumulative <= uniforms[:, None] * cumulative[:, -1:]).sum(-1)
    return reached.clamp(max=log_q.shape[-1] - 1)
