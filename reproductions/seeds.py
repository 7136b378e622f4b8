"""Train one config with several seeds, with each ablation, and print means with their spread.

    python reproductions/seeds.py configs/tiny.yaml --seeds 0 1 2 --runs runs/seeds
    python reproductions/seeds.py configs/tiny.yaml --vary generator.passage_attention=full,blocks

With `--vary` the values of a key stand in the place of the ablations; the others' differences are from the
first. Runs that are finished are read, not repeated; those of another config are made anew. The interval is
mean ± t · s / √n (Student's t, 95 %).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ragdro.config import Config, load_config
from ragdro.config.resume import first_difference, located, root_of
from ragdro.evaluation.significance import student_interval
from ragdro.report.tables import breakdowns
from ragdro.runs.status import CONFIG, read_results

VARIANTS = {
    "full": [],
    "selector frozen": ["train_selector=false"],
    "generator frozen": ["train_generator=false"],
}
KEYS = ("exact_match", "two_hop", "recall_at_5", "full_recall", "bound")


def run(config: str, runs: Path, name: str, overrides: list[str]) -> Path:
    """The finished run folder."""
    folder = runs / name
    if not ((folder / "results.json").is_file() and is_of(folder, load_config(config, overrides))):
        command = [
            sys.executable,
            "-m",
            "ragdro",
            "train",
            config,
            f"name={name}",
            f"runs={runs}",
            *overrides,
        ]
        subprocess.run([*command, "--overwrite"], check=True)
    return folder


def is_of(folder: Path, config: Config) -> bool:
    """Whether the run in `folder` was trained as `config` says, as many iterations."""
    began = load_config(folder / CONFIG)
    same = (began.iterations, began.patience) == (config.iterations, config.patience)
    return same and first_difference(located(began, root_of(folder, began)), located(config)) is None


def metrics(folder: Path) -> dict[str, dict[str, float | None]]:
    """The stages vanilla_rag, warm_up and best of a run, with exact match on two-hop questions."""
    results: dict[str, Any] = read_results(folder)
    hops = breakdowns(folder)
    best = results["best"]["iteration"]
    names = {
        "vanilla_rag": "vanilla_rag",
        "warm_up": "warm_up",
        "best": f"iteration-{best}" if best else "warm_up",
    }
    by_stage = {}
    for stage, name in names.items():
        by_stage[stage] = dict(results[stage])
        by_stage[stage]["two_hop"] = hops.get(name, {}).get("2", {}).get("exact_match")
    return by_stage


def interval(values: list[float]) -> str:
    """Mean and half the width of its 95 % interval."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    summary = student_interval(values)
    return f"{summary.mean:.3f} ± {summary.high - summary.mean:.3f}"


def row(label: str, stages: list[dict[str, float | None]]) -> str:
    cells = []
    for key in KEYS:
        values = [stage[key] for stage in stages if stage[key] is not None]
        cells.append(interval([float(v) for v in values if v is not None]) if values else "–")
    return f"| {label} | " + " | ".join(cells) + " |"


def main() -> None:
    """Run what is missing, then print a Markdown table and the differences that matter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--full-only", action="store_true", help="without the ablations")
    parser.add_argument("--vary", metavar="KEY=A,B", help="a key and its values in place of the ablations")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    variants = {"full": []} if args.full_only else VARIANTS
    if args.vary:
        key, _, values = args.vary.partition("=")
        variants = {value: [f"{key}={value}"] for value in values.split(",")}
    by_label: dict[str, list[dict[str, Any]]] = {}
    for label, switches in variants.items():
        for seed in args.seeds:
            name = f"{Path(args.config).stem}-{label.replace(' ', '-')}-{seed}"
            overrides = [f"seed={seed}", *switches, *args.overrides]
            by_label.setdefault(label, []).append(metrics(run(args.config, args.runs, name, overrides)))
    print("| | exact match | two-hop | recall@5 | full recall | bound |\n|---|---|---|---|---|---|")
    first = next(iter(by_label))
    full = by_label[first]
    print(row("vanilla RAG", [f["vanilla_rag"] for f in full]))
    print(row("warm-up", [f["warm_up"] for f in full]))
    for label, runs in by_label.items():
        print(row(f"best, {label}", [f["best"] for f in runs]))
    for label, stage in (("vanilla RAG", "vanilla_rag"), ("warm-up", "warm_up")):
        gains = {
            key: [f["best"][key] - f[stage][key] for f in full if f[stage][key] is not None]
            for key in ("exact_match", "two_hop", "full_recall")
        }
        print(f"best − {label}: " + json.dumps({k: interval(v) for k, v in gains.items() if v}))
    for label in list(by_label)[1:]:
        pairs = [(one["best"], other["best"]) for one, other in zip(by_label[label], full, strict=True)]
        gains = {key: [one[key] - other[key] for one, other in pairs] for key in ("exact_match", "two_hop")}
        print(f"best, {label} − {first}: " + json.dumps({k: interval(v) for k, v in gains.items()}))


if __name__ == "__main__":
    main()
