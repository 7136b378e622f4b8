"""A verdict's rules one by one, at both sides of their thresholds, and what it says in the end."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ragdro.evaluation import rules
from ragdro.evaluation.evidence import Evidence
from ragdro.evaluation.rules import RULES
from ragdro.evaluation.verdict import verdict

DOCS = Path(__file__).parents[3] / "docs/how-to/report.md"


def records(
    right: int, read: int, of: int = 100, held: int | None = None, answer: str = "x"
) -> list[dict[str, Any]]:
    """The first `right` are answered right, the first `read` read what is needed."""
    return [
        {
            "exact_match": float(i < right), "f1": float(i < right), "answer": answer, "answers": ["x"],
            "full_recall": float(i < read), "answer_read": float(i < read), "hops": None,
            "gold_in_candidates": float(i < (of if held is None else held)), "answer_in_candidates": 1.0,
        }
        for i in range(of)
    ]  # fmt: skip


def evidence(**changes: Any) -> Evidence:
    """A run of which no rule finds fault: it reads and answers nearly all."""
    good: dict[str, Any] = {
        "metric": "exact_match", "split": "test", "vanilla": records(30, 40), "warm_up": records(35, 40),
        "best": records(95, 97), "iterations": 5, "planned": 5, "best_iteration": 4, "samples": 8,
        "held_out_samples": 8, "candidates": 20, "selected": 5, "seeds": 3,
        "training": {"bound": -0.3, "effective_sample_size": 6.0, "selector_entropy": 1.0,
                     "questions": 100, "impossible_questions": 0},
        "held_out": {"bound": -0.4, "effective_sample_size": 6.0}, "fitted": {"selector_entropy": 1.0},
    }  # fmt: skip
    return Evidence(**{**good, **changes})


def found(e: Evidence) -> list[str]:
    return [f.rule.name for f in (*verdict(e).causes, *verdict(e).notes)]


def training(**changes: float) -> dict[str, Any]:
    return {**evidence().training, **changes}


def test_a_good_run_has_no_fault() -> None:
    assert found(evidence()) == []


HALF = records(45, 97)
SIDES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "empty answers",
        {"best": [*records(88, 97)[:89], *records(88, 97, answer=" ")[89:]]},
        {"best": [*records(90, 97)[:90], *records(90, 97, answer=" ")[90:]]},
        "0.110 of the answers",
    ),
    ("cut texts", {"cut": {"selector.passage_tokens": 0.11}}, {"cut": {"selector.passage_tokens": 0.1}},
     "0.110 of selector.passage_tokens"),
    ("low ceiling", {"best": records(40, 45, held=49)}, {"best": records(40, 45, held=50)},
     "20 candidates hold what is needed for 0.49"),
    ("weak generator", {"best": records(48, 97)}, {"best": records(49, 97)}, "0.495 right of the 97"),
    ("weak generator", {"best": records(4, 10)}, {"best": records(4, 9)}, "0.400 right of the 10"),
    (
        "memorised",
        {"training": training(bound=-0.1, effective_sample_size=7.9),
         "held_out": {"bound": -0.6, "effective_sample_size": 7.0}},
        {"training": training(bound=-0.1, effective_sample_size=7.9),
         "held_out": {"bound": -0.59, "effective_sample_size": 7.0}},
        "−0.100 nats in training and −0.600 held out",
    ),
    (
        "memorised",
        {"training": training(bound=-0.1, effective_sample_size=7.9), "held_out_samples": 16,
         "held_out": {"bound": -2.0, "effective_sample_size": 14.0}},
        {"training": training(bound=-0.1, effective_sample_size=7.9), "held_out_samples": 16,
         "held_out": {"bound": -2.0, "effective_sample_size": 15.0}},
        "effective sample size 7.900 of 8",
    ),
    (
        "memorised",  # a bound of more samples is larger, whatever was memorised
        {"training": training(bound=-0.1, effective_sample_size=7.9), "held_out_samples": 8,
         "held_out": {"bound": -2.0, "effective_sample_size": 3.0}},
        {"training": training(bound=-0.1, effective_sample_size=7.9), "held_out_samples": 7,
         "held_out": {"bound": -2.0, "effective_sample_size": 3.0}},
        "effective sample size 7.900 of 8",
    ),
    ("level weights", {"best": HALF, "training": training(effective_sample_size=7.6)},
     {"best": HALF, "training": training(effective_sample_size=7.5)}, "effective sample size 7.600 of 8"),
    ("level weights", {"best": HALF, "training": training(effective_sample_size=7.6)},
     {"training": training(effective_sample_size=7.6)}, "as likely after one list as after another"),
    ("level weights", {"best": HALF, "training": training(effective_sample_size=8, selector_entropy=0.05)},
     {"best": HALF, "training": training(effective_sample_size=8, selector_entropy=0.04)}, "8.000 of 8"),
    ("selector at chance", {"fitted": {"selector_entropy": 0.91 * math.log(20 * 19 * 18 * 17 * 16)}},
     {"fitted": {"selector_entropy": 0.89 * math.log(20 * 19 * 18 * 17 * 16)}}, "of at most 14.436 nats"),
    ("selector stuck", {"best": records(80, 90), "training": training(selector_entropy=0.04)},
     {"best": records(80, 90), "training": training(selector_entropy=0.05)}, "0.900 of the questions only"),
    ("selector stuck", {"best": records(80, 90), "training": training(selector_entropy=0.04)},
     {"best": records(80, 96), "training": training(selector_entropy=0.04)}, "entropy 0.040 nats"),
    ("no better than the retriever's order", {"best": records(40, 40)}, {"best": records(40, 50)},
     "for 0.400 of the questions, the retriever's first 5 for 0.400"),
    ("at the ceiling", {"best": records(70, 77, held=80)}, {"best": records(70, 75, held=80)},
     "for 0.770 of the questions, the candidates for 0.800"),
    ("impossible answers", {"training": training(impossible_questions=11)},
     {"training": training(impossible_questions=10)}, "0.110 of the training questions"),
    ("warm-up best", {"best_iteration": 0}, {"best_iteration": 1}, "none of 5 iterations"),
    ("too few questions", dict.fromkeys(("vanilla", "warm_up", "best"), records(6, 19, 20)),
     dict.fromkeys(("vanilla", "warm_up", "best"), records(60, 190, 200)),
     "20 questions are too few to see one below 0.14"),
    ("too few questions", dict.fromkeys(("vanilla", "warm_up", "best"), records(0, 1, 1)),
     dict.fromkeys(("vanilla", "warm_up", "best"), records(60, 190, 200)),
     "1 question is too few to see a difference of any size"),
    ("validation used as test", {"split": "validation"}, {"split": "test"}, "chose the best iteration"),
    ("single seed", {"seeds": 1}, {"seeds": 2}, "one seed"),
    ("stopped early", {"planned": 6}, {"planned": 5}, "after 5 of 6 iterations"),
    ("still rising", {"best_iteration": 5}, {"best_iteration": 4}, "the last iteration was the best"),
    ("skipped updates", {"skipped_updates": 1}, {"skipped_updates": 0}, "1 update had"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "sees", "misses", "said"), SIDES, ids=[f"{s[0]} {i}" for i, s in enumerate(SIDES)]
)
def test_a_rule_at_both_sides_of_its_threshold(
    name: str, sees: dict[str, Any], misses: dict[str, Any], said: str
) -> None:
    (rule,) = (rule for rule in RULES if rule.name == name)
    text = rule.find(evidence(**sees))
    assert text is not None and said in text
    assert rule.find(evidence(**misses)) is None


def test_every_rule_is_tested_and_in_the_docs_with_its_advice() -> None:
    assert {side[0] for side in SIDES} == {rule.name for rule in RULES}
    table = dict(re.findall(r"^\| (?:cause|note) \| ([^|]+?) \| .*? \| ([^|]+?) \|$", DOCS.read_text(), re.M))
    assert table == {rule.name: rule.advice.replace("|", "\\|") for rule in RULES}
    for threshold in (
        rules.WORTH_SEEING, rules.MANY, rules.LOW_CEILING, rules.NEAR_CEILING, rules.MEMORISED_NATS,
        rules.LEVEL_SIZE, rules.AT_CHANCE, rules.STUCK_LISTS, rules.ENOUGH,
    ):  # fmt: skip
        assert f"{threshold:g}" in DOCS.read_text()


@pytest.mark.parametrize("unknown", ["training", "held_out", "fitted"])
def test_what_was_not_measured_is_no_fault(unknown: str) -> None:
    assert found(evidence(**{unknown: {}})) == []


def test_nothing_is_said_of_a_selector_where_nothing_is_selected() -> None:
    blamed = {"selects": False, "best": records(30, 40), "fitted": {"selector_entropy": 14.4},
              "training": training(selector_entropy=0.0, effective_sample_size=8.0)}  # fmt: skip
    assert not any(
        "select" in name or "weights" in name or "order" in name for name in found(evidence(**blamed))
    )


def test_the_headline_says_by_how_much_on_how_many_questions_of_which_split() -> None:
    better = verdict(evidence())
    assert better.level == "better"
    said = re.fullmatch(
        r"Better than vanilla RAG by 0\.650 ± (0\.\d\d\d) exact match on 100 test questions"
        r" \(0\.300 → 0\.950\)\.",
        better.headline,
    )
    # The interval of a mean of 100 differences, of which 65 are 1: 1.96 sqrt(0.65 * 0.35 / 100) = 0.093.
    assert said is not None and float(said[1]) == pytest.approx(0.093, abs=0.011)
    assert "over the warm-up: +0.600 ±" in better.summary
    assert (
        "Of 5 wrong answers 3 lacked a passage that is needed; 2 had read what is needed." in better.summary
    )
    level = verdict(evidence(best=records(30, 97), split="validation"))
    assert level.level == "open"
    assert level.headline.startswith("No better than vanilla RAG: 0.000 ± 0.000 exact match on 100 valid")
    worse = verdict(evidence(best=records(10, 97)))
    assert worse.level == "worse" and worse.headline.startswith("Worse than vanilla RAG by 0.200 ± ")
    alone = verdict(evidence(iterations=0, planned=0, best_iteration=0))
    assert "Only the warm-up was run." in alone.summary and alone.causes == ()


def test_causes_come_with_what_to_try_each_advice_once() -> None:
    judged = verdict(evidence(best=records(20, 48, held=49), seeds=1))
    names = [f.rule.name for f in judged.causes]
    assert names[:2] == ["low ceiling", "weak generator"]
    assert len(judged.next_steps) <= 3 and judged.next_steps[0] == judged.causes[0].rule.advice
    words = [word for word, _ in judged.lines()]
    assert words[:3] == ["", "", "because"] and "try next" in words and words[-1] == "mind"
    twice = replace(evidence(best=records(20, 48, held=49)), cut={})
    assert len(set(verdict(twice).next_steps)) == len(verdict(twice).next_steps)


def test_power_by_hand() -> None:
    """Of 400 questions 40 differ, half each way: the differences' spread is sqrt(0.1)."""
    before = records(200, 400, 400)
    after = [
        dict(r, exact_match=float(180 <= i < 200 or i < 160 or 200 <= i < 220)) for i, r in enumerate(before)
    ]
    e = evidence(vanilla=before, warm_up=before, best=after)
    assert e.gain.mean == 0 and e.detectable == pytest.approx(2.8 * math.sqrt(0.1 / 400))
    assert e.questions_for(0.05) == math.ceil(2.8**2 * 0.1 / 0.05**2)
