"""`ragdro plan` of a run that asks more than once, against what an iteration of it computes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import ragdro
from ragdro.algorithms import Dro
from ragdro.algorithms.examples import TrainingExample
from ragdro.cli import app
from ragdro.config import Config
from ragdro.generation.reading import Reading
from ragdro.planning.findings import Finding
from ragdro.planning.live import most_bytes
from ragdro.planning.plan import plan
from ragdro.planning.preflight import _check_roles
from ragdro.planning.stand_in import longest_samples, longest_tasks, stand_in
from ragdro.profiling import Profile, profiled
from ragdro.rewriting.asking import Asking
from ragdro.rewriting.decisions import lists_of, queries_of
from ragdro.runs.setup import set_up
from ragdro.system import Rag
from ragdro.training.e_step import e_step
from ragdro.training.m_step import fit
from ragdro.training.path_proposals import path_proposals
from ragdro.training.proposals import proposals
from ragdro.types import WeightedTask

CPU = torch.device("cpu")
QUESTIONS, TOKENS = 8, 9999
ROLES = ("selector", "rewriter", "generator")


def far(folder: Path, **changes: Any) -> Path:
    """Two rounds on the world "far"; every text is as long as its budget, for it is cut there."""
    role = {"model": "tiny:base", "passage_tokens": 5, "question_tokens": 6}
    path = folder / "config.yaml"
    values = {
        "runs": str(folder / "runs"),
        "cache": str(folder / "cache"),
        "threads": 1,
        "data": {
            "train": "tiny:far-train",
            "validation": "tiny:far-validation",
            "corpus": "tiny:far-corpus",
            "train_questions": QUESTIONS,
        },
        "top_n": 8,
        "retrieval": {"rounds": 2, "k": [2, 1]},
        "selector": {**role, "prompt": "tiny-selector", "k": 1},
        "generator": {**role, "prompt": "tiny-generator", "answer_tokens": 2},
        "rewriter": {**role, "prompt": "tiny-rewriter", "query_tokens": 3},
        "e_step": {"samples": 3, "temperature": 4.0, "max_tokens_per_micro_batch": TOKENS},
        "evaluation": {"samples": 1, "tight_samples": None, "questions": 2},
        "iterations": 1,
        **changes,
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def examples(system: Any, weighted: WeightedTask) -> dict[str, TrainingExample]:
    """What each role learns of a question."""
    return {
        "selector": Dro().selector_example(system.selector, weighted),
        "rewriter": Dro().rewriter_example(system.asking.rewriter, weighted),
        "generator": Dro().generator_example(system.generator, weighted),
    }


@pytest.mark.parametrize("first", [False, True], ids=["asked", "written"])
def test_the_tokens_of_two_rounds_are_those_that_a_run_computes(tmp_path: Path, first: bool) -> None:
    """A question of which no two paths are alike, and every query finds N passages, takes what was planned,
    to a tenth: a prompt's own words are other tokens there. All together take less, and no more queries. So
    also where the first query is written: each path then has a first list of its own candidates."""
    retrieval = {"rounds": 2, "k": [2, 1], "rewrite_first": first}
    config = ragdro.load_config(far(tmp_path, retrieval=retrieval))
    planned = plan(config, QUESTIONS, CPU)
    setup = set_up(config)
    system, asking, searched = setup.rag, setup.rag.asking, list[str]()
    assert asking is not None
    find = asking.search._find
    asking.search._find = lambda texts, n: (searched.extend(texts), find(texts, n))[1]  # type: ignore[func-returns-value]
    step = config.e_step
    propose = path_proposals(proposals(Dro(), step, 0, 1), asking, step, 0, 1)
    models = (system.selector.model, asking.rewriter.model, system.generator.model)
    for model in models:
        model.shares_prefixes = model.shares_cache = True  # whether that is so takes passes of its own
    profile = Profile(1.0)
    with profiled(profile):
        weighted = e_step(system.selector, system.generator, setup.train, propose=propose, max_tokens=TOKENS)
    drawn, phases = profile.tokens, planned["phases"]
    most = 3 * QUESTIONS * config.retrieval.queries
    assert planned["queries"] == most >= len(searched) > most / 2
    written = phases["sampling"]["tokens"] + phases["queries"]["tokens"]
    assert 0.5 * written < drawn["prefill"] + drawn["decode"] < written
    assert 0.5 * phases["scoring"]["tokens"] < drawn["score"] < phases["scoring"]["tokens"]
    whole = 0
    for one in weighted:
        paths = [sample.path for sample in one.samples if sample.path is not None]
        firsts = {path.decisions[0] for path in paths}
        all_full = all(len(one.candidates.passages) == config.top_n for path in paths for one in path.rounds)
        of_question = examples(system, one)
        for role, example in of_question.items():
            expected = phases[f"{role} update"]["tokens"] / QUESTIONS
            assert len(example.group) <= 1.05 * expected
            if all_full and len(firsts) == 3:
                whole += 1
                assert len(example.group) >= 0.85 * expected, role
    assert whole >= 6  # two questions of three roles at least


def pocket(tmp_path: Path, **changes: Any) -> Config:
    """Models of a moment, several layers deep."""
    model = {
        "scratch": {"width": 64, "layers": 4, "vocabulary": 2048},
        "passage_tokens": 24,
        "question_tokens": 8,
    }
    values = yaml.safe_load(far(tmp_path, **changes).read_text())
    for role in ROLES:
        values[role] = {**{k: v for k, v in values[role].items() if k != "model"}, **model}
        values.setdefault("m_step", {})[role] = {"batch_size": 4, "max_tokens_per_micro_batch": 900}
    values["e_step"] |= {"max_tokens_per_micro_batch": 1500}
    return Config.model_validate(values)


def test_real_tensors_take_the_bytes_that_were_planned(tmp_path: Path) -> None:
    """Three rounds, with data and at full depth: what a micro-batch of paths holds, a batch of queries."""
    rounds = 3
    config = pocket(tmp_path, retrieval={"rounds": rounds, "k": [2, 1, 1]})
    phases = plan(config, QUESTIONS, CPU)["phases"]
    assert {"sampling", "queries", "scoring", *(f"{role} update" for role in ROLES)} == set(phases)

    def made() -> Rag:
        selector, generator, rewriter = stand_in(config, CPU, dict.fromkeys(ROLES, 4))
        assert rewriter is not None
        return Rag(selector, generator, asking=Asking(rewriter, lambda *_: [], config.retrieval, selector))

    def updated(role: str) -> None:
        system = made()
        assert system.asking is not None
        models = {
            "selector": system.selector.model,
            "rewriter": system.asking.rewriter.model,
            "generator": system.generator.model,
        }

        def build(i: int) -> TrainingExample:
            return examples(system, longest_samples(config, i))[role]

        fit(models[role], QUESTIONS, build, getattr(config.m_step, role), np.random.default_rng(0))

    def written() -> None:
        system = made()
        assert system.asking is not None
        states = queries_of(longest_samples(config), [0.0] * config.e_step.samples)
        last = [state for state in states if state.number == rounds]
        readings = [Reading(state.task.question, state.task.read) for state in last] * QUESTIONS
        rewriter, numbers = system.asking.rewriter, np.random.default_rng(0)
        uniforms = [numbers.random((1, rewriter.query_tokens)) for _ in readings]
        rewriter.sample(readings, uniforms, temperature=1.0, max_tokens=1500)

    def listed() -> None:
        system = made()
        states = lists_of(longest_samples(config), [0.0] * config.e_step.samples)
        last = [state.task for state in states if state.number == rounds] * QUESTIONS
        selects, numbers = system.selector.in_round(rounds), np.random.default_rng(0)
        uniforms = [numbers.random((1, selects.choices_per_list)) for _ in last]
        selects.sample(last, uniforms, temperature=1.0, max_tokens=1500)

    works = {f"{role} update": partial(updated, role) for role in ROLES}
    for name, work in (*works.items(), ("queries", written), ("sampling", listed)):
        assert phases[name]["memory"] == pytest.approx(most_bytes(work, []), rel=0.2), name


def test_the_rewriter_is_looked_at_and_printed(tmp_path: Path) -> None:
    path = far(tmp_path)
    done = CliRunner().invoke(app, ["plan", str(path)], catch_exceptions=False, env={"COLUMNS": "80"})
    assert "rewriter" in done.stdout and "queries" in done.stdout
    assert "at most 24 queries are searched for" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80
    config, found = ragdro.load_config(path), list[Finding]()
    _check_roles(config, longest_tasks(config, 1), found)
    levels = {finding.check: finding.level for finding in found}
    assert levels["rewriter"] == levels["rewriter: prompt"] == "ok"
