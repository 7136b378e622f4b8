"""What a number is said to be of: the lists that were drawn, not those that the config could have drawn."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ragdro.config.load import load_config
from ragdro.report.evidence import held_out_samples
from ragdro.report.head import facts
from ragdro.report.history import History
from ragdro.report.watch import view
from ragdro.runs.status import CONFIG
from tests.unit.evaluation.test_verdict import evidence

TINY = Path(__file__).parents[3] / "configs/tiny.yaml"


def history(folder: Path, objective: str, samples: int) -> History:
    config = load_config(TINY, [f"objective={objective}", "e_step.samples=8", "evaluation.samples=16"])
    size: dict[str, Any] = {"effective_sample_size": 2.0}
    records = [
        {
            "event": "evaluation",
            "stage": "warm_up",
            "split": "validation",
            "exact_match": 0.0,
            "f1": 0.0,
            **size,
        },
        {"event": "e_step", "stage": "iteration-1", "samples": samples, **size},
    ]
    (folder / CONFIG).touch()
    return History(folder, config, "interrupted", [{"seconds": 0.0, **record} for record in records])


@pytest.mark.parametrize(
    ("objective", "samples", "training", "measured", "drawn"),
    [
        ("dro", 8, "of 8", "of 16", "m = 8 lists"),
        ("dro", 20, "of 20", "of 16", "m = 8 lists"),  # 12 of them replayed
        ("marginal", 20, "of 20", None, None),
        ("sft", 1, "of 1", None, None),
    ],
)
def test_an_effective_sample_size_is_of_what_was_drawn(
    objective: str, samples: int, training: str, measured: str | None, drawn: str | None, tmp_path: Path
) -> None:
    seen = history(tmp_path, objective, samples)
    out = io.StringIO()
    Console(file=out, width=120).print(view(seen))
    size, same = (
        next(line.strip() for line in out.getvalue().splitlines() if line.strip().startswith(name))
        for name in ("effective sample size", "the same in training")
    )
    assert f"in training ({training})" in same
    assert (f"size ({measured})" in size) if measured else ("of" not in size)
    assert held_out_samples(seen) == (16 if measured else None)
    head = str(facts(seen, {"best": {"iteration": 0}}))
    assert (drawn in head) if drawn else ("lists a question" not in head)


def test_a_draw_at_random_chooses_one_passage_where_passages_are_independent() -> None:
    assert evidence(selected=1).most_entropy == pytest.approx(math.log(20))
    assert evidence(selected=5).most_entropy == pytest.approx(math.log(20 * 19 * 18 * 17 * 16))
