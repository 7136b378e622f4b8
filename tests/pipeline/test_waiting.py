"""What each part of a run is waited for as: which of `parallel.timeouts` another process has."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import ragdro
from ragdro.config import load_config
from ragdro.parallel import world
from ragdro.runs import run
from ragdro.runs.checkpointer import RunCheckpointer
from ragdro.runs.folder import RunFolder
from ragdro.runs.state import StateStore
from ragdro.training import e_step, evaluate, m_step
from tests.pipeline.test_train import write_config

PARTS: dict[str, list[tuple[Any, str]]] = {
    "loading": [(run, "set_up")],
    "e_step": [(e_step, "map_sharded"), (evaluate, "map_sharded"), (RunCheckpointer, "save_shard")],
    "gradient_step": [(m_step, "all_reduce_gradients"), (m_step, "all_reduce_sum")],
    "saving": [
        (RunCheckpointer, "restore"),
        (StateStore, "put_tensors"),  # in a fit's middle and at its end
        (StateStore, "rename_json"),  # behind an iteration
        (StateStore, "keep_last"),  # at the end
        (RunFolder, "write_results"),
    ],
}


def test_each_part_of_a_run_is_waited_for_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: defaultdict[str, set[str]] = defaultdict(set)

    def seen(place: Any, name: str) -> None:
        work = getattr(place, name)

        def called(*arguments: Any, **named: Any) -> Any:
            waited[f"{place.__name__}.{name}"].add(world._work.get())
            return work(*arguments, **named)

        monkeypatch.setattr(place, name, called)

    expected = {f"{place.__name__}.{name}": {work} for work in PARTS for place, name in PARTS[work]}
    for places in PARTS.values():
        for place, name in places:
            seen(place, name)
    ragdro.run(load_config(write_config(tmp_path, iterations=1, checkpoints={"every": 1})))
    assert waited == expected
