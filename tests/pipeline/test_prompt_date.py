"""A chat template that writes today's date writes that of the day a run began, whenever it is resumed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from transformers import AutoTokenizer

import ragdro
from ragdro.lm import chat
from ragdro.runs import warm_start
from ragdro.runs.warm_start import dated
from ragdro.system import reading
from ragdro.training.parts import TrainingParts
from tests.pipeline.test_extending import Stop, run
from tests.pipeline.test_train import write_config
from tests.unit.lm.test_chat import OPEN, TURNS

FIRST, LATER = date(2030, 1, 1), date(2031, 2, 2)


class Prompts(Stop):
    """Both roles' prompts at the end of every iteration, as text."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.texts: list[str] = []

    def on_iteration_end(self, training: TrainingParts, iteration: int) -> None:
        task, system = training.validation[0], training.system
        for model, ids in (
            (system.selector.model, system.selector.prompt(task)),
            (system.generator.model, system.generator.prompt(reading(task, (0,)))),
        ):
            self.texts.append(model.tokenizer.hf.decode(ids))


def on(day: date, monkeypatch: pytest.MonkeyPatch) -> None:
    class Day(date):
        @classmethod
        def today(cls) -> date:  # type: ignore[override]
            return day

    for module in (warm_start, chat):
        monkeypatch.setattr(module, "date", Day)


def test_a_run_keeps_the_day_it_began_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(tmp_path, iterations=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.chat_template = "Today: {{ strftime_now('%d %b %Y') }}\n" + TURNS + OPEN
    tokenizer.save_pretrained(tmp_path / "model")
    began, resumed = Prompts("iteration-1"), Prompts("never")
    on(FIRST, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(path, "run", callbacks=[began])
    on(LATER, monkeypatch)
    run(path, "run", resume=True, callbacks=[resumed])
    assert began.texts == resumed.texts and len(began.texts) == 2
    assert all("Today: 01 Jan 2030" in text for text in began.texts)
    kept = ragdro.load_config(tmp_path / "runs/run/config.yaml")
    assert kept.selector.prompt_date == kept.generator.prompt_date == FIRST
    for start, day in (("null", LATER), (tmp_path / "runs/run", FIRST)):
        other = dated(ragdro.load_config(path, ["name=other", f"warm_up.from={start}"]), resume=False)
        assert other.selector.prompt_date == other.generator.prompt_date == day
