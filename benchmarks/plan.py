"""`ragdro plan` against measured peaks of memory, phase by phase, as one JSON line. Linux.

    python -m benchmarks.plan [--variant lora]
    python -m benchmarks.plan --device cuda --size llama-1b

On a CPU each phase runs in a process of its own on random weights: the largest batch of `Selector.sample`, of
`score_all`, and two updates of `fit`. Measured is the most resident memory over what was resident before the
models were made (after a small run of everything, which loads the kernels). Memory that is freed goes back
to the system at once (MALLOC_MMAP_THRESHOLD_), so that resident is what is alive. `ratio` is planned over
measured. About three minutes on two cores. On a GPU it is what torch's allocator gave out at most.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import resident
from ragdro.algorithms.examples import TrainingExample
from ragdro.config import Config
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.planning.plan import plan
from ragdro.planning.stand_in import longest_tasks, stand_in, unlike_lists
from ragdro.report.profile import device_name
from ragdro.system import reading
from ragdro.training.m_step import fit

CPU = torch.device("cpu")
QUESTIONS = 24
PHASES = ("sampling", "scoring", "selector update", "generator update")
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"adapter": {"rank": 8}},
    "shared": {"adapter": {"rank": 8}},
    "checkpointing": {"gradient_checkpointing": True},
    "bf16": {"amp": "bfloat16"},
    "lora-bf16": {"adapter": {"rank": 16}, "dtype": "bfloat16", "gradient_checkpointing": True},
}
SIZES: dict[str, dict[str, Any]] = {
    "full": {
        "scratch": {"width": 256, "layers": 6, "vocabulary": 8192}, "passage_tokens": 90, "n": 20, "k": 5,
        "samples": 8, "tokens": 4096,
    },
    "small": {
        "scratch": {"width": 128, "layers": 6, "vocabulary": 8192}, "passage_tokens": 60, "n": 6, "k": 3,
        "samples": 3, "tokens": 2048,
    },
    "tiny": {
        "scratch": {"width": 256, "layers": 5, "vocabulary": 16384}, "passage_tokens": 30, "n": 5, "k": 2,
        "samples": 2, "tokens": 1024,
    },
    "llama-1b": {
        "scratch": {"width": 2048, "layers": 16, "vocabulary": 128256, "heads": 32, "positions": 8192},
        "passage_tokens": 100, "n": 20, "k": 5, "samples": 8, "tokens": 8192,
    },
    "llama-8b": {
        "scratch": {"width": 4096, "layers": 32, "vocabulary": 128256, "heads": 32, "positions": 8192},
        "passage_tokens": 100, "n": 20, "k": 5, "samples": 8, "tokens": 8192,
    },
}  # fmt: skip


def config_of(size: str, variant: str) -> Config:
    """A config of this size; its data does not matter."""
    sizes = SIZES[size]
    role = {"scratch": sizes["scratch"], "passage_tokens": sizes["passage_tokens"], "question_tokens": 20}
    role |= VARIANTS[variant]
    step = {"max_tokens_per_micro_batch": sizes["tokens"], "batch_size": QUESTIONS // 2}
    return Config.model_validate(
        {
            "data": {"train": "-", "validation": "-"},
            "top_n": sizes["n"],
            "selector": {**role, "k": sizes["k"], "prompt": "tiny-selector"},
            "generator": {**role, "answer_tokens": 12, "prompt": "tiny-generator"},
            "shared_backbone": variant == "shared",
            "e_step": {"samples": sizes["samples"], "max_tokens_per_micro_batch": sizes["tokens"]},
            "m_step": {"selector": step, "generator": step},
        }
    )


def work(config: Config, phase: str, questions: int, device: torch.device = CPU) -> None:
    """The phase itself, as a run does it, on models made here."""
    layers = config.selector.scratch.layers if config.selector.scratch else 0
    with torch.device(device):
        selector, generator, _ = stand_in(config, device, {"selector": layers, "generator": layers})
    tasks, lists = longest_tasks(config, questions), unlike_lists(config, questions)
    budget = config.e_step.max_tokens_per_micro_batch

    def chosen(i: int) -> SequenceGroup:
        return selector.group(tasks[i], lists[i])

    def read(i: int) -> SequenceGroup:
        return generator.group([reading(tasks[i], z) for z in lists[i]])

    if phase == "sampling":
        shape = (config.e_step.samples, selector.choices_per_list)
        uniforms = [np.random.default_rng(i).random(shape) for i in range(questions)]
        selector.sample(tasks, uniforms, temperature=1.0, max_tokens=budget)
    elif phase == "scoring":
        score_all(generator.model, [read(i) for i in range(questions)], budget)
    else:
        role = phase.split()[0]
        model, build = (selector.model, chosen) if role == "selector" else (generator.model, read)
        settings = config.m_step.selector if role == "selector" else config.m_step.generator

        def weighted(i: int) -> TrainingExample:
            return TrainingExample(tasks[i].question.id, build(i), (1 / len(lists[i]),) * len(lists[i]))

        fit(model, questions, weighted, settings, np.random.default_rng(0))


def measured(config: Config, phase: str) -> int:
    """Bytes at the peak, in this process."""
    small = {"width": 32, "layers": 1, "vocabulary": 512, "heads": 2}
    little = config.model_dump(mode="json")
    for role in ("selector", "generator"):
        little[role]["scratch"].update(small)
    work(Config.model_validate(little), phase, 2)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    work(config, phase, QUESTIONS)
    return (resident("VmHWM") - before) * 1024


def measured_on_gpu(config: Config, phase: str, device: torch.device) -> int:
    """Bytes at the peak, all of them freed again."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work(config, phase, QUESTIONS, device)
    return torch.cuda.max_memory_allocated() - before


def compared(
    size: str, variant: str, phases: Sequence[str] = PHASES, device: torch.device = CPU
) -> dict[str, dict[str, float]]:
    """Each phase: MiB planned and measured, and their ratio."""
    config = config_of(size, variant)
    planned = plan(config, QUESTIONS, device)["phases"]
    rows = {}
    for phase in phases:
        if device.type == "cuda":
            rows[phase] = row(planned[phase]["memory"], measured_on_gpu(config, phase, device))
            continue
        command = [sys.executable, "-m", "benchmarks.plan", "--size", size, "--variant", variant]
        completed = subprocess.run(
            [*command, "--only", phase],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "65536"},
        )
        rows[phase] = row(planned[phase]["memory"], int(completed.stdout))
    return rows


def row(planned: float, measured: int) -> dict[str, float]:
    """In MiB, and the ratio."""
    mib = {"planned_mib": round(planned / 2**20, 1), "measured_mib": round(measured / 2**20, 1)}
    return {**mib, "ratio": round(planned / measured, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="full")
    parser.add_argument("--variant", choices=tuple(VARIANTS), default="full")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", choices=PHASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(measured(config_of(arguments.size, arguments.variant), arguments.only))
        return
    device = torch.device(arguments.device)
    rows = compared(arguments.size, arguments.variant, device=device)
    sizes = {"size": arguments.size, "variant": arguments.variant}
    print(json.dumps({"benchmark": "plan", "device": device_name(device), **sizes, **rows}))


if __name__ == "__main__":
    main()
