"""A run that is killed, stopped or out of disk, and resumed, ends as one that never was."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import ragdro
from ragdro.config import load_config
from ragdro.runs.state import StateStore
from tests.pipeline.crash import KILLED, Command, die_at_sync, outcome, small_run


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], float]:
    """A folder with the config, the outcome of a run that nobody disturbed, and the seconds it took."""
    folder = tmp_path_factory.mktemp("reference")
    small_run(folder)
    Command(folder, "--help").wait()  # the server is up
    begun = time.monotonic()
    running = start(folder, "undisturbed")
    assert running.wait() == 0, running.said
    return folder, outcome(folder / "runs" / "undisturbed"), time.monotonic() - begun


def start(folder: Path, name: str, *options: str, **prepare: object) -> Command:
    return Command(folder, "train", str(folder / "config.yaml"), f"name={name}", *options, **prepare)  # type: ignore[arg-type]


def finish(folder: Path, name: str) -> dict[str, bytes]:
    running = start(folder, name, "--resume")
    assert running.wait() == 0, running.said
    run = folder / "runs" / name
    assert len(list((run / "state").glob("[0-9]*.json"))) >= 1 and not list(run.rglob("*.tmp"))
    assert not list((run / "state").rglob("*.safetensors"))  # the checkpoint has the models
    return outcome(run)


def killed_at_random(folder: Path, name: str, kills: int, seconds: float, rng: random.Random) -> int:
    """How many of `kills` attempts were cut off by kill -9 before they ended."""
    done = 0
    for _ in range(kills):
        running = start(folder, name, "--resume")
        time.sleep(rng.uniform(0, seconds))
        running.process.kill()
        done += running.wait() == -signal.SIGKILL
    return done


def test_five_kills_at_random_times_change_nothing(
    reference: tuple[Path, dict[str, bytes], float],
) -> None:
    folder, expected, seconds = reference
    killed = killed_at_random(folder, "killed", 5, 0.7 * seconds, random.Random(0))
    assert killed >= 3
    assert finish(folder, "killed") == expected
    assert (folder / "runs/killed/results.json").read_bytes() == expected["results.json"]


def test_a_model_is_written_once_an_iteration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is what a run resumes from, too; only in the middle of a fit there is another file."""
    written: list[str] = []
    replace = Path.replace

    def replaced(self: Path, target: Path) -> Path:
        written.append(str(Path(target).relative_to(tmp_path)))
        return replace(self, target)

    saved: list[str] = []
    monkeypatch.setattr(StateStore, "put_tensors", lambda store, state, parts: saved.extend(parts))
    monkeypatch.setattr(Path, "replace", replaced)
    ragdro.run(load_config(small_run(tmp_path), ["checkpoints.every=1000"]))
    models = [name for name in written if "iteration-" in name and "predictions" not in name]
    roles = [f"runs/run/checkpoints/iteration-{i}/{r}" for i in range(3) for r in ("selector", "generator")]
    assert models == roles
    assert saved == []


@pytest.mark.parametrize("number", [3, 40])
def test_a_kill_in_the_middle_of_a_write_changes_nothing(
    number: int, reference: tuple[Path, dict[str, bytes], float]
) -> None:
    folder, expected, _ = reference
    name = f"write-{number}"
    assert start(folder, name, prepare=die_at_sync, given=number).wait() == KILLED
    assert start(folder, name, "--resume", prepare=die_at_sync, given=number).wait() in (KILLED, 0)
    assert finish(folder, name) == expected


@pytest.mark.soak
def test_fifty_kills_at_random_times_change_nothing(
    reference: tuple[Path, dict[str, bytes], float],
) -> None:
    folder, expected, seconds = reference
    rng, killed, runs = random.Random(1), 0, 0
    while killed < 50:
        runs += 1
        killed += killed_at_random(folder, f"soak-{runs}", 5, 0.7 * seconds, rng)
        assert finish(folder, f"soak-{runs}") == expected
        assert runs < 40


@pytest.mark.soak
def test_a_kill_at_every_write_changes_nothing(reference: tuple[Path, dict[str, bytes], float]) -> None:
    folder, expected, _ = reference
    for number in range(1, 1000):
        name = f"every-{number}"
        if start(folder, name, prepare=die_at_sync, given=number).wait() == 0:
            break
        assert finish(folder, name) == expected, number
    assert number > 100


def test_resuming_a_finished_run_gives_its_results_and_changes_nothing(
    reference: tuple[Path, dict[str, bytes], float],
) -> None:
    """Also where the run was killed after its results and before its states were removed."""
    folder, expected, _ = reference
    run = folder / "runs/undisturbed"
    (run / "state/000001.json").write_text("{}")
    running = start(folder, "undisturbed", "--resume")
    assert running.wait() == 0 and "warm-up" in running.said
    assert outcome(run) == expected
    for override, key in (("seed=1", "seed"), ("e_step.samples=4", "e_step.samples")):
        running = start(folder, "undisturbed", "--resume", override)
        assert running.wait() == 2
        assert running.said.startswith(f"ragdro: error: {key}: the run began with ")


def test_sigterm_saves_and_leaves_with_75(reference: tuple[Path, dict[str, bytes], float]) -> None:
    folder, expected, _ = reference
    running = start(folder, "term", "checkpoints.every=1000", prepare=terminated_in_update, given=5)
    assert running.wait() == 75
    command = f"ragdro train {folder}/config.yaml name=term checkpoints.every=1000 --resume"
    assert running.said.rstrip().endswith(f"stopped by SIGTERM; resume with: {command}")
    assert "Traceback" not in running.said
    run = folder / "runs/term"
    assert list((run / "state").glob("*-generator/*.safetensors"))  # in the middle of the second fit
    assert b'"role": "generator", "step": 2,' in (run / "metrics.jsonl").read_bytes()
    assert start(folder, "term", "--resume", prepare=terminated_in_evaluation).wait() == 75
    assert finish(folder, "term") == expected


def terminated_in_update(number: int) -> None:
    """SIGTERM comes while the `number`-th update of the run is computed."""
    from torch.optim import AdamW

    done, step = [0], AdamW.step

    def taken(self: AdamW) -> None:
        done[0] += 1
        if done[0] == number:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self)

    AdamW.step = taken  # type: ignore[assignment,method-assign]


def terminated_in_evaluation(given: None) -> None:
    """SIGTERM comes while answers are generated."""
    from ragdro.system import Rag

    predict = Rag.predict

    def predicted(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return predict(*arguments, **options)

    Rag.predict = predicted  # type: ignore[method-assign]


def test_an_altered_state_is_refused_by_name_and_the_one_before_it_used(
    reference: tuple[Path, dict[str, bytes], float],
) -> None:
    folder, expected, _ = reference
    assert start(folder, "altered", prepare=terminated_in_update, given=5).wait() == 75
    states = folder / "runs/altered/state"
    newest = max(p for p in states.glob("*.json") if p.stem.isdigit())
    saved = json.loads(newest.read_text())["tensors"]
    names = {name for files in saved.values() for name in files if name.startswith(f"state/{newest.stem}")}
    newest = states.parent / max(names)
    data = newest.read_bytes()
    newest.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    running = start(folder, "altered", "--resume")
    assert running.wait() == 0
    assert f"{newest}: its checksum does not match" in running.said
    assert outcome(folder / "runs/altered") == expected


def test_a_full_disk_stops_the_run_and_it_goes_on_once_there_is_room(
    reference: tuple[Path, dict[str, bytes], float],
) -> None:
    folder, expected, _ = reference
    running = start(folder, "full", prepare=full_disk_at_sync, given=70)
    assert running.wait() == 2
    last = running.said.rstrip().splitlines()[-1]
    assert last.startswith("ragdro: error: ") and "too large" in last and "Traceback" not in running.said
    assert finish(folder, "full") == expected


def full_disk_at_sync(number: int) -> None:
    """From the `number`-th fsync on no file grows beyond 2 KB: a full disk fails in the same calls."""
    done, sync = [0], os.fsync

    def fsync(descriptor: int) -> None:
        done[0] += 1
        if done[0] == number:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
        sync(descriptor)

    os.fsync = fsync


def test_two_processes_do_not_share_a_run_and_a_killed_one_leaves_no_lock(
    reference: tuple[Path, dict[str, bytes], float],
) -> None:
    folder, expected, _ = reference
    first = start(folder, "shared")
    while not (folder / "runs/shared/state").exists():
        time.sleep(0.005)
    first_id = first.process.pid
    assert first_id is not None
    os.kill(first_id, signal.SIGSTOP)
    second = start(folder, "shared", "--resume")
    assert second.wait() == 2
    assert second.said == f"ragdro: error: name: another process is running in {folder}/runs/shared\n"
    assert start(folder, "shared", "--overwrite").wait() == 2
    first.process.kill()
    first.wait()
    assert finish(folder, "shared") == expected
