"""`ragdro plan` against what is measured: a process's resident memory, real tensors, the profile's counts."""

from __future__ import annotations

import json
import re
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from transformers import AutoConfig
from typer.testing import CliRunner

from benchmarks.plan import PHASES, compared, config_of, work
from ragdro.cli import app
from ragdro.config import Config
from ragdro.planning import plan as planning
from ragdro.planning.live import most_bytes
from ragdro.planning.plan import plan
from ragdro.planning.stand_in import longest_tasks, stand_in
from ragdro.profiling import Profile, profiled
from ragdro.report.plan import print_plan
from reproductions.scaling import RECIPES
from reproductions.scaling import config_of as recipe_config
from tests.pipeline.test_train import write_config

CONFIGS = Path(__file__).parents[2] / "configs"

CPU = torch.device("cpu")


def pocket(variant: str, **changes: Any) -> Config:
    """A config whose models take a moment to run."""
    values = config_of("tiny", variant).model_dump(mode="json")
    for role in ("selector", "generator"):
        values[role]["scratch"].update(width=64, layers=6, vocabulary=2048)
        values[role]["passage_tokens"] = 48
        values["m_step"][role].update(batch_size=4, max_tokens_per_micro_batch=600)
    return Config.model_validate({**values, **changes})


@cache
def planned(variant: str) -> dict[str, dict[str, float]]:
    """The phases of a pocket config, eight questions."""
    return dict(plan(pocket(variant), 8, CPU)["phases"])


def test_a_process_takes_the_memory_that_was_planned() -> None:
    """To 20 %, resident memory of a process of its own; the other phases and variants: benchmarks/plan.py."""
    (row,) = compared("tiny", "full", ["generator update"]).values()
    assert row["measured_mib"] > 100 and 0.8 <= row["ratio"] <= 1.2


@pytest.mark.parametrize("variant", ["full", "lora", "checkpointing"])
def test_real_tensors_take_the_bytes_that_were_planned(variant: str) -> None:
    """Each phase as a run does it, with data, at its full depth; both models are made inside."""
    config = pocket(variant)
    for phase in PHASES:
        real = most_bytes(lambda p=phase: work(config, p, 8), [])  # type: ignore[misc]
        assert planned(variant)[phase]["memory"] == pytest.approx(real, rel=0.2), phase


@pytest.mark.parametrize("samples", [5, 12])
def test_drawing_is_planned_as_if_no_two_lists_were_alike(samples: int) -> None:
    """Measured with data: lists that differ from their first identifier on, as far as there are that many,
    take no more than the plan says and nearly that; lists that are all alike take less."""
    values = pocket("full", e_step={"samples": samples}, top_n=12).model_dump(mode="json")
    values["selector"].update(passage_tokens=4, k=4)
    config = Config.model_validate(values)
    selector, *_ = stand_in(config, CPU, {"selector": 6, "generator": 1})
    tasks = longest_tasks(config, 8)
    apart = np.full((samples, selector.choices_per_list), 0.5)
    apart[:, 0] = (np.arange(samples) + 0.5) / samples

    def drawn(numbers: np.ndarray) -> float:
        def draw() -> None:
            lists = selector.sample(tasks, [numbers] * 8, temperature=1e9, max_tokens=4096)
            assert {len({d.permutation for d in row}) for row in lists} == {len(np.unique(numbers[:, 0]))}

        return most_bytes(draw, [*selector.model.hf.parameters(), *selector.model.hf.buffers()])

    sampling = plan(config, 8, CPU)["phases"]["sampling"]
    own = sampling["memory"] - sampling["weights"]
    weights = sum(p.nbytes for p in selector.model.hf.parameters())
    measured = drawn(apart) - weights
    assert measured <= own <= 1.2 * measured
    assert drawn(np.full_like(apart, 0.5)) - weights < 0.95 * measured


def test_deeper_models_are_what_two_and_four_layers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    carried_on = planned("full")
    monkeypatch.setattr(planning, "_DEPTHS", (6, 6))
    for name, phase in plan(pocket("full"), 8, CPU)["phases"].items():
        # A prompt's pass ends within the last layer, so a draw's activations are no straight line in depth.
        assert phase["activations"] * 0.98 <= carried_on[name]["activations"]
        assert carried_on[name] == pytest.approx(phase, rel=0.08 if name == "sampling" else 0.02)


def test_the_last_layers_of_blocks_are_carried_on_with_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of six layers read ordinary text: five and six layers say what a plan of all six does."""
    values = pocket("full").model_dump(mode="json")
    values["generator"] |= {"passage_attention": "blocks", "full_layers": 3}
    config = Config.model_validate(values)
    carried_on = plan(config, 8, CPU)["phases"]["generator update"]
    monkeypatch.setattr(planning, "_DEPTHS", (3, 3))
    assert carried_on == pytest.approx(plan(config, 8, CPU)["phases"]["generator update"], rel=0.02)


def test_kept_passages_are_in_every_phase() -> None:
    """They stay while models are trained, until something is read again."""
    values = pocket("full").model_dump(mode="json")
    values["generator"] |= {"passage_attention": "blocks"}
    without = plan(Config.model_validate(values), 8, CPU)
    values["generator"] |= {"passage_memory": 1.5}
    kept = plan(Config.model_validate(values), 8, CPU)
    for name, phase in kept["phases"].items():
        before = without["phases"][name]
        assert phase == before | {"passages": 1.5 * 2**30, "memory": before["memory"] + 1.5 * 2**30}, name
    assert kept["memory"] == without["memory"] + 1.5 * 2**30
    shown = Console(record=True, width=120, file=StringIO())
    for planned_, expected in ((without, 0), (kept, 1)):
        print_plan(planned_, shown)
        assert sum("passages" in line for line in shown.export_text().splitlines()) == expected


@pytest.mark.parametrize("variant", ["full", "lora"])
def test_tokens_and_flops_are_those_that_a_profile_counts(variant: str) -> None:
    for phase in ("scoring", "generator update"):
        with profiled(Profile(1.0)) as profile:
            work(pocket(variant), phase, 8)
        assert planned(variant)[phase]["tokens"] == sum(profile.tokens.values())
        assert planned(variant)[phase]["flops"] == pytest.approx(sum(profile.flops.values()), rel=0.01)


def test_one_base_is_counted_once_and_adapters_need_little_beside_it() -> None:
    full, lora, shared = (planned(v)["selector update"] for v in ("full", "lora", "shared"))
    assert 0.5 * lora["weights"] < shared["weights"] < 0.6 * lora["weights"]
    assert lora["gradients"] < 0.5 * full["gradients"] and lora["flops"] < full["flops"]
    assert full["optimiser"] == 2 * full["gradients"]


def test_parts_of_a_model_take_part_of_the_memory() -> None:
    """By hand: of two processes each has half of six layers, two layers gathered and one whole gradient; of
    the other model all layers are gathered, beside the half."""
    config, alone = pocket("full", parallel={"strategy": "fsdp2"}), planned("full")["selector update"]
    parted = plan(config, 8, CPU, 2)["phases"]["selector update"]
    layer = 4 * (4 * 64 * 64 + 3 * 64 * 192 + 2 * 64)
    assert alone["weights"] - parted["weights"] == pytest.approx(3 * layer - 2 * layer - 3 * layer)
    assert alone["gradients"] - parted["gradients"] == pytest.approx(3 * layer - layer)
    assert alone["optimiser"] - parted["optimiser"] == pytest.approx(2 * 3 * layer)


def test_what_is_gathered_in_16_bits_takes_half() -> None:
    """By hand, as above: copies of half the size, of two layers of the one, of six of the other."""
    values = pocket("full", parallel={"strategy": "fsdp2"}).model_dump(mode="json")
    full = plan(Config.model_validate(values), 8, CPU, 2)["phases"]["selector update"]
    values["selector"]["dtype"] = values["generator"]["dtype"] = "bfloat16"
    half = plan(Config.model_validate(values), 8, CPU, 2)["phases"]["selector update"]
    layer = 4 * (4 * 64 * 64 + 3 * 64 * 192 + 2 * 64)
    assert full["weights"] - half["weights"] == pytest.approx(0.5 * (2 + 6) * layer)
    assert half["gradients"] == full["gradients"] and half["optimiser"] == full["optimiser"]


SHAPES = {  # what hubs say of the models that the configs name
    "meta-llama/Meta-Llama-3-8B-Instruct": ("llama", 128256, 4096, 14336, 32, 32, 8, False),
    "mistralai/Mistral-7B-Instruct-v0.3": ("mistral", 32768, 4096, 14336, 32, 32, 8, False),
    "Qwen/Qwen3-0.6B": ("qwen3", 151936, 1024, 3072, 28, 16, 8, True),
}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_config_fits_the_hardware_that_it_names(path: Path, tmp_path: Path) -> None:
    """Its first line names it; a tenth is left for what a plan does not count."""
    first = path.read_text().splitlines()[0]
    hardware = re.fullmatch(r"# Hardware: (\d+) x (\d+) GB (CPU|GPU)(\. .+)?", first)
    assert hardware is not None, first
    settings = yaml.safe_load(path.read_text())
    for role in ("selector", "generator"):
        if settings.get(role, {}).get("model") in SHAPES:
            kind, vocabulary, width, inner, layers, heads, kv_heads, tied = SHAPES[settings[role]["model"]]
            AutoConfig.for_model(
                kind, vocab_size=vocabulary, hidden_size=width, intermediate_size=inner,
                num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
                head_dim=128, max_position_embeddings=8192, tie_word_embeddings=tied,
            ).save_pretrained(tmp_path / role)  # fmt: skip
            settings[role]["model"] = str(tmp_path / role)
    device = torch.device("cuda" if hardware[3] == "GPU" else "cpu")
    memory = plan(Config.model_validate(settings), 1000, device, int(hardware[1]))["memory"]
    assert memory <= 0.9 * int(hardware[2]) * 2**30


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_fits_the_hardware_in_its_name(recipe: str, tmp_path: Path) -> None:
    processes, size = re.match(r"(\d+)x(\d+) ", recipe).groups()  # type: ignore[union-attr]
    assert int(processes) == RECIPES[recipe][-1]
    planned = plan(recipe_config(recipe, tmp_path), 1, torch.device("cuda"), int(processes))
    assert planned["memory"] <= 0.9 * int(size) * 2**30


def test_four_bits_and_eight_bit_states_take_less() -> None:
    values = pocket("lora").model_dump(mode="json")
    values["selector"]["quantisation"] = values["generator"]["quantisation"] = "4bit"
    values["m_step"]["selector"]["optimiser"] = "paged-adamw-8bit"
    large = planned("lora")["selector update"]
    small = plan(Config.model_validate(values), 8, CPU)["phases"]["selector update"]
    matrices = 2 * 6 * (4 * 64 * 64 + 3 * 64 * 192)  # of two models with six layers
    assert large["weights"] - small["weights"] == pytest.approx(matrices * (4 - 4.127 / 8), rel=0.01)
    assert small["optimiser"] == pytest.approx(large["optimiser"] / 8 * 2.03, rel=0.05)


def test_the_command_prints_it_without_loading_weights(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    (tmp_path / "model/model.safetensors").unlink()
    done = CliRunner().invoke(app, ["plan", str(path), "--json"], catch_exceptions=False)
    planned = json.loads(done.stdout)
    assert planned["questions"] == 4 and set(planned["phases"]) == set(PHASES)
    assert set(planned["index"]["parts"]) == {"passages", "BM25 postings"}
    assert planned["memory"] == max(p["memory"] for p in planned["phases"].values())
    more = CliRunner().invoke(app, ["plan", str(path), "--json", "--questions", "8"], catch_exceptions=False)
    assert json.loads(more.stdout)["flops"] == pytest.approx(2 * planned["flops"])
    large = ["plan", str(path), "--json", "--passages", "1000000"]
    wide = json.loads(CliRunner().invoke(app, large, catch_exceptions=False).stdout)["index"]
    assert wide["passages"] == 10**6 and wide["disk"] > 1000 * planned["index"]["disk"]
    away = CliRunner().invoke(app, ["plan", str(path), "data.corpus=none.jsonl"], catch_exceptions=False)
    assert "the index is not planned: data.corpus: none.jsonl is not there" in away.stdout.replace("\n", " ")
    shown = CliRunner().invoke(app, ["plan", str(path), "train_selector=false"], catch_exceptions=False)
    assert "generator update" in shown.stdout and "selector update" not in shown.stdout
