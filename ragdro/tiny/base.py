"""Pre-training of the tiny base: a Llama of about 1 M parameters that reads and ranks worlds unlike the
demo's.

In: a seed. Out: a folder that `AutoModelForCausalLM` and `AutoTokenizer` load. The loss is the full-sequence
language-model loss over endlessly fresh documents (`documents.py`), so that facts must be read, not
remembered:

    L = Σ_t c_t · −log p(x_t | x_<t) / Σ_t c_t

with c_t small for tokens that nothing predicts (which name a passage holds) and 1 for identifiers and
answers. At the end ten animals are forgotten.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ragdro.errors import ModelError
from ragdro.tiny.documents import CANDIDATES, DocumentSource, Mixture
from ragdro.tiny.initial import initialise
from ragdro.tiny.probe import Probe
from ragdro.tiny.tokenizer import (
    content_tokens,
    forgotten_tokens,
    make_tokenizer,
    synonym_tokens,
    unused_tokens,
)


@dataclass(frozen=True)
class BaseConfig:
    """Shape and schedule of the base. The defaults are the committed checkpoint's; shares are of all
    steps."""

    hidden: int = 128
    layers: int = 5
    heads: int = 4
    head_dim: int = 64
    """Wide, with slow rotation (`rope_theta`): more than half of a head's rotary pairs then hardly turn over
    the 300 tokens of a prompt, so that a name can be compared with one far back."""
    intermediate: int = 192
    rope_theta: float = 1e8
    tokens: int = 2048
    """Tokens of a step, padding included. All documents of a step are of one kind and about one length:
    packed into rows with others, names were not matched after three times the steps that it takes without."""
    steps: int = 2200
    learning_rate: float = 6e-4
    """Gentle: at 2e-3 the heads of `initial.py` were gone before they were of use."""
    warmup: int = 50
    decay: float = 0.5
    grow: float = 0.5
    mixed_from: float = 0.8
    mixture: Mixture = field(default_factory=Mixture)


def make_model(config: BaseConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A model with random weights (torch's global generator) for the tokenizer's vocabulary."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden,
            intermediate_size=config.intermediate,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            head_dim=config.head_dim,
            max_position_embeddings=1024,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def rate(step: int, config: BaseConfig) -> float:
    """The learning rate's factor: a linear rise, a plateau, a linear fall to 0 over the last `decay`
    share."""
    left = (config.steps - step) / (config.decay * config.steps)
    return min(1.0, (step + 1) / config.warmup, left)


KINDS = {"lookup": 0.15, "reading": 0.3, "selection": 0.55}
"""Shares of the kinds of documents; every step's documents are of one kind."""


def candidates_at(step: int, config: BaseConfig) -> tuple[int, int]:
    """The least and the most candidates: few at first, up to 20 from the share `grow` of the steps on."""
    done = min(1.0, step / (config.grow * config.steps))
    return round(4 + 8 * done), round(6 + (CANDIDATES - 6) * done)


def mixture_at(step: int, config: BaseConfig) -> Mixture:
    """Nearly all lists are chains while there is most to learn; the configured share comes last."""
    return config.mixture if step / config.steps >= config.mixed_from else replace(config.mixture, chain=0.95)


class Batches:
    """Draws the batches of the curriculum, with one random generator for all draws."""

    def __init__(self, config: BaseConfig, tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> None:
        self.config, self.tokenizer, self.rng = config, tokenizer, rng
        self.source = DocumentSource(rng, config.mixture)

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Tokens and loss weights of a step, both (documents, length); padding has weight 0."""
        kind = self.rng.choices(list(KINDS), list(KINDS.values()))[0]
        candidates = self.rng.randint(*candidates_at(step, self.config))
        self.source.mixture = mixture_at(step, self.config)
        rows: list[list[int]] = []
        counts: list[list[float]] = []
        length = 0
        while length * (len(rows) + 1) <= self.config.tokens:
            pieces = self.source.document(kind, candidates)
            ids = self.tokenizer([piece.text for piece in pieces])["input_ids"]
            rows.append([token for piece in ids for token in piece])
            counts.append([piece.weight for piece, tokens in zip(pieces, ids, strict=True) for _ in tokens])
            length = max(length, len(rows[-1]))
        pad = self.tokenizer.pad_token_id
        tokens = torch.tensor([row + [pad] * (length - len(row)) for row in rows])
        weights = torch.tensor([row + [0.0] * (length - len(row)) for row in counts])
        return tokens, weights


def weighted_loss(model: LlamaForCausalLM, tokens: Tensor, weights: Tensor) -> Tensor:
    """The mean of the next-token losses by `weights`; tokens and weights are (documents, length)."""
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-1].flatten(0, 1)
    losses = F.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="none")
    counts = weights[:, 1:].flatten()
    return (losses * counts).sum() / counts.sum()


def train_base(
    config: BaseConfig,
    seed: int,
    *,
    compiled: bool,
    after_step: Callable[[int, float, LlamaForCausalLM], None] = lambda step, loss, model: None,
) -> LlamaForCausalLM:
    """A trained model, in float32. `after_step` sees the number of steps done, the loss and the model.

    `compiled` lets torch.compile fuse the step: 1.7 times as fast, and needs a C++ compiler.
    """
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = make_model(config, tokenizer)
    initialise(model, content_tokens(tokenizer), synonym_tokens(tokenizer))
    start = model.get_input_embeddings().weight.detach().clone()
    batches = Batches(config, tokenizer, random.Random(seed))
    loss_of = torch.compile(weighted_loss, dynamic=True) if compiled else weighted_loss
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    for step in range(config.steps):
        tokens, weights = batches.draw(step)
        if compiled:
            for tensor in (tokens, weights):
                torch._dynamo.mark_dynamic(tensor, [0, 1])  # Or a step of one document would compile anew.
        loss = loss_of(model, tokens, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = config.learning_rate * rate(step, config)
        optimizer.step()
        optimizer.zero_grad()
        after_step(step + 1, loss.item(), model)
    forget(model, start, forgotten_tokens(tokenizer), unused_tokens(tokenizer))
    return model


@torch.no_grad()
def forget(model: LlamaForCausalLM, start: Tensor, tokens: list[int], unused: list[int]) -> None:
    """Put the embeddings of `tokens` where they would be had they never occurred: at their `start` (vocab,
    hidden), moved as the `unused` tokens' were."""
    weight = model.get_input_embeddings().weight
    weight[tokens] = start[tokens] + (weight - start)[unused].mean(0)


def save_base(model: LlamaForCausalLM, folder: Path) -> None:
    """Write model and tokenizer to `folder`: weights in float16 (2.4 MB), to be loaded as float32."""
    model.save_pretrained(str(folder))
    make_tokenizer().save_pretrained(str(folder))
    weights = folder / "model.safetensors"
    half = {name: tensor.half() for name, tensor in load_file(weights).items()}
    save_file(half, weights, metadata={"format": "pt"})


def build_base(
    folder: Path,
    seed: int = 0,
    *,
    config: BaseConfig | None = None,
    compiled: bool = True,
    progress: bool = True,
    every: int = 250,
    probe_size: int = 96,
) -> dict[str, float]:
    """Train the base, write it to `folder` and return its held-out measures (see `Probe`).

    With `progress` they are printed every `every` steps, too.

    With `compiled` (the default) a C++ compiler is needed; without one, a `ModelError` says so.
    """
    if compiled and shutil.which("g++") is None and shutil.which("clang++") is None:
        raise ModelError(
            "no C++ compiler (g++ or clang++) for torch.compile: install one, or pass compiled=False"
        )
    config = config or BaseConfig()
    probe = Probe(make_tokenizer(), seed + 1, probe_size)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not progress) as display:
        bar = display.add_task("tiny base", total=config.steps)

        def after_step(step: int, loss: float, model: LlamaForCausalLM) -> None:
            display.update(bar, completed=step, description=f"tiny base, loss {loss:.2f}")
            if progress and step % every == 0:
                display.print(f"{step} {probe.line(model)}")

        model = train_base(config, seed, compiled=compiled, after_step=after_step)
    save_base(model, folder)
    return probe.measures(model)
