"""`evaluation.every` and `evaluation.test`: less is measured, and what is measured stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import ragdro
from ragdro.errors import ConfigError
from ragdro.report.run_page import write_report
from ragdro.report.tables import print_results
from ragdro.report.watch import watch_run
from ragdro.training.callbacks import Callback
from tests.pipeline.test_train import write_config

_BY_BOUND = ("evaluation.metric=bound", "iterations=3", "patience=null", "checkpoints.keep=all")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config with test questions, and its run of three iterations, every one measured."""
    made = tmp_path_factory.mktemp("measuring")
    path = write_config(made)
    values = yaml.safe_load(path.read_text())
    values["data"]["test"] = values["data"]["train"]
    path.write_text(yaml.safe_dump(values))
    run(made, "whole")
    return made


def run(folder: Path, name: str, *overrides: str, **options: Any) -> dict[str, Any]:
    config = ragdro.load_config(folder / "config.yaml", [f"name={name}", *_BY_BOUND, *overrides])
    return ragdro.run(config, **options)


def results_of(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / name / "results.json").read_text())
    return found


def measured(folder: Path, name: str, split: str) -> list[str]:
    records = [json.loads(line) for line in (folder / "runs" / name / "metrics.jsonl").open()]
    return [r["stage"] for r in records if r["event"] == "evaluation" and r["split"] == split]


def weights(folder: Path, name: str) -> list[bytes]:
    return [
        p.read_bytes()
        for p in sorted((folder / "runs" / name).glob("checkpoints/iteration-3/*/*.safetensors"))
    ]


def test_every_second_iteration_and_the_last_are_measured_and_nothing_else_changes(folder: Path) -> None:
    found, whole = run(folder, "second", "evaluation.every=2"), results_of(folder, "whole")
    assert [m["iteration"] for m in whole["iterations"]] == [1, 2, 3]
    assert [m["iteration"] for m in found["iterations"]] == [2, 3]
    assert weights(folder, "second") == weights(folder, "whole") and len(weights(folder, "whole")) == 2
    for own, theirs in zip(found["iterations"], whole["iterations"][1:], strict=True):
        moved = (own.pop("kl_to_previous"), theirs["kl_to_previous"])  # previous: the one measured before
        assert own.items() <= theirs.items() and all(value is not None for value in moved)
    assert measured(folder, "second", "validation") == ["warm_up", "iteration-2", "iteration-3"]
    assert (folder / "runs/second/checkpoints/iteration-1/selector").is_dir()


def test_the_test_questions_measure_the_best_alone_and_find_the_same(folder: Path) -> None:
    found, whole = run(folder, "best", "evaluation.test=best"), results_of(folder, "whole")
    best = whole["best"]["iteration"]
    assert best > 0, "the comparison says nothing where the warm-up is best"
    assert found == {**whole, "iterations": [whole["best"]]}
    assert measured(folder, "best", "reported") == ["warm_up", f"iteration-{best}"]
    assert measured(folder, "best", "validation") == measured(folder, "whole", "validation")
    assert not (folder / f"runs/best/predictions-iteration-{4 - best}.jsonl").exists()
    same = f"predictions-iteration-{best}.jsonl"
    assert (folder / "runs/best" / same).read_bytes() == (folder / "runs/whole" / same).read_bytes()


class Stop(Callback):
    """Ends the run at the test questions of an iteration, once they are measured."""

    def on_evaluation(self, stage: str, split: str, metrics: Any, records: Any) -> None:
        if stage.startswith("iteration") and split == "reported":
            raise KeyboardInterrupt


def test_a_run_that_stops_before_its_best_is_measured_resumes_there(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, "stopped", "evaluation.test=best", callbacks=[Stop()])
    whole = results_of(folder, "whole")
    found = run(folder, "stopped", "evaluation.test=best", resume=True)
    assert found == {**whole, "iterations": [whole["best"]]}


def test_the_table_and_the_page_show_what_there_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "shown", "evaluation.test=best", "evaluation.every=2")
    print_results(folder / "runs/shown")
    best = results_of(folder, "shown")["best"]["iteration"]
    said = capsys.readouterr().out
    assert f"iteration {best} *" in said and "iteration 1" not in said
    assert "3 iterations in" in write_report(folder / "runs/shown").read_text()
    watch_run(folder / "runs/shown", once=True)
    (bound,) = [line.split() for line in capsys.readouterr().out.splitlines() if "bound (nats)" in line]
    assert len(bound[-1]) == 3  # the warm-up and both measured iterations, by the validation questions


def test_parts_of_models_have_no_best_to_come_back_to(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"fsdp2 does not go with evaluation\.test: best"):
        run(folder, "parts", "evaluation.test=best", "parallel.strategy=fsdp2")
