"""How far a warm-up's teacher brings a frozen pointer: all gold selected, on the sets of `pretrained.py`.

    python reproductions/teachers.py DATA --sets hotpotqa 2wiki musique --teachers gold distant --train 200

The selector of `configs/smollm2-135m.yaml` (a weight for each attention head) is fitted to what each teacher
selects for the first `--train` questions (several numbers: several rows), and its likeliest lists of the test
questions are measured: how many hold all gold passages, beside the first K of the retriever's order, with
95 % bootstrap intervals and paired permutation tests against that order and against the first teacher. No
generator is asked, but by teachers that are one. Every prompt is read once: fits are seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from m_steps import all_gold
from pretrained import SETS, SIZES, config_of, prepare

from ragdro.config import Config
from ragdro.evaluation.significance import bootstrap_interval, paired_permutation_test
from ragdro.runs.setup import build_rag, load_tasks
from ragdro.system import Rag
from ragdro.training.teachers import Orders, model_orders
from ragdro.training.warm_up import warm_up
from ragdro.types import Task


def teach(rag: Rag, config: Config, teacher: str, tasks: Sequence[Task]) -> None:
    """Fit the selector to what the teacher selects; the generator is left as it is."""
    settings = config.warm_up.model_copy(update={"teacher": teacher, "generator": None})
    orders: Orders = {}
    if settings.asks_a_model:
        ranked = model_orders(rag.generator, tasks, settings, config.e_step.max_tokens_per_micro_batch)
        orders = {task.question.id: order for task, order in zip(tasks, ranked, strict=True)}
    rng = np.random.default_rng(config.seed)
    warm_up(rag.selector, rag.generator, tasks, settings, rng, orders=orders)


def say(label: str, held: Sequence[float], compared: dict[str, Sequence[float]]) -> None:
    """One row: the mean with its interval, and the difference from each of `compared`."""
    rng = np.random.default_rng(0)
    mean = bootstrap_interval(held, rng)
    cells = [f"{mean.mean:.3f} ({mean.low:.3f}–{mean.high:.3f})"]
    for name, other in compared.items():
        gain = bootstrap_interval(np.subtract(held, other).tolist(), rng)
        p = paired_permutation_test(other, held, rng)
        cells.append(f"from {name} {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}), p = {p:.4f}")
    print(f"| {label} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["hotpotqa", "2wiki", "musique"])
    parser.add_argument(
        "--teachers",
        nargs="+",
        choices=["gold", "distant", "query-likelihood", "fused"],
        default=["gold", "distant"],
    )
    parser.add_argument("--train", type=int, nargs="+", default=[200])
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--runs", type=Path, default=Path("runs/teachers"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", choices=SIZES, default="small", help="of the config, as in pretrained.py")
    parser.add_argument("--overrides", nargs="*", default=[], help="dotted.key=value of the config")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.sets:
        keys = prepare(options.data, options.runs / "data", name, options.size)
        config = config_of("warm-up", name, keys, options)
        rag = build_rag(config)
        weights = rag.selector.model.projections
        assert weights is not None and config.data.test is not None
        start = {key: value.clone() for key, value in weights.state_dict().items()}
        train = load_tasks(config, config.data.train)
        test = load_tasks(config, config.data.test)[: options.test]
        first = [
            all_gold(task, range(min(config.selector.k, len(task.candidates.passages)))) for task in test
        ]
        print(f"\n{name}, {len(test)} test questions\n")
        say("the retriever's order", first, {})
        for number in options.train:
            compared = {"the retriever's order": first}
            for teacher in options.teachers:
                weights.load_state_dict(start)
                teach(rag, config, teacher, train[:number])
                lists = rag.selector.greedy(test, config.evaluation.max_tokens_per_micro_batch)
                held = [all_gold(task, one.permutation) for task, one in zip(test, lists, strict=True)]
                say(f"{teacher}, {min(number, len(train))} questions", held, compared)
                compared.setdefault(options.teachers[0], held)


if __name__ == "__main__":
    main()
