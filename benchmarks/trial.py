"""What the speed benchmarks share: random models, a made-up world, and two sides timed in one run.

A side is a function that does the whole job once. Sides are timed in turn, so that whatever else the machine
does meets all of them; a ratio is the median of the ratios within a turn. Peak memory is what the job takes
over what was held before it; on a CPU each side's is taken in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from ragdro.config import LoraAdapter, ModelSettings
from ragdro.generation.generator import Generator
from ragdro.lm.adapters import with_adapter
from ragdro.lm.load import autocast_dtype, weights_dtype
from ragdro.lm.model import LanguageModel
from ragdro.lm.peak import measured_peak, synchronise
from ragdro.lm.tokens import TextTokenizer
from ragdro.profiling import Profile, profiled
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.report.profile import device_name
from ragdro.selection.list_selector import ListSelector
from ragdro.types import Candidates, Passage, Permutation, Question, Task

Side = Callable[[], object]

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
    yield 2e-4 if exact else 0.25
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


def same(what: str, ours: Any, reference: Any, tolerance: float) -> None:
    """Refuse to time two sides that do not agree (relative to the larger value, at least 1)."""
    a, b = (torch.as_tensor(x).detach().double().cpu() for x in (ours, reference))
    worst = float(((a - b).abs() / b.abs().clamp(min=1)).max())
    assert a.shape == b.shape and worst <= tolerance, f"{what}: the sides differ by {worst:.3g}"


def that_fit(sides: dict[str, Side]) -> dict[str, Side]:
    """The sides whose job fits the device's memory: `ours` must."""
    there = {}
    for name, side in sides.items():
        try:
            side()
            there[name] = side
        except torch.OutOfMemoryError:
            if name == "ours":
                raise
            torch.cuda.empty_cache()
    return there


def timed(trial: Trial, sides: dict[str, Side]) -> dict[str, list[float]]:
    """Seconds of each side, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(trial.repeats):
        for name, side in sides.items():
            synchronise(trial.device)
            start = time.perf_counter()
            side()
            synchronise(trial.device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def middle(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Each side's median."""
    return {name: round(statistics.median(values), 4) for name, values in seconds.items()}


def ratio(seconds: dict[str, list[float]], side: str, over: str) -> float:
    """The median, over the turns, of one side's seconds over another's in the same turn."""
    turns = zip(seconds[side], seconds[over], strict=True)
    return round(statistics.median(a / b for a, b in turns), 3)


def compare(trial: Trial, sides: dict[str, Side], *, memory: bool = False) -> dict[str, Any]:
    """Times, ratios of each other side over `ours`, our utilisation, and (if asked for) peak memory."""
    if trial.only:
        return {"peak_mib": _peak_mib(trial, sides[trial.only])}
    asked = list(sides)
    if trial.device.type == "cuda":
        sides = that_fit(sides)
    seconds = timed(trial, sides)
    result: dict[str, Any] = {
        "ratio": {name: ratio(seconds, name, "ours") for name in sides if name != "ours"},
        "seconds": middle(seconds),
        **_rates(trial, sides["ours"], middle(seconds)["ours"]),
    }
    if len(sides) < len(asked):
        result["out_of_memory"] = [name for name in asked if name not in sides]
    if memory and trial.model != "smallest":
        result["peak_mib"] = {name: _peak_of(trial, name, side) for name, side in sides.items()}
    return result


def _rates(trial: Trial, ours: Side, seconds: float) -> dict[str, Any]:
    dtype = torch.float32 if trial.device.type == "cpu" else torch.bfloat16
    peak = measured_peak(trial.device, dtype, size=64 if trial.model == "smallest" else None)
    with profiled(Profile(peak)) as profile:
        ours()
    flops, tokens = sum(profile.flops.values()), sum(profile.tokens.values())
    return {
        "tokens_per_second": round(tokens / seconds),
        "model_flops_utilisation": round(flops / seconds / peak, 4),
        "peak_gflops_per_second": round(peak / 1e9, 1),
    }


def _peak_of(trial: Trial, name: str, side: Side) -> float:
    """On a GPU here; on a CPU by this command again, for this side alone."""
    if trial.device.type == "cuda":
        return _peak_mib(trial, side)
    module = f"benchmarks.{Path(sys.argv[0]).stem}"
    command = [sys.executable, "-m", module, *sys.argv[1:], "--only", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mib"])


def _peak_mib(trial: Trial, side: Side) -> float:
    if trial.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        side()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts again from here
    side()
    return round((resident("VmHWM") - before) / 2**10, 1)


def resident(field: str) -> int:
    """KiB of this process's memory."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


def report(trial: Trial, name: str, **metrics: Any) -> None:
    """The one JSON line."""
    keys = ("model", "prompt", "samples", "k", "n", "questions", "repeats", "lora", "amp")
    sizes = {key: getattr(trial, key) for key in keys}
    print(json.dumps({"benchmark": name, "device": device_name(trial.device), **sizes, **metrics}))
