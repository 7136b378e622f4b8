"""What the speed benchmarks share: their command line, random models and a made-up world."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from ragdro.config import LoraAdapter, ModelSettings
from ragdro.generation.generator import Generator
from ragdro.lm.adapters import with_adapter
from ragdro.lm.kernels import use_liger
from ragdro.lm.load import autocast_dtype, weights_dtype
from ragdro.lm.model import LanguageModel
from ragdro.lm.tokens import TextTokenizer
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.selection.list_selector import ListSelector
from ragdro.types import Candidates, Passage, Permutation, Question, Task

MODELS = {  # vocabulary, width, inner width, layers, heads, key-value heads
    "smallest": (512, 32, 64, 2, 4, 2),
    "tiny": (8192, 256, 768, 4, 4, 4),
    "llama-1b": (128256, 2048, 8192, 16, 32, 8),
    "llama-8b": (128256, 4096, 14336, 32, 32, 8),
}
CONCENTRATED = 36.0
"""Spread of the candidates' logits at which 8 samples hold about 2.6 distinct lists (the demo's third
iteration: 2.4)."""


@dataclass(frozen=True)
class Trial:
    """The sizes of one run: prompt of about `prompt` tokens, m samples of K out of N, how many questions."""

    model: str
    device: torch.device
    prompt: int
    samples: int
    questions: int
    k: int
    n: int
    repeats: int
    only: str | None
    lora: bool
    amp: Literal["auto", "bfloat16"]
    kernels: Literal["torch", "liger"]

    @property
    def passage_tokens(self) -> int:
        """What a passage may take for the selector's prompt to come to `prompt` tokens."""
        return max(4, (self.prompt - 60) // self.n - 6)


def parse(description: str | None, **defaults: int) -> Trial:
    """The command line of a benchmark; `defaults` are the sizes of a full run."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--model", choices=tuple(MODELS), default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--lora", action="store_true", help="train adapters on frozen weights")
    parser.add_argument("--amp", choices=("auto", "bfloat16"), default="auto")
    parser.add_argument("--kernels", choices=("torch", "liger"), default="torch")
    parser.add_argument("--threads", type=int)
    for name, value in {"samples": 8, "questions": 1, "repeats": 5, **defaults}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    sizes = {"model": arguments.model, "prompt": 2048, "k": 5, "n": 20} | {
        name: getattr(arguments, name) for name in ("samples", "questions", "repeats")
    }
    if arguments.size == "tiny":
        sizes = {
            "model": "smallest", "prompt": 160, "k": 2, "n": 5, "samples": 3, "questions": 2, "repeats": 1,
        }  # fmt: skip
    return Trial(
        device=torch.device(arguments.device),
        only=arguments.only,
        lora=arguments.lora,
        amp=arguments.amp,
        kernels=arguments.kernels,
        **sizes,
    )


def random_model(trial: Trial, seed: int) -> LanguageModel:
    """A Llama with random weights and a tokenizer of bytes, as a run has it on the trial's device.

    Weights are float32, on a GPU under bfloat16 autocast; under adapters they are bfloat16 there.
    """
    name, device = trial.model, trial.device
    vocabulary, width, inner, layers, heads, kv_heads = MODELS[name]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet, vocab_size=260, show_progress=False
    )
    tokenizer.train_from_iterator([], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")
    config = AutoConfig.for_model(
        "llama",
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=width // heads,
        max_position_embeddings=32768,
        tie_word_embeddings=name != "llama-8b",
        initializer_range=0.1 if name == "smallest" else 0.02,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    settings = ModelSettings(
        model=name,
        amp=trial.amp,
        dtype="bfloat16" if trial.lora and device.type == "cuda" else "float32",
        adapter=LoraAdapter() if trial.lora else None,
    )
    with torch.device(device):
        hf = AutoModelForCausalLM.from_config(
            config, dtype=weights_dtype(settings), attn_implementation="sdpa"
        )
        if trial.kernels == "liger":
            use_liger(hf, name)
        model = LanguageModel(hf.eval(), TextTokenizer(fast, name=name), autocast_dtype(settings, device))
        if settings.adapter is None:
            return model
        return with_adapter(model, "trained", settings.adapter, seed=seed)


def slope(model: LanguageModel) -> Tensor:
    """Of all gradients the first layer's keys' (its adapter's, where it has one), in units of the largest."""
    keys = model.hf.get_decoder().layers[0].self_attn.k_proj
    weight = keys.weight if model.adapter is None else keys.lora_B[model.adapter].weight
    assert weight.grad is not None
    gradient: Tensor = weight.grad.detach().float()
    return gradient / gradient.abs().max()


@contextmanager
def compared(*models: LanguageModel) -> Iterator[float]:
    """How far apart two ways to one number may be (see `same`), in float32 where the weights are. In 16 bits
    this finds gross faults alone: `attention_kernels` holds rounding against rounding."""
    autocasts = [model.autocast for model in models]
    exact = all(p.dtype == torch.float32 for model in models for p in model.hf.parameters())
    for model in models:
        model.autocast = None if exact else model.autocast
    try:
        yield 2e-4 if exact else 0.25
    finally:
        for model, autocast in zip(models, autocasts, strict=True):
            model.autocast = autocast


def selector_of(trial: Trial) -> ListSelector:
    """A selector with random weights behind the tiny prompt."""
    budget = Budget(40, trial.passage_tokens)
    model = random_model(trial, seed=0)
    return ListSelector(model, load_template("tiny-selector"), k=trial.k, n=trial.n, budget=budget)


def generator_of(trial: Trial) -> Generator:
    """A generator with random weights behind the tiny prompt."""
    budget = Budget(40, trial.passage_tokens)
    model = random_model(trial, seed=1)
    return Generator(model, load_template("tiny-generator"), budget=budget, answer_tokens=24)


def world(trial: Trial) -> list[Task]:
    """Questions with candidates of random letters, each longer than a passage's budget."""
    made = []
    for i in range(trial.questions):
        rng = np.random.default_rng(i)
        texts = ["".join(rng.choice(list("abcdefgh "), trial.passage_tokens + 9)) for _ in range(trial.n)]
        passages = tuple(Passage(f"{i}-{j}", "", text) for j, text in enumerate(texts))
        question = Question(f"q{i}", "what is written where?" + "?" * 20, ("the answer " * 2,))
        made.append(Task(question, Candidates(question.id, passages)))
    return made


def lists_of(trial: Trial, tasks: list[Task], spread: float) -> list[list[Permutation]]:
    """m lists a question, drawn without replacement from candidates' logits of this spread (0: uniform)."""
    drawn = []
    for i, _ in enumerate(tasks):
        rng = np.random.default_rng(100 + i)
        logits = rng.normal(0, 1, trial.n) * spread
        keys = [logits + rng.gumbel(size=trial.n) for _ in range(trial.samples)]
        drawn.append([tuple(np.argsort(-key)[: trial.k].tolist()) for key in keys])
    return drawn


def distinct(lists: list[list[Permutation]]) -> float:
    """Mean number of distinct lists a question."""
    return sum(len(set(drawn)) for drawn in lists) / len(lists)
