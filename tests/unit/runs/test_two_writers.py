"""Two processes write a model's folder together, and verify a state's files, each a part of them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM

from ragdro.config import Config, Parallel
from ragdro.errors import TrainingError
from ragdro.lm.model import LanguageModel
from ragdro.lm.projections import Projections
from ragdro.lm.saving import is_stored_as_it_is
from ragdro.parallel.sharding import apply_parallelism
from ragdro.parallel.world import all_gather_object, own_group
from ragdro.runs import checksums
from ragdro.runs.folder import RunFolder
from ragdro.runs.saved_states import State, read_state, state_paths
from ragdro.runs.state import StateStore
from tests.conftest import byte_level, random_model
from tests.unit.parallel.ranks import Act, on_two_ranks

TIED = {"tie_word_embeddings": True}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ddp": ("ddp", "llama", {}),
    "fsdp2": ("fsdp2", "llama", {}),
    "tied under ddp": ("ddp", "llama", TIED),
    "tied under fsdp2": ("fsdp2", "llama", TIED),
    "a pointer": ("fsdp2", "llama", {}),
    "experts": ("ddp", "mixtral", EXPERTS),
}


def made(name: str) -> LanguageModel:
    _, architecture, settings = MODELS[name]
    model = random_model(byte_level(), architecture, **settings)
    if name == "a pointer":
        model.projections = Projections(model.width, 4, 1.0, 0)
    return model


def written(folder: Path) -> dict[str, Any]:
    """Write a checkpoint of a model that changes at once."""
    model = made(folder.name)
    apply_parallelism(Parallel(strategy=MODELS[folder.name][0]), {"selector": model})
    run = RunFolder(cast("Config", SimpleNamespace(runs=str(folder), name="run")))
    barrier = partial(all_gather_object, None, own_group())
    write = run.checkpoint_writer(1, "selector", model, barrier)
    with torch.no_grad():
        for parameter in model.hf.parameters():
            parameter.zero_()
    files, lacking = write()
    again, _ = run.checkpoint_writer(1, "selector", model, barrier, is_there=True)()
    return {
        "files": [path.name for path in files],
        "lacking": [*lacking],
        "bytes": sum(path.stat().st_size for path in files),
        "there": [path.name for path in again],
    }


def needing(folder: Path) -> list[Path]:
    """Two states with two large files and a small one each; the files of the newer one."""
    store, state = StateStore(folder), State(questions="q")
    for value in (1.0, 2.0):
        for role in ("selector", "generator"):
            store.put_model(state, role, partial(lambda value: ([], {"w": torch.full((500,), value)}), value))
        store.put_json(state, "shard-0", value)
        store.commit(state)
    store.settle()
    _, files = read_state(folder, state_paths(folder / "state")[0])
    return [path for path in files if path.suffix == ".safetensors"]


def verified(folder: Path) -> dict[str, Any]:
    """The newest state, what is said of it, and which files of it this process has read."""
    read, said, file_hash = list[str](), list[str](), checksums.file_hash

    def noted(path: Path) -> str:
        read.append(str(path.relative_to(folder)))
        return file_hash(path)

    checksums.file_hash = noted
    try:
        state = StateStore(folder).newest(said.append)
        outcome: Any = None if state is None else state.serial
    except TrainingError as error:
        outcome = str(error)
    except SystemExit as ended:
        outcome = f"exit {ended.code}"
    finally:
        checksums.file_hash = file_hash
    return {"outcome": outcome, "said": said, "read": read}


STATES = ("none", "whole", "the first damaged", "the second damaged", "all damaged")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    folder = tmp_path_factory.mktemp("ranks")
    acts: dict[str, Act] = dict.fromkeys(MODELS, written) | dict.fromkeys(STATES, verified)
    for name in STATES:
        (folder / name).mkdir()
        files = needing(folder / name) if name != "none" else []
        for number, path in enumerate(files):
            if name in (f"the {('first', 'second')[number]} damaged", "all damaged"):
                path.write_bytes(path.read_bytes()[:-1] + b"\x01")
        if name == "all damaged":
            (folder / name / "state/000001.json").write_text("{}")
    return folder, on_two_ranks(acts, folder)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "experts"])
def test_each_process_writes_a_part_of_the_weights_and_transformers_opens_the_whole(
    name: str, said: tuple[Path, dict[str, list[dict[str, Any]]]]
) -> None:
    folder, ranks = said[0] / name / "run/checkpoints/iteration-1/selector", said[1][name]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    beside = ["projections.safetensors"] * (name == "a pointer")
    assert [rank["files"] for rank in ranks] == [[shards[0], *beside], [shards[1]]]
    assert sorted(path.name for path in folder.glob("*.safetensors")) == [*shards, *beside]
    assert not list(folder.parent.glob(".*"))
    weights = [f"projections.{key}" for key in made(name).projections.state_dict()] if beside else []
    assert [rank["lacking"] for rank in ranks] == [weights, []]
    assert sorted(file for rank in ranks for file in rank["there"]) == [*shards, *beside]
    expected = made(name).hf.state_dict()
    largest = max(tensor.nbytes for tensor in expected.values())
    assert abs(ranks[0]["bytes"] - ranks[1]["bytes"]) <= largest
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    distinct = {tensor.data_ptr(): tensor.nbytes for tensor in expected.values()}
    assert index["metadata"]["total_size"] == sum(distinct.values())
    assert set(index["weight_map"].values()) == set(shards)
    opened, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    assert all(torch.equal(opened.state_dict()[key], tensor) for key, tensor in expected.items())


def test_what_is_stored_in_another_form_is_written_by_one(
    said: tuple[Path, dict[str, list[dict[str, Any]]]],
) -> None:
    """Experts are one tensor each in the file and one in all in the model; an adapter is a part of it."""
    folder, ranks = said[0] / "experts/run/checkpoints/iteration-1/selector", said[1]["experts"]
    assert [rank["files"] for rank in ranks] == [["model.safetensors"], []]
    expected, opened = made("experts").hf.state_dict(), AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(opened.state_dict()[key], tensor) for key, tensor in expected.items())
    assert [is_stored_as_it_is(made(name)) for name in ("ddp", "experts")] == [True, False]


def test_each_process_reads_a_part_of_a_state_to_verify_it(
    said: tuple[Path, dict[str, list[dict[str, Any]]]],
) -> None:
    folder, ranks = said
    assert [rank["outcome"] for rank in ranks["none"]] == [None, None]
    assert [rank["outcome"] for rank in ranks["whole"]] == [2, 2]
    _, needed = read_state(folder / "whole", folder / "whole/state/000002.json")
    read = [rank["read"] for rank in ranks["whole"]]
    assert sorted(read[0] + read[1]) == sorted(str(path.relative_to(folder / "whole")) for path in needed)
    assert [sum(name.endswith(".safetensors") for name in one) for one in read] == [1, 1]
    assert not ranks["whole"][0]["said"]


@pytest.mark.parametrize("number", ["first", "second"])
def test_a_file_that_either_finds_damaged_has_all_take_the_state_before(
    number: str, said: tuple[Path, dict[str, list[dict[str, Any]]]]
) -> None:
    folder, ranks = said[0] / f"the {number} damaged", said[1][f"the {number} damaged"]
    path = ("state/000002-selector", "state/000002-generator")[number == "second"]
    (line,) = ranks[0]["said"]
    assert line.startswith(f"{folder / path}/") and "checksum does not match; resuming from" in line
    assert [rank["outcome"] for rank in ranks] == [1, 1]
    assert not (folder / "state/000002.json").exists()


def test_where_none_is_whole_one_says_so(said: tuple[Path, dict[str, list[dict[str, Any]]]]) -> None:
    first, second = said[1]["all damaged"]
    assert "no saved state is whole" in first["outcome"] and second["outcome"] == "exit 1"
