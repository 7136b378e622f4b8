"""Runs with a pointer selector: every objective, kills, adapters, processes, export; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import ragdro
from ragdro.errors import ConfigError, ModelError
from ragdro.lm.projections import PROJECTIONS_FILE
from ragdro.planning.plan import plan
from ragdro.report.export import export_run
from ragdro.runs.models import load_pair
from ragdro.selection.list_selector import ListSelector
from ragdro.selection.pointer import PointerSelector
from ragdro.selection.selector import Selector
from ragdro.types import Passage
from tests.pipeline.crash import KILLED, Command, die_at_sync, outcome, small_run
from tests.pipeline.processes import close as close_values
from tests.pipeline.processes import log, start, uneven, weights
from tests.pipeline.test_adapters import LORA
from tests.pipeline.test_train import write_config
from tests.worlds import pocket_tasks

LISTS = [(2, 0, 4), (1, 3, 5), (0, 1, 2)]


def pointing(folder: Path, *, make: Any = write_config, roles: dict[str, Any] | None = None) -> Path:
    """A config whose selector points; `roles`: what both roles get besides."""
    path: Path = make(folder)
    values = yaml.safe_load(path.read_text())
    for role in ("selector", "generator"):
        values[role].update(roles or {})
    values["selector"].update({"kind": "pointer", "prompt": "tiny-pointer"})
    path.write_text(yaml.safe_dump(values))
    return path


def projections(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / PROJECTIONS_FILE)


@pytest.mark.parametrize(
    ("objective", "others"),
    [
        ("dro", ["cross_fitted=true", "e_step.replay=1", "generator.order=retriever"]),
        ("dro-centered", ["selector.stop=true"]),
        ("{kind: dro-tempered, floor: 2.5}", ["e_step.mixture={retriever: 0.2, uniform: 0.2}"]),
        ("{kind: marginal, passages: 4}", []),
        ("{kind: rloo, kl: 0.1}", []),
        ("rrpo", []),
        ("rejection", []),
        ("{kind: dpo, generator: dpo}", ["selector.stop=true", "e_step.temperature=1.3"]),
        ("sft", []),
    ],
)
def test_every_objective_runs_through_the_same_loop(
    objective: str, others: list[str], tmp_path: Path
) -> None:
    changes = [f"objective={objective}", "iterations=2", "patience=null", "checkpoints.keep=all", *others]
    results = ragdro.run(ragdro.load_config(pointing(tmp_path), changes))
    assert len(results["iterations"]) == 2 and results["iterations"][0]["bound"] < 0
    assert results["iterations"][0]["fallbacks"] == 0
    run = tmp_path / "runs/run"
    before, after = (projections(run / f"checkpoints/iteration-{i}/selector") for i in (0, 2))
    moved = {key for key in after if not torch.equal(before[key], after[key])}
    stops = {"enough"} if "selector.stop=true" in others else set()
    assert moved == (set() if objective == "sft" else {"passage", "query", "log_scale"} | stops)
    rag = ragdro.load(run, stage="iteration-2")
    record = json.loads((run / "predictions-iteration-2.jsonl").read_text().splitlines()[0])
    assert rag.answer(record["question"]).answer == record["answer"]


@pytest.mark.parametrize("roles", [{}, {"adapter": LORA}])
def test_killed_runs_come_to_the_same_end(roles: dict[str, Any], tmp_path: Path) -> None:
    path = pointing(tmp_path, make=small_run, roles=roles)

    def run(name: str, *options: str, **prepare: Any) -> int:
        return Command(tmp_path, "train", str(path), f"name={name}", *options, **prepare).wait()

    assert run("whole") == 0
    assert run("killed", prepare=die_at_sync, given=45) == KILLED
    assert list((tmp_path / "runs/killed/state").glob("*/*.safetensors"))
    assert run("killed", "--resume") == 0
    assert outcome(tmp_path / "runs/killed") == outcome(tmp_path / "runs/whole")
    assert any(PROJECTIONS_FILE in name for name in outcome(tmp_path / "runs/whole"))


@pytest.mark.parametrize("how", ["full", "lora", "shared"])
def test_exported_folders_have_the_runs_numbers(how: str, tmp_path: Path) -> None:
    roles = {} if how == "full" else {"adapter": LORA}
    changes = ["iterations=1", *(["shared_backbone=true"] if how == "shared" else [])]
    ragdro.run(ragdro.load_config(pointing(tmp_path, roles=roles), changes))
    run, out = tmp_path / "runs/run", tmp_path / "out"
    export_run(run, out)
    task, close = pocket_tasks(1, 6)[0], 1e-6 if how == "full" else 1e-5  # merging rounds once more
    own, exported = ragdro.load(run), ragdro.load(out)
    expected = own.selector.log_prob(task, LISTS, 999)
    assert exported.selector.log_prob(task, LISTS, 999) == pytest.approx(expected, rel=close)
    untrained = PointerSelector.from_pretrained(tmp_path / "model", 3, prompt="tiny-pointer")
    assert untrained.log_prob(task, LISTS, 999) != pytest.approx(expected, abs=1e-3)
    alone = Selector.from_pretrained(out / "selector", 3, prompt="tiny-pointer", passage_tokens=24)
    assert isinstance(alone, PointerSelector)
    assert alone.log_prob(task, LISTS, 999) == pytest.approx(expected, rel=close)
    ranked = alone.rerank(task.question.question, [p.text for p in task.candidates.passages])
    assert ranked.exact and len(ranked.passages) == 6
    assert sum(p.inclusion for p in ranked.passages) == pytest.approx(3, abs=1e-6)
    assert AutoModelForCausalLM.from_pretrained(out / "selector").config.hidden_size == 32
    with pytest.raises(ModelError, match=r"PointerSelector\.from_pretrained"):
        ListSelector.from_pretrained(out / "selector")
    with pytest.raises(ModelError, match=r"set selector\.kind: pointer"):
        load_pair(ragdro.load_config(write_config(tmp_path), [f"selector.model={out}/selector"]))
    (out / "selector" / PROJECTIONS_FILE).unlink()
    with pytest.raises(ModelError, match=f"has no {PROJECTIONS_FILE}"):
        ragdro.load(out)


def test_more_candidates_than_n_play_a_tournament_and_many_lists_are_sampled(tmp_path: Path) -> None:
    ragdro.run(ragdro.load_config(pointing(tmp_path), ["iterations=0"]))
    rag = ragdro.load(tmp_path / "runs/run")
    texts = [f"Mara{i} works for Firm {i}." for i in range(14)]
    found = rag.answer("Where does Mara4 work?", passages=texts)
    assert len(found.selection.permutation) == 3
    chooser = PointerSelector.from_pretrained(tmp_path / "model", 3, prompt="tiny-pointer")
    ranked = chooser.rerank("Where?", [Passage(f"{i}", "", t) for i, t in enumerate(texts)], samples=200)
    assert not ranked.exact and len(ranked.passages) == 14
    assert sum(p.inclusion for p in ranked.passages) == pytest.approx(3, abs=1e-6)


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(tmp_path: Path) -> None:
    path = pointing(tmp_path, make=uneven)
    running = Command(tmp_path, "train", str(path), "name=alone")
    assert running.wait() == 0, running.said
    for strategy in ("ddp", "fsdp2"):
        both = start(tmp_path, strategy, f"parallel.strategy={strategy}")
        assert both.wait(300) == [0, 0], both.said
        one, two = tmp_path / "runs/alone", tmp_path / "runs" / strategy
        assert close_values(log(one), log(two))
        models = sorted(p.relative_to(one) for p in one.glob("checkpoints/*/*"))
        assert len(models) == 4
        for model in models:
            a, b = weights(one / model), weights(two / model)
            assert a.keys() == b.keys()
            assert all(float((a[key] - b[key]).abs().max()) <= 1e-4 for key in a), model


def test_a_plan_has_no_cache_and_reads_a_prompt_once(tmp_path: Path) -> None:
    device = torch.device("cpu")
    lists = plan(ragdro.load_config(write_config(tmp_path)), 4, device)
    path = pointing(tmp_path)
    pointer = plan(ragdro.load_config(path), 4, device)
    assert pointer["phases"]["sampling"]["kv_cache"] == 0 < lists["phases"]["sampling"]["kv_cache"]
    trained = pointer["phases"]["selector update"]["gradients"]
    added = 4 * (2 * 32 * 32 + 32 + 1)
    assert trained == lists["phases"]["selector update"]["gradients"] + added
    many = plan(ragdro.load_config(path, ["e_step.samples=30"]), 4, device)
    few = plan(ragdro.load_config(path, ["e_step.samples=2"]), 4, device)
    assert many["phases"]["sampling"] == few["phases"]["sampling"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("selector.prompt=tiny-selector", r"selector\.prompt: .* take pointer or tiny-pointer"),
        ("parallel.strategy=deepspeed-zero2", r"parallel\.strategy: .* ddp and fsdp2 do"),
        ("e_step.engine={kind: vllm}", r"e_step\.engine: vllm writes lists"),
        ("m_step.generator.projection_learning_rate=1e-3", r"m_step\.generator\.projection_learning_rate"),
        ("selector.pointer.width=33", r"selector\.pointer\.width: 33 is more than .* 32"),
        ("selector.pointer.scale=0", r"selector\.pointer\.scale"),
    ],
)
def test_what_a_pointer_cannot_is_refused_by_key(change: str, said: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, ModelError), match=said) as refused:
        ragdro.run(ragdro.load_config(pointing(tmp_path), [change]))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_projections_have_a_learning_rate_of_their_own(tmp_path: Path) -> None:
    """Ten times the weights' by default; a first step of AdamW is the rate itself."""
    for given, expected in (([], 1e-2), (["warm_up.selector.projection_learning_rate=3e-4"], 3e-4)):
        changes = ["iterations=0", "warm_up.selector.batch_size=64", "warm_up.selector.schedule=constant"]
        changes += ["warm_up.selector.warm_up_fraction=0", f"name=rate-{expected}", *given]
        ragdro.run(ragdro.load_config(pointing(tmp_path), changes))
        saved = projections(tmp_path / f"runs/rate-{expected}/best/selector")
        steps = (saved["passage"] - torch.eye(32)).abs()
        assert float(steps.max()) == pytest.approx(expected, rel=1e-2)
