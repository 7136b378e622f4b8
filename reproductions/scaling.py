"""The recipes of docs/how-to/scaling.md: `ragdro plan`'s metrics for Llama-3's shapes, as one JSON line each.

    python -m reproductions.scaling [recipe ...]

Configs alone: no weights, no network, no GPU. Hours follow from the FLOPs by the assumptions below, which are
not measured.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from ragdro.config import Config
from ragdro.planning.plan import plan

SHAPES = {  # width, inner width, layers, heads, key-value heads, tied embeddings
    "8b": (4096, 14336, 32, 32, 8, False),
    "1b": (2048, 8192, 16, 32, 8, True),
}
FOUR_BITS = {"adapter": {"rank": 16}, "quantisation": "4bit", "gradient_checkpointing": True}
LORA = {"adapter": {"rank": 16}, "gradient_checkpointing": True}
FULL = {"gradient_checkpointing": True}
RECIPES: dict[str, tuple[dict[str, Any], str, dict[str, Any], bool, int]] = {
    # generator, selector's size and settings, one base for both, processes
    "1x24 8b+8b": (FOUR_BITS, "8b", FOUR_BITS, True, 1),
    "1x24 8b+1b": (FOUR_BITS, "1b", LORA, False, 1),
    "1x80 8b+8b": (LORA, "8b", LORA, True, 1),
    "1x80 8b+1b": (LORA, "1b", FULL, False, 1),
    "8x80 8b+8b": (FULL, "8b", FULL, False, 8),
    "8x80 8b+1b": (FULL, "1b", FULL, False, 8),
    "32x80 8b+8b": (FULL, "8b", FULL, False, 32),
    "32x80 8b+1b": (FULL, "1b", FULL, False, 32),
}


def config_of(recipe: str, folder: Path) -> Config:
    """The recipe's config; its models' configs are written to `folder`."""
    generator, selector, chooser, shared, processes = RECIPES[recipe]
    for name, (width, inner, layers, heads, kv_heads, tied) in SHAPES.items():
        AutoConfig.for_model(
            "llama", vocab_size=128256, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=width // heads,
            max_position_embeddings=8192, tie_word_embeddings=tied,
        ).save_pretrained(folder / name)  # fmt: skip
    role = {"dtype": "bfloat16", "question_tokens": 96, "passage_tokens": 180}
    step = {"batch_size": 64, "max_tokens_per_micro_batch": 8192}
    return Config.model_validate(
        {
            "data": {"train": "-", "validation": "-"},
            "selector": {**role, **chooser, "model": str(folder / selector)},
            "generator": {**role, **generator, "model": str(folder / "8b")},
            "shared_backbone": shared,
            "parallel": {"strategy": "fsdp2" if processes > 1 else "ddp"},
            "e_step": {"max_tokens_per_micro_batch": 16384},
            "m_step": {"selector": step, "generator": step},
        }
    )


def main() -> None:
    for recipe in sys.argv[1:] or RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            processes = RECIPES[recipe][-1]
            planned = plan(config_of(recipe, Path(folder)), 1, torch.device("cuda"), processes)
        rows = {
            name: {"gib": round(p["memory"] / 2**30, 1), "tokens": p["tokens"], "tflops": p["flops"] / 1e12}
            for name, p in planned["phases"].items()
        }
        print(json.dumps({"recipe": recipe, "gib": round(planned["memory"] / 2**30, 1), **rows}), flush=True)


if __name__ == "__main__":
    main()
