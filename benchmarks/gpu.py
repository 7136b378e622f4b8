"""Every benchmark on a GPU, one after another in one process: what `gpu.sh` runs.

    python -m benchmarks.gpu OUT [--size tiny] [--device cpu] [--seconds 300]

Each prints its line into OUT/results.jsonl as soon as it has it. One that fails leaves a line that says why
and does not stop the others; none is begun after so many seconds.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

import torch

LIGER_8B = ("--model", "llama-8b", "--lora", "--kernels", "liger")
JOBS: Sequence[tuple[str, Sequence[str]]] = (
    ("m_step_selector", (*LIGER_8B, "--questions", "3", "--repeats", "2")),
    ("m_step_generator", (*LIGER_8B, "--questions", "4", "--repeats", "2")),
    ("e_step_sample", ("--model", "llama-8b", "--lora", "--questions", "2", "--repeats", "2")),
    ("m_step_selector", ("--model", "llama-8b", "--lora", "--repeats", "3")),
    ("m_step_selector", ("--model", "llama-8b", "--lora", "--amp", "bfloat16", "--repeats", "3")),
    ("m_step_generator", ("--model", "llama-8b", "--lora", "--questions", "1", "--repeats", "2")),
    ("attention_kernels", ("--model", "llama-1b")),
    ("m_step_selector", ("--model", "llama-1b", "--repeats", "3")),
    ("m_step_generator", ("--model", "llama-1b", "--questions", "4", "--repeats", "3")),
    ("e_step_sample", ("--model", "llama-1b", "--repeats", "3")),
    ("e_step_score", ("--model", "llama-1b", "--repeats", "3")),
    ("plan", ("--size", "llama-1b")),
    ("iteration", ("--model", "llama-1b", "--repeats", "2")),
    ("e_step_score", ("--model", "llama-8b", "--lora", "--questions", "2", "--repeats", "2")),
    ("blocks", ("--model", "llama-1b", "--repeats", "2")),
    ("iteration", ("--model", "llama-8b", "--lora", "--repeats", "1")),
    ("plan", ("--size", "llama-8b", "--variant", "lora-bf16")),
    ("blocks", ("--model", "llama-8b", "--lora", "--repeats", "1")),
    ("growth", ("--model", "llama-1b", "--repeats", "2")),
)
"""What matters most first: several questions at 8B, where calls no longer take as long as products (target:
half of the peak)."""
FAILURES = (AssertionError, RuntimeError, ValueError, TypeError, AttributeError)


def line(name: str, main: Callable[[], None], arguments: Sequence[str]) -> str:
    """The JSON line of one benchmark, or one that says why there is none."""
    sys.argv, printed, begun = [f"{name}.py", *arguments], io.StringIO(), time.perf_counter()
    try:
        with redirect_stdout(printed):
            main()
        record = json.loads(printed.getvalue().splitlines()[-1])
    except FAILURES as error:
        traceback.print_exc()
        record = {"benchmark": name, "failed": f"{type(error).__name__}: {error}"[:300], "with": arguments}
    return json.dumps({**record, "wall_seconds": round(time.perf_counter() - begun, 1)})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--seconds", type=float, default=300)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    for name, arguments in JOBS:
        if time.perf_counter() - begun > options.seconds:
            print(f"{name} {' '.join(arguments)}: no time left", flush=True)
            continue
        tiny = ["--size", "tiny"] if options.size == "tiny" else []
        words = [*arguments, *tiny, "--device", options.device]
        record = line(name, import_module(f"benchmarks.{name}").main, words)
        with (options.out / "results.jsonl").open("a") as file:
            file.write(record + "\n")
        print(record[:1500], flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
