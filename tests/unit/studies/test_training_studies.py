"""What studies make of their runs, against hand calculations; how a study is planned."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ragdro.config import load_config
from ragdro.evaluation.significance import Interval
from ragdro.report.table import Table
from ragdro.studies.catalogue import STUDIES
from ragdro.studies.memory import MEMORY
from ragdro.studies.plan import parse_seeds, plan, slug
from ragdro.studies.records import Run
from ragdro.studies.systems import RETRIEVER_QUALITY
from ragdro.studies.training import ABLATION, CONVERGENCE, SAMPLES, iterations_to_reach
from ragdro.studies.work import PRELOADED
from tests.unit.studies.folders import CONFIG, run


def row(table: Table, label: object) -> dict[str, object]:
    return next(dict(zip(table.columns, r, strict=True)) for r in table.rows if r[0] == label)


def test_the_ablation_s_differences_are_taken_seed_by_seed(tmp_path: Path) -> None:
    def finished(name: str, shares: list[float], union: float) -> Run:
        ways = {"greedy": (shares[-1], None), "union": (union, None)}
        measured = {way: {"exact_match": em, "full_recall": recall} for way, (em, recall) in ways.items()}
        return run(tmp_path / name, shares, measured=measured)

    runs = {
        "both trained": {0: finished("a0", [0.3, 0.8], 0.9), 1: finished("a1", [0.3, 0.9], 0.8)},
        "selector frozen": {0: finished("b0", [0.3, 0.5], 0.6), 1: finished("b1", [0.3, 0.7], 0.9)},
        "both frozen": {0: finished("c0", [0.3], 0.3), 1: finished("c1", [0.3], 0.3)},
    }
    outcome = ABLATION.conclude(runs)
    final = row(outcome.tables["Best iteration"], "both trained")["exact match"]
    # mean 0.85, s / sqrt(2) = 0.05, t of one degree of freedom 12.706205
    assert final == pytest.approx((0.85, 0.85 - 0.635310, 0.85 + 0.635310), abs=1e-5)
    lost = row(outcome.tables["Difference from training both"], "selector frozen")["exact match"]
    assert lost == pytest.approx((-0.25, -0.25 - 0.635310, -0.25 + 0.635310), abs=1e-5)
    assert row(outcome.tables["Best iteration"], "vanilla RAG")["exact match"] == pytest.approx((0.1,) * 3)
    several = [r for r in outcome.tables["Answers from several lists"].rows if r[0] == "selector frozen"]
    assert several[0][1:] == ("greedy", several[0][2], None, None, None)
    # mean 0.15, s / sqrt(2) = 0.05: 0.1 and 0.2 more than the greedy list's
    assert several[1][1] == "union" and several[1][3] is None and several[1][5] is None
    assert several[1][4] == pytest.approx((0.15, 0.15 - 0.635310, 0.15 + 0.635310), abs=1e-5)
    (still,) = [s for s in outcome.panels[0].series if s.label == "both frozen"]
    assert [x for x, _ in still.points] == [0.0, 1.0]  # drawn through to the last iteration


@pytest.mark.parametrize(
    ("falls", "said"), [((0.5, 0.52), "iteration 2: the bound falls"), ((0.5, 0.01), "never falls")]
)
def test_a_bound_that_falls_by_more_than_its_interval_is_flagged(
    falls: tuple[float, float], said: str, tmp_path: Path
) -> None:
    seeds = {
        seed: run(tmp_path / f"run-{seed}", [0.3, 0.5, 0.6], [-2.0, -1.0, -1.0 - fall])
        for seed, fall in enumerate(falls)
    }
    outcome = CONVERGENCE.conclude({"trained": seeds})
    change = row(outcome.tables["By iteration"], 2)["change of the bound (nats)"]
    assert isinstance(change, Interval) and change.mean == pytest.approx(-sum(falls) / 2)
    assert any(said in finding for finding in outcome.findings)
    one = CONVERGENCE.conclude({"trained": {0: seeds[0]}})
    assert "not judged" in one.findings[0]


def test_an_iteration_that_was_not_measured_leaves_the_others_in_their_places(tmp_path: Path) -> None:
    seeds = {
        seed: run(
            tmp_path / f"run-{seed}",
            [0.3, 0.5, 0.6, 0.7, 0.7],
            [-2.0, -1.0, -1.5, -3.0, -2.5 - seed / 100],
            "evaluation.every=2",
        )
        for seed in range(2)
    }
    assert seeds[0].curve("exact_match") == [0.3, None, 0.6, None, 0.7]
    assert iterations_to_reach(seeds[0]) == 4.0
    assert seeds[0].seconds() == [7.0, 7.0, 7.0, 7.0]
    outcome = CONVERGENCE.conclude({"trained": seeds})
    table = outcome.tables["By iteration"]
    changes = [row(table, i)["change of the bound (nats)"] for i in range(5)]
    assert changes[0] is changes[1] is changes[3] is None
    assert isinstance(changes[2], Interval) and changes[2].mean == pytest.approx(0.5)
    assert isinstance(changes[4], Interval) and changes[4].mean == pytest.approx(-1.005)
    assert [row(table, i)["flag"] for i in range(5)] == ["", "", "", "", "falls"]
    (line,) = outcome.panels[0].series
    assert [x for x, value in line.points if value is not None] == [0.0, 2.0, 4.0]


def test_samples_say_what_a_score_takes(tmp_path: Path) -> None:
    short = run(tmp_path / "m1", [0.3, 0.5, 0.7], None, "e_step.samples=1")
    long = run(tmp_path / "m4", [0.3, 0.69, 0.7], None, "e_step.samples=4")
    assert (iterations_to_reach(short), iterations_to_reach(long)) == (2.0, 1.0)
    assert short.seconds() == [7.0, 7.0]  # 3 s of E-step and 4 of M-step, measuring left out
    assert (short.generator_evaluations(), long.generator_evaluations()) == (128, 512)
    outcome = SAMPLES.conclude({"m = 1": {0: short}, "m = 4": {0: long}})
    assert row(outcome.tables["Best iteration"], "m = 4")["iterations to reach"] == 1.0
    assert [x for x, _ in outcome.panels[1].series[0].points] == [1.0, 4.0]


def test_the_undisturbed_retriever_is_in_both_panels(tmp_path: Path) -> None:
    runs = {
        "N = 20": {0: run(tmp_path / "n20", [0.3, 0.8])},
        "N = 10": {0: run(tmp_path / "n10", [0.3, 0.6], None, "top_n=10")},
        "0.4 replaced": {0: run(tmp_path / "worse", [0.3, 0.4], None, "corrupt_candidates=0.4")},
    }
    over_n, over_share = RETRIEVER_QUALITY.conclude(runs).panels
    assert over_n.series[0].points == ((10.0, 0.6), (20.0, 0.8))
    assert over_share.series[0].points == ((0.0, 0.8), (0.4, 0.4))


def test_memory_is_judged_by_the_training_questions_and_the_held_out_ones(tmp_path: Path) -> None:
    runs = {
        label: {seed: run(tmp_path / f"{label}-{seed}", [0.3, 0.6, last], [-2.0, -1.0, bound])}
        for seed, (label, last, bound) in enumerate((("dro", 0.5, -1.4), ("cross-fitted", 0.8, -0.5)))
    }
    outcome = MEMORY.conclude(runs)
    last = row(outcome.tables["Last iteration"], "dro")  # not the best one
    assert (last["full recall"], last["bound (nats)"]) == (0.5, -1.4)
    assert (last["bound (nats), training"], last["effective sample size, training"]) == (-2.4, 2.0)
    training = outcome.panels[2].series[1]
    assert training.label == "cross-fitted" and training.points == ((0.0, -2.0), (1.0, -1.5))


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_variant_of_every_study_is_a_config_of_its_own(name: str) -> None:
    planned = plan(STUDIES[name], CONFIG, ["runs=somewhere"])
    configs = {
        run.config.model_copy(update={"name": "", "seed": 0}).model_dump_json() for run in planned.runs
    }
    assert len(configs) == len(STUDIES[name].variants)
    assert len({run.folder for run in planned.runs}) == len(planned.runs)
    assert planned.folder == Path("somewhere/studies") / name
    assert all(run.config.threads == 1 for run in planned.runs)


def test_what_is_asked_for_replaces_the_study_s_sizes_and_full_leaves_the_config_s() -> None:
    small, asked = plan(ABLATION, CONFIG), plan(ABLATION, CONFIG, ["e_step.questions=7"])
    assert small.runs[0].config.e_step.questions == 64 and asked.runs[0].config.e_step.questions == 7
    whole = plan(ABLATION, CONFIG, seeds=(3,), full=True)
    assert [run.seed for run in whole.runs] == [3] * 4
    own, taken = load_config(CONFIG), whole.runs[0].config
    assert (taken.e_step, taken.iterations, taken.data) == (own.e_step, own.iterations, own.data)
    assert own.iterations != small.runs[0].config.iterations
    assert whole.command == f"ragdro study ablation {CONFIG} --seeds 3 --full"


def test_what_a_study_s_processes_share_can_be_imported() -> None:
    """The library says nothing when it cannot import them: every run would do it again."""
    assert all(importlib.util.find_spec(name) for name in PRELOADED)


def test_names_and_seeds() -> None:
    assert (slug("m = 16"), slug("teacher's ranking")) == ("m-16", "teacher-s-ranking")
    assert parse_seeds("0-2,7") == (0, 1, 2, 7)
