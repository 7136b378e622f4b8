"""vLLM itself in the process, on a CPU: it draws what the selector draws, and ends with the run.

It needs an environment with both, and is run in it: `python -m pytest -m soak` of this file.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

import ragdro
from ragdro.lm.engines import open_engine
from ragdro.runs.setup import build_rag, load_tasks
from tests.pipeline.processes import close
from tests.pipeline.real_vllm import (
    Training,
    Updates,
    busy,
    drawn,
    gone,
    lists,
    resident,
    small_world,
    vllm_below,
)

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("real_vllm"),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not in this environment"),
]
EAGER = "e_step.engine={kind: vllm, arguments: {enforce_eager: true}}"


@pytest.mark.parametrize("tied", [False, True])
def test_vllm_in_the_process_draws_what_the_selector_draws(tied: bool, tmp_path: Path) -> None:
    if tied:
        path, overrides = Path(__file__).parents[2] / "configs/tiny.yaml", [f"cache={tmp_path}", EAGER]
    else:
        path, overrides = small_world(tmp_path), [EAGER]
    config = ragdro.load_config(path, overrides)
    rag, tasks = build_rag(config), load_tasks(config, config.data.train)[:16]
    started, updates = open_engine(config.e_step.engine, tmp_path / "weights"), Updates(rag, tasks[0], 0.002)
    try:
        for turn in range(3):
            print(f"{'tied' if tied else 'untied'}: {drawn(config, started, rag, tasks, turn)}", flush=True)
            updates.step()
            there = vllm_below(os.getpid())
            time.sleep(3)  # vLLM looks for further work for a while
            before = sum(map(busy, there))
            time.sleep(5)  # it cannot sleep on a CPU, and takes no time of it either
            idle = sum(map(busy, there)) - before
            print(f"idle: {idle:.2f} s of 5; {sum(map(resident, there)):.0f} MiB", flush=True)
            assert idle < 0.5
    finally:
        started.close()
    assert there
    gone(there)


def test_a_run_with_vllm_in_the_process_leaves_none_however_it_ends(
    tmp_path: Path, trainings: ExitStack
) -> None:
    path = small_world(tmp_path)

    def start(run: str, *overrides: str) -> Training:
        one = Training(tmp_path, path, run, 0, *overrides)
        trainings.callback(one.end)
        return one

    own = start("own")
    assert own.wait() == 0, own.said
    for number in (signal.SIGKILL, signal.SIGTERM):
        one = start("ended", EAGER, *(["--resume"] if number == signal.SIGTERM else []))
        one.until(f"*-shard-{1 if number == signal.SIGKILL else 3}.json")
        servers = one.servers
        assert servers
        one.process.send_signal(number)
        assert one.wait(300) == (75 if number == signal.SIGTERM else -signal.SIGKILL), one.said
        gone(servers)
    again = start("ended", EAGER, "--resume")
    assert again.wait() == 0, again.said
    assert close(lists(again.run), lists(own.run))
