"""Merged and exported models: plain folders with the run's numbers, a card, and a hub's stand-in."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch
import yaml
from huggingface_hub import HfApi
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.errors import ConfigError, ModelError
from ragdro.lm.scoring import score_all
from ragdro.lm.tree import ScoredSequence
from ragdro.report import export
from ragdro.report.export import export_run, push_to_hub, repositories
from ragdro.runs.exported import write_index
from ragdro.runs.load import evaluate_run
from ragdro.runs.stages import config_of as config_of_folder
from ragdro.system import Rag, reading
from tests.pipeline.test_adapters import LORA, ROLES, config_of
from tests.pipeline.test_train import write_config
from tests.worlds import pocket_tasks


@pytest.fixture(scope="module", params=["lora", "shared", "full"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    adapter = None if request.param == "full" else LORA
    ragdro.run(config_of(folder, "iterations=1", adapter=adapter, shared_backbone=request.param == "shared"))
    return folder / "runs/run"


@torch.no_grad()
def plain_log_prob(folder: Path, sequence: ScoredSequence) -> float:
    """By transformers alone, from full logits."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert not isinstance(model, PeftModel) and not any("lora" in n for n, _ in model.named_parameters())
    logits = model(torch.from_numpy(sequence.tokens)[None]).logits[0].double()
    total = 0.0
    for i, t in enumerate(sequence.targets.tolist()):
        competing = slice(None) if sequence.allowed is None else torch.from_numpy(sequence.allowed[i])
        total += float(logits[t - 1, sequence.tokens[t]] - logits[t - 1][competing].logsumexp(0))
    return total


def test_exported_folders_have_the_runs_log_probabilities(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(run), str(tmp_path / "out")], catch_exceptions=False)
    assert done.exit_code == 0
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert {file.stat().st_mode for file in files} == {(tmp_path / "out/config.yaml").stat().st_mode}
    rag, task = ragdro.load(run), pocket_tasks(1, 6)[0]
    sequences = (rag.selector.scored(task, (2, 0, 4)), rag.generator.scored(reading(task, (2, 0, 4))))
    models = (rag.selector.model, rag.generator.model)
    groups = (rag.selector.group(task, [(2, 0, 4)]), rag.generator.group([reading(task, (2, 0, 4))]))
    for role, model, group, sequence in zip(ROLES, models, groups, sequences, strict=True):
        folder = tmp_path / "out" / role
        ours = score_all(model, [group], 999)[0][0]
        assert ours == pytest.approx(plain_log_prob(folder, sequence), abs=1e-4)
        assert ours != pytest.approx(plain_log_prob(run.parents[1] / "model", sequence), abs=1e-3)  # trained
        assert AutoTokenizer.from_pretrained(folder)("where")["input_ids"] == model.tokenizer.data("where")


def test_an_exported_folder_answers_as_its_run_and_needs_nothing_of_it(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "out")
    own, exported = ragdro.load(run), ragdro.load(tmp_path / "out")
    questions = ["Where does Mara4 work?", "Where does Mara5 work?"]
    of_run = own.answer_many(questions)
    for a, b in zip(exported.answer_many(questions), of_run, strict=True):
        assert (a.task, a.answer, a.selection.permutation) == (b.task, b.answer, b.selection.permutation)
        assert a.selection.probabilities == pytest.approx(b.selection.probabilities, abs=1e-5)
    assert of_run[0].task.candidates.scores is not None
    corpus = tmp_path / "elsewhere.jsonl"
    corpus.write_text("".join(f'{{"id": "{i}", "title": "", "text": "Mara4 at {i}"}}\n' for i in range(7)))
    elsewhere = ragdro.load(tmp_path / "out", corpus=str(corpus)).answer(questions[0])
    assert {p.text for p in elsewhere.task.candidates.passages} <= {f"Mara4 at {i}" for i in range(7)}
    passages = ["Mara4 works for Firm 4.", {"title": "Firm 5", "text": "Mara5 works."}, *"abc"]
    given = exported.answer(questions[0], passages)
    texts = [p.text for p in given.task.candidates.passages]
    assert texts == ["Mara4 works for Firm 4.", "Mara5 works.", *"abc"]
    assert given.answer == own.answer(questions[0], passages).answer


def test_loading_opens_nothing_that_is_not_asked_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("the retriever was opened")

    monkeypatch.setattr("ragdro.runs.searching.cached_retriever", refuse)
    rag = ragdro.load(run)
    assert rag.answer("Where does Mara4 work?", ["Mara4 works for Firm 4.", *"abcd"]).selected
    with pytest.raises(AssertionError, match="was opened"):
        rag.answer("Where does Mara4 work?")
    with pytest.raises(ConfigError, match=r"no retriever.*passages="):
        Rag(rag.selector, rag.generator).answer("Where does Mara4 work?")


def test_the_card_has_header_prompt_figures_and_config(run: Path) -> None:
    CliRunner().invoke(app, ["merge", str(run)], catch_exceptions=False)
    card = (run / "merged/selector/README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "transformers" and "rag-selector" in header["tags"]
    assert "base_model" not in header  # a folder of this machine is nobody's base
    prompt, data, config = (yaml.safe_load(b) for b in re.findall(r"```yaml\n(.*?)```", card, re.DOTALL))
    assert "{question}" in prompt["user"] and data["train"].endswith("train.jsonl")
    assert config["selector"]["k"] == 3 and "runs" not in config
    metrics = evaluate_run(run, None, "best", None)
    (row,) = (line for line in card.splitlines() if line.startswith("| f1 "))
    assert f"| {metrics['f1']:.3f} (" in row and " to " in row
    iteration = (run / "best").resolve().name.removeprefix("iteration-")
    assert f"Of the pair after {'the warm-up' if iteration == '0' else f'iteration {iteration}'}. " in card
    assert "| 2 questions |" in card and "exact_match | " in card and " of 2, " in card
    assert "write the answer" not in card and "[arXiv 2505.03075]" in card
    assert "writes the answer" in " ".join((run / "merged/generator/README.md").read_text().split())


def test_the_cards_code_runs_as_it_stands(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export_run(run, tmp_path / "contracts")
    monkeypatch.chdir(tmp_path)
    for role in ROLES:
        card = (tmp_path / "contracts" / role / "README.md").read_text()
        (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        exec(compile(code, f"{role}'s card", "exec"), {})
        assert "The director signs the contract" in capsys.readouterr().out


def test_an_exported_folder_brings_its_index_where_it_is_asked_for(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(run), str(tmp_path / "out"), "--index"])
    assert done.exit_code == 0, done.output
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    config = config_of_folder(moved)
    assert config.data.corpus == str(moved / "corpus.jsonl") and config.cache == str(moved / "index")
    question = "Where does Mara4 work?"
    own, there = ragdro.load(run).answer(question), ragdro.load(moved).answer(question)
    assert there.task == own.task and there.answer == own.answer
    (index,) = (moved / "index/indexes").iterdir()  # what was written is what was searched
    data = run.parents[1] / "validation.jsonl"
    words = ["evaluate", str(moved), "--data", str(data)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0 and '"questions": 2' in done.stdout and index.is_dir()


def test_what_selects_nothing_is_not_exported_as_a_pair_that_selects(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--stage vanilla: .*; export its pair: --stage warm-up"):
        export_run(run, tmp_path / "out", "vanilla")
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_corpus_has_no_index(tmp_path: Path) -> None:
    config = ragdro.load_config(write_config(tmp_path, retriever={"kind": "given"}))
    with pytest.raises(ConfigError, match=r"--index: this run searches no corpus.*given"):
        write_index(config, tmp_path / "out")


def test_a_folder_that_holds_something_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="not empty"):
        export_run(run, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ModelError, match="iteration-7"):
        export_run(run, tmp_path / "new", "iteration-7")


def test_pushing_makes_a_repository_a_role_and_uploads_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a stand-in with the signatures of the installed client."""
    hub = create_autospec(HfApi, instance=True)
    hub.create_repo.side_effect = lambda repo_id, **rest: f"https://hub/{repo_id}"
    monkeypatch.setattr(export, "HfApi", lambda: hub)
    folders = {role: tmp_path / role for role in ROLES}
    assert push_to_hub(folders, repositories("acme/rag"), private=True) == [
        "https://hub/acme/rag-selector",
        "https://hub/acme/rag-generator",
    ]
    for role, made, sent in zip(
        ROLES, hub.create_repo.call_args_list, hub.upload_folder.call_args_list, strict=True
    ):
        assert made.args == (f"acme/rag-{role}",) and made.kwargs == {"private": True, "exist_ok": True}
        assert sent.kwargs["repo_id"] == f"acme/rag-{role}" and sent.kwargs["folder_path"] == folders[role]
    hub.upload_folder.side_effect = export._CLIENT_ERROR("no such account")
    with pytest.raises(ModelError, match=r"acme/rag-selector: the hub refused: .*no such account"):
        push_to_hub(folders, repositories("acme/rag"), private=False)


@pytest.mark.parametrize("name", ["acme", "acme/", "/rag", "a/b/c", "acme/ra g"])
def test_names_that_are_no_repository_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--push"):
        repositories(name)
