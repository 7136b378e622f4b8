"""What a person sees of a run: lines in a log, the list of runs, one run followed, trackers."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import ragdro
from ragdro import progress
from ragdro.cli import app
from ragdro.errors import ConfigError, RagdroError
from ragdro.progress import Bars, Lines, display, duration
from ragdro.report.history import read_history
from ragdro.report.watch import list_runs, sparkline, view
from ragdro.units import number
from tests.pipeline.crash import Command, die_at_sync, small_run
from tests.pipeline.test_train import write_config


def shown(thing: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(thing)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_runs_are_listed_with_state_and_best_score(tmp_path: Path) -> None:
    config = small_run(tmp_path)
    assert Command(tmp_path, "train", str(config), "name=done").wait() == 0
    assert Command(tmp_path, "train", str(config), "name=cut", prepare=die_at_sync, given=60).wait() == 137
    running = Command(tmp_path, "train", str(config), "name=now")
    while not (tmp_path / "runs/now/metrics.jsonl").exists():
        time.sleep(0.01)
    assert running.process.pid is not None
    os.kill(running.process.pid, signal.SIGSTOP)
    (tmp_path / "runs/exported/selector").mkdir(parents=True)  # beside them, and no run
    (tmp_path / "runs/exported/config.yaml").write_text((tmp_path / "runs/done/config.yaml").read_text())
    rows = {row["name"]: row for row in list_runs(tmp_path / "runs")}
    running.process.kill()
    running.wait()
    assert {name: row["state"] for name, row in rows.items()} == {
        "done": "finished", "cut": "interrupted", "now": "running",
    }  # fmt: skip
    results = json.loads((tmp_path / "runs/done/results.json").read_text())
    assert rows["done"]["best"] == results["best"]["exact_match"]
    assert rows["done"]["best_stage"] == "warm_up" and results["best"]["iteration"] == 0
    assert list_runs(tmp_path / "runs")[2]["state"] == "interrupted"
    listed = CliRunner().invoke(app, ["runs", str(tmp_path / "runs")], catch_exceptions=False)
    assert listed.exit_code == 0 and all(
        word in listed.stdout for word in ("done", "interrupted", "finished")
    )
    watched = CliRunner().invoke(app, ["watch", str(tmp_path / "runs/cut")], catch_exceptions=False)
    assert "interrupted" in watched.stdout and "loss, selector" in watched.stdout
    with pytest.raises(RagdroError, match="neither a run folder nor an exported one"):
        CliRunner().invoke(app, ["watch", str(tmp_path / "runs")], catch_exceptions=False)


def test_a_log_file_gets_lines_without_control_characters(tmp_path: Path) -> None:
    running = Command(tmp_path, "train", str(write_config(tmp_path)))
    assert running.wait() == 0
    lines = [line for line in running.said.splitlines() if line.startswith("ragdro: ")]
    rows = [line for line in lines if " ESS " in line]
    assert len(rows) == 2 and rows[0].startswith("ragdro: iteration-1: ● entropy ")
    assert "training − held out" in rows[0] and " KL " in rows[1]
    said = [line for line in lines if " · EM " in line]
    stages = [line.removeprefix("ragdro: ").split(" · ") for line in said]
    assert [stage[0] for stage in stages] == ["vanilla RAG", "warm-up", "iteration 1", "iteration 2"]
    results = json.loads((tmp_path / "runs/run/results.json").read_text())
    for stage, metrics in zip(stages[1:], [results["warm_up"], *results["iterations"]], strict=True):
        assert stage[1] == f"EM {metrics['exact_match']:.3f}"
        assert stage[4] == f"bound {number(metrics['bound'])}"
        assert re.fullmatch(r"[0-9]+ (s|min)", stage[5])
    # A line a stage and the rows of lights, and nothing else.
    assert lines[-6:] == [line for line in lines if line in (*said, *rows)]
    assert lines[2] == f"ragdro: into {tmp_path / 'runs' / 'run'}"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", running.said)


def test_bars_where_there_is_a_terminal_and_lines_elsewhere() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=60)
    bars = display(terminal)
    assert isinstance(bars, Bars)
    bars.start("warm_up: selector", 4, 1)
    bars.advance("warm_up: selector", 2)
    bars.say("[not] markup")
    bars.close()
    drawn = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "3/4" in drawn and "[not] markup" in drawn
    plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in re.split(r"[\r\n]", drawn)]
    assert max(map(len, plain)) <= 60
    assert isinstance(display(Console(file=io.StringIO())), Lines)
    assert isinstance(display(Console(file=io.StringIO(), force_jupyter=True)), Lines)


def test_what_is_done_leaves_no_bar_behind() -> None:
    """After forty pieces of work the live part is as high as after one."""
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    bars = Bars(terminal, transient=True)
    for iteration in range(40):
        bars.start(f"iteration-{iteration}: measuring", None)
        bars.start(f"iteration-{iteration}: selector", 3)
        bars.advance(f"iteration-{iteration}: selector", 3)
        assert [task.description for task in bars._progress.tasks] == [f"iteration-{iteration}: measuring"]
        bars.end(f"iteration-{iteration}: measuring")
        bars.say(f"iteration {iteration} · EM 0.50")
    bars.close()
    assert not bars._progress.tasks and "iteration 39 · EM 0.50" in terminal.file.getvalue()  # type: ignore[attr-defined]


def test_a_long_line_is_wrapped_between_words() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=40)
    bars = Bars(terminal)
    bars.say("the selector's entropy is 0.000 nats: try e_step.mixture")
    bars.close()
    assert "nats: \ntry e_step" in terminal.file.getvalue().replace("\r", "")  # type: ignore[attr-defined]


def test_lines_come_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines()
    lines.start("fit", 100, 20)
    for _ in range(80):
        now[0] += 1
        lines.advance("fit")
    assert capsys.readouterr().err.splitlines() == [
        "ragdro: fit: 50 of 100, about 50 s left",
        "ragdro: fit: 80 of 100, about 20 s left",
        "ragdro: fit: 100 of 100",
    ]
    lines.start("slow to begin", 10)
    now[0] += 60
    lines.advance("slow to begin")  # how long the others take, nobody knows yet
    assert capsys.readouterr().err == "ragdro: slow to begin: 1 of 10\n"
    assert [duration(s) for s in (4.0, 100.0, 11_100.0)] == ["4 s", "2 min", "3 h 05 min"]


def test_time_left_and_curves_follow_from_the_log(tmp_path: Path) -> None:
    """Two of five iterations took 100 s each and the third has run for 30 s: 270 s are left."""
    run = tmp_path / "runs/run"
    run.mkdir(parents=True)
    config = ragdro.load_config(write_config(tmp_path, iterations=5))
    (run / "config.yaml").write_text(ragdro.config.dump_config(config))
    metrics = {"event": "evaluation", "split": "reported", "f1": 0.5, "bound": None}
    records: list[dict[str, Any]] = [
        {**metrics, "stage": "warm_up", "exact_match": 0.25, "seconds": 40.0},
        {**metrics, "stage": "iteration-1", "exact_match": 0.75, "seconds": 140.0},
        {**metrics, "stage": "iteration-2", "exact_match": 0.5, "seconds": 240.0},
        {"event": "shard", "stage": "iteration-3", "questions": 2, "of": 4, "seconds": 270.0},
    ]
    text = "".join(json.dumps(r) + "\n" for r in records)
    (run / "metrics.jsonl").write_text(text + '{"event": "upd')  # a line that is being written
    history = read_history(run)
    assert history.seconds_left() == 270 and history.best() == ("iteration-1", 0.75)
    assert history.curve("evaluation", "exact_match") == [0.25, 0.75, 0.5]
    screen = shown(view(history))
    assert (
        "iteration-3: E-step, 2 of 4 questions" in screen and "best exact_match 0.750 (iteration-1)" in screen
    )
    assert "▁█▅" in screen
    assert sparkline([float(i) for i in range(400)], 8) == "▁▂▃▄▅▆▇█"
    (run / "metrics.jsonl").write_text(text.replace('"shard"', "shard"))
    with pytest.raises(RagdroError, match=r"metrics\.jsonl:4"):
        read_history(run)
    (row,) = list_runs(tmp_path / "runs")
    assert row["state"] == "unreadable" and "metrics.jsonl:4" in row["at"]


def test_text_of_a_model_does_not_steer_the_terminal(tmp_path: Path) -> None:
    """Escape sequences and rich's own markup in a question and an answer are shown, not obeyed."""
    hostile = "\x1b[2J\x1b]0;title\x07[red]\u202eno"
    run = tmp_path / "runs/run"
    run.mkdir(parents=True)
    config = ragdro.load_config(write_config(tmp_path))
    (run / "config.yaml").write_text(ragdro.config.dump_config(config))
    record = {"question": hostile, "answer": hostile, "answers": [hostile], "exact_match": 0.0}
    (run / "predictions-warm_up.jsonl").write_text(json.dumps(record) + "\n")
    screen = shown(view(read_history(run)))
    assert "[red]" in screen and not re.search("[\x00-\x09\x0b-\x1f\u202e]", screen)
    (run / "predictions-iteration-1.jsonl").write_text('{"question": 7}\n')
    with pytest.raises(RagdroError, match=r"predictions-iteration-1\.jsonl:1: field 'exact_match'"):
        view(read_history(run))


class Board:
    """Stands in for the libraries: what was logged, by step."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, float]] = {}
        self.begun: list[dict[str, Any]] = []
        self.closed = 0

    def modules(self) -> dict[str, ModuleType]:
        tensorboard, wandb, trackio = (ModuleType(n) for n in ("tensorboard", "wandb", "trackio"))
        tensorboard.SummaryWriter = lambda **given: self._begin(  # type: ignore[attr-defined]
            given, add_scalar=lambda key, value, global_step: self._log({key: value}, global_step)
        )
        wandb.init = lambda **given: self._begin(given, log=self._log)  # type: ignore[attr-defined]
        trackio.init = lambda **given: self._begin(given)  # type: ignore[attr-defined]
        trackio.log, trackio.finish = self._log, self._close  # type: ignore[attr-defined]
        return {"torch.utils.tensorboard": tensorboard, "wandb": wandb, "trackio": trackio}

    def _begin(self, given: dict[str, Any], **methods: Any) -> SimpleNamespace:
        self.begun.append(given)
        return SimpleNamespace(**methods, close=self._close, finish=self._close)

    def _log(self, metrics: dict[str, float], step: int) -> None:
        assert all(isinstance(v, float) for v in metrics.values())
        assert not set(metrics) & set(self.steps.setdefault(step, {})), "counted twice"
        self.steps[step].update(metrics)

    def _close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_trackers_get_what_the_log_gets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    for module, fake in board.modules().items():
        monkeypatch.setitem(sys.modules, module, fake)
    config = write_config(tmp_path, iterations=1, report_to=[name])
    ragdro.run(ragdro.load_config(config))
    records = [json.loads(line) for line in (tmp_path / "runs/run/metrics.jsonl").open()]
    assert len(board.begun) == board.closed == 1
    for step, record in enumerate(records):
        if record["event"] == "update":
            assert board.steps[step][f"{record['role']}/loss"] == record["loss"]
    assert any("reported/exact_match" in metrics for metrics in board.steps.values())
    assert max(board.steps) == len(records) - 1


def test_a_run_that_replaces_another_is_another_one_to_its_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, ids = write_config(tmp_path, iterations=0, report_to=["wandb"]), []
    for _ in range(2):
        board = Board()
        monkeypatch.setitem(sys.modules, "wandb", board.modules()["wandb"])
        ragdro.run(ragdro.load_config(config), overwrite=True)
        ids.append(board.begun[0]["id"])
        assert (tmp_path / "runs/run/wandb-id.txt").read_text() == ids[-1]  # what a resumed run takes
    assert len(set(ids)) == 2


def test_a_tracker_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    config = write_config(tmp_path, report_to=["trackio"])
    with pytest.raises(ConfigError) as refused:
        ragdro.run(ragdro.load_config(config))
    assert str(refused.value).startswith(
        "report_to: 'trackio' is not installed (pip install 'ragdro[trackio]')"
    )
    assert "\n" not in str(refused.value) and not (tmp_path / "runs").exists()
