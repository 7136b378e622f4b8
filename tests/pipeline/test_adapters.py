"""Runs with LoRA: what is trained, saved, resumed and loaded; two adapters on one base."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import ragdro
from ragdro.config import Config
from ragdro.errors import ConfigError, ModelError
from ragdro.lm.scoring import score_all
from ragdro.runs.models import load_pair
from ragdro.system import reading
from tests.pipeline.crash import KILLED, Command, die_at_sync, outcome, small_run
from tests.pipeline.test_train import write_config
from tests.worlds import pocket_tasks

LORA = {"kind": "lora", "rank": 3, "alpha": 6, "targets": ["q_proj", "v_proj", "down_proj"]}
ROLES = ("selector", "generator")


def adapted(folder: Path, *, make: Any = write_config, **changes: Any) -> Path:
    """A config whose roles have adapters; `changes` are top-level keys, `adapter` what the roles get."""
    adapter = changes.pop("adapter", LORA)
    path: Path = make(folder)
    values = yaml.safe_load(path.read_text())
    for role in ROLES:
        values[role]["adapter"] = adapter
    path.write_text(yaml.safe_dump({**values, **changes}))
    return path


def config_of(folder: Path, *overrides: str, **changes: Any) -> Config:
    return ragdro.load_config(adapted(folder, **changes), overrides)


def weights(run: Path, stage: str, role: str) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / stage / role / "adapter_model.safetensors")


def test_a_run_trains_and_saves_the_adapters_alone_and_is_loaded_again(tmp_path: Path) -> None:
    config = config_of(tmp_path, "checkpoints.keep=all")
    base = (tmp_path / "model/model.safetensors").read_bytes()
    ragdro.run(config)
    run = tmp_path / "runs/run"
    for role in ROLES:
        before, after = (weights(run, f"iteration-{i}", role) for i in (0, 2))
        assert len(after) == 2 * 3 * 2  # two matrices for each of three modules in two layers
        assert all(t.dtype == torch.float32 for t in after.values())
        assert not all(torch.equal(before[key], after[key]) for key in after)
        assert not (run / "best" / role / "model.safetensors").exists()
    assert (tmp_path / "model/model.safetensors").read_bytes() == base
    rag = ragdro.load(run, stage="iteration-2")
    record = json.loads((run / "predictions-iteration-2.jsonl").read_text().splitlines()[0])
    assert rag.answer(record["question"]).answer == record["answer"]
    for model, role in zip((rag.selector.model, rag.generator.model), ROLES, strict=True):
        loaded = AutoModelForCausalLM.from_pretrained(run / "checkpoints/iteration-2" / role)
        ids = torch.arange(5, 25)[None]
        assert torch.allclose(loaded(ids).logits, model.hf(ids).logits, atol=1e-6)


def test_a_new_adapter_changes_nothing_and_all_linear_is_all_linear(tmp_path: Path) -> None:
    plain = load_pair(config_of(tmp_path, adapter=None))
    new = load_pair(config_of(tmp_path, adapter="lora"))
    ids = torch.arange(5, 25)[None]
    for before, after in zip(plain, new, strict=True):
        assert torch.equal(before.hf(ids).logits, after.hf(ids).logits)
        trained = {name for name, p in after.hf.named_parameters() if p.requires_grad}
        assert len(trained) == 2 * 7 * 2 and all("lora_" in name for name in trained)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_killed_run_ends_as_one_that_never_was(dropout: float, tmp_path: Path) -> None:
    """Also with dropout, whose random numbers belong to the update and not to the process."""
    path = adapted(tmp_path, make=small_run, adapter={**LORA, "dropout": dropout})

    def run(name: str, *options: str, **prepare: Any) -> int:
        return Command(tmp_path, "train", str(path), f"name={name}", *options, **prepare).wait()

    assert run("whole") == 0
    assert run("killed", prepare=die_at_sync, given=45) == KILLED
    assert list((tmp_path / "runs/killed/state").glob("*/*.safetensors"))
    assert run("killed", "--resume", prepare=die_at_sync, given=70) in (KILLED, -signal.SIGKILL, 0)
    assert run("killed", "--resume") == 0
    assert outcome(tmp_path / "runs/killed") == outcome(tmp_path / "runs/whole")


def test_dropout_is_there_in_training_and_nowhere_else(tmp_path: Path) -> None:
    """Its absence would make the test above a test of nothing."""
    selector, _ = load_pair(config_of(tmp_path, adapter={**LORA, "dropout": 0.5}))
    ids = torch.arange(5, 25)[None]
    for parameter in selector.hf.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    selector.hf.eval()
    quiet = selector.hf(ids).logits
    assert torch.equal(selector.hf(ids).logits, quiet)
    selector.hf.train()
    assert torch.equal(selector.hf(ids).logits, quiet)
    with selector.dropout():
        assert not torch.allclose(selector.hf(ids).logits, quiet, atol=1e-3)
    assert torch.equal(selector.hf(ids).logits, quiet)


def test_sharing_is_still_found_exact_where_training_begins_with_dropout(tmp_path: Path) -> None:
    """The first batch is met in training mode, and the agreement is looked for without dropout."""
    config = config_of(tmp_path, "warm_up.selector.epochs=1", adapter={**LORA, "dropout": 0.5})
    from ragdro.runs.setup import set_up
    from ragdro.training.warm_up import warm_up

    setup = set_up(config)
    warm_up(setup.rag.selector, setup.rag.generator, setup.train, config.warm_up, np.random.default_rng(0))
    for model in (setup.rag.selector.model, setup.rag.generator.model):
        assert model.fallbacks == 0 and not model.warned and not model.hf.training
        assert model.shares_prefixes is None  # it is looked for again after a fit


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter": {"targets": ["no_such_layer"]}}, r"selector\.adapter\.targets: \['no_such_layer'\]"),
        ({"adapter": "ia3"}, r"selector\.adapter\.kind"),
        ({"adapter": {"rank": 0}}, r"selector\.adapter\.rank"),
    ],
)
def test_adapters_that_cannot_be_are_refused_by_key(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        load_pair(config_of(tmp_path, **changes))


def test_four_bits_are_refused_without_an_adapter_and_without_the_library(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"selector: quantisation: .* give an `adapter`"):
        config_of(tmp_path, "selector.quantisation=4bit", adapter=None)
    config = config_of(tmp_path, "generator.quantisation=4bit")
    with pytest.raises(ConfigError, match=r"generator\.quantisation: 4bit needs bitsandbytes"):
        load_pair(config)


def test_an_adapter_in_place_of_a_model_and_another_models_adapter_are_refused(tmp_path: Path) -> None:
    ragdro.run(config_of(tmp_path, "iterations=0"))
    checkpoint = tmp_path / "runs/run/checkpoints/iteration-0"
    with pytest.raises(ModelError, match="an adapter, not a whole model"):
        load_pair(config_of(tmp_path, f"selector.model={checkpoint}/selector", adapter=None))
    other = config_of(tmp_path, adapter={**LORA, "rank": 5})
    config_file = checkpoint / "selector/adapter_config.json"
    config_file.write_text(config_file.read_text().replace('"r": 3', '"r": 5'))
    with pytest.raises(ModelError, match=r"selector: the adapter is another model's"):
        load_pair(other, checkpoint)


def test_two_adapters_on_one_base_train_as_two_models_do(tmp_path: Path) -> None:
    """Metrics and both adapters after a whole run, to 1e-6; loaded apart they give the same numbers."""
    for name, shared in (("apart", False), ("together", True)):
        ragdro.run(
            config_of(tmp_path, f"name={name}", adapter={**LORA, "dropout": 0.2}, shared_backbone=shared)
        )
    apart, together = (tmp_path / "runs" / name for name in ("apart", "together"))
    for role in ROLES:
        a, b = (weights(run, "iteration-2", role) for run in (apart, together))
        assert set(a) == set(b) and all((a[key] - b[key]).abs().max() <= 1e-6 for key in a)
        assert max(float(t.abs().max()) for key, t in a.items() if "lora_B" in key) > 1e-3  # it was trained
    results = [json.loads((run / "results.json").read_text()) for run in (apart, together)]
    assert results[0] == results[1]
    task = pocket_tasks(1, 5)[0]
    alone, shared_base = (ragdro.load(run, stage="iteration-2") for run in (apart, together))
    for a, b in (
        (alone.selector.model, shared_base.selector.model),
        (alone.generator.model, shared_base.generator.model),
    ):
        groups = [
            [r.generator.group([reading(task, z) for z in ((0, 1), (3, 2))])] for r in (alone, shared_base)
        ]
        assert score_all(a, groups[0], 999)[0] == pytest.approx(score_all(b, groups[1], 999)[0], abs=1e-6)


def test_the_base_of_two_adapters_is_in_memory_once(tmp_path: Path) -> None:
    selector, generator = load_pair(config_of(tmp_path, shared_backbone=True))
    ids = torch.arange(5, 25)[None]
    torch.nn.init.ones_(next(p for n, p in generator.hf.named_parameters() if "lora_B.generator" in n))
    assert not torch.equal(selector.hf(ids).logits, generator.hf(ids).logits)
    frozen = [
        {n: p.data_ptr() for n, p in m.hf.named_parameters() if "lora_" not in n}
        for m in (selector, generator)
    ]
    assert frozen[0] == frozen[1] and len(frozen[0]) > 10
    for model in (selector, generator, selector):
        trained = [n for n, p in model.hf.named_parameters() if p.requires_grad]
        assert trained and all(f".{model.adapter}." in n for n in trained)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["generator.adapter=null"], r"shared_backbone: needs generator\.adapter"),
        (["generator.dtype=bfloat16"], r"selector\.dtype is 'float32' and generator\.dtype 'bfloat16'"),
        (["generator.model=other"], r"generator\.model 'other'"),
    ],
)
def test_two_bases_are_not_shared(overrides: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        config_of(tmp_path, *overrides, shared_backbone=True)
