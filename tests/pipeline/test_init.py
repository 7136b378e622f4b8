"""`ragdro init` on small data and a small model made here: what it chooses, and that what it writes runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

import ragdro
from ragdro.cli import app
from ragdro.config.load import load_config
from ragdro.data import load_questions
from ragdro.errors import ConfigError, DataError, ModelError, RagdroError, RetrievalError
from tests.hubs import unreachable_hub
from tests.pipeline.test_train import jsonl, write_config


def init(file: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["init", str(file), *words])


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that takes no time and fits everywhere."""
    monkeypatch.setattr("ragdro.planning.starter.plan", lambda *_: {"memory": 1.0})


def data(folder: Path) -> list[str]:
    """Options for the data and the model that `write_config` makes."""
    write_config(folder)
    files = [f"--{name}={folder / f'{name}.jsonl'}" for name in ("train", "validation", "corpus")]
    return [*files, f"--model={folder / 'model'}"]


def test_a_pointer_of_a_pretrained_model_goes_by_its_attention(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    done = init(file, *data(tmp_path), "--selector=pointer", "--device=cpu")
    assert done.exit_code == 0, done.output
    config = load_config(file)
    assert (config.selector.kind, config.selector.prompt, config.selector.layers) == (
        "pointer",
        "pointer",
        None,
    )
    assert (config.selector.pointer.score, config.selector.pointer.frozen) == ("attention", True)
    rates = []
    for fits in (config.warm_up, config.m_step):
        assert fits.selector is not None and fits.generator is not None
        rates.append((fits.selector.projection_learning_rate, fits.selector.epochs))
        assert (fits.selector.batch_size, fits.selector.warm_up_fraction) == (8, 0)
        assert (fits.generator.projection_learning_rate, fits.generator.batch_size) == (None, 16)
    assert rates == [(1e-2, 8), (2e-3, 4)]
    assert "heads of a pretrained model look at the passages that answer" in file.read_text()
    paths = [f"runs={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}"]
    ran = CliRunner().invoke(app, ["train", str(file), "--dry-run", *paths])
    assert ran.exit_code == 0, ran.output


@pytest.mark.parametrize("capped", [False, True])
@pytest.mark.usefixtures("canned")
def test_a_pointer_whose_attention_is_not_seen_or_says_nothing_goes_by_states(
    capped: bool, tmp_path: Path
) -> None:
    words, file = data(tmp_path), tmp_path / "my.yaml"
    if capped:
        shape = tmp_path / "model/config.json"
        shape.write_text(json.dumps({**json.loads(shape.read_text()), "attn_logit_softcapping": 50.0}))
    else:
        words[-1] = "--model=tiny:base"
    done = init(file, *words, "--selector=pointer")
    assert done.exit_code == 0, done.output
    selector = load_config(file).selector
    assert (selector.kind, selector.pointer.score, selector.pointer.frozen) == ("pointer", "states", False)


def test_a_frozen_pointer_leaves_what_saves_memory_to_the_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragdro.planning.starter.plan", lambda *_: {"memory": 2.0**40})
    done = init(tmp_path / "c.yaml", *data(tmp_path), "--selector=pointer", "--memory=1")
    assert done.exit_code == 0, done.output
    config = load_config(tmp_path / "c.yaml")
    assert config.selector.adapter is None and not config.selector.gradient_checkpointing
    assert config.generator.adapter is not None and config.generator.gradient_checkpointing
    assert (config.selector.dtype, config.generator.dtype) == ("bfloat16", "bfloat16")
    assert "generator.adapter: the smallest way" in done.stdout and not config.shared_backbone


def test_what_it_writes_runs(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    done = init(file, *data(tmp_path), "--device=cpu")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[-1] == f"next: ragdro train {file} --dry-run" and lines[-2] == f"wrote {file}"
    assert lines[0].endswith("train.jsonl: own (questions, jsonl)")
    assert lines[1] == "4 questions; passages with 4 of them, gold passages with 4 of them"
    config = load_config(file)
    assert (config.name, config.top_n, config.selector.k, config.retriever.kind) == (
        "my",
        8,
        4,
        "bm25",
    )  # of 9: the model has 512 positions
    assert config.selector.adapter is None and not config.shared_backbone
    assert config.generator.answer_tokens >= 8  # '[Firm 3]' is seven tokens and an end
    keys = [line for line in file.read_text().splitlines() if line.rstrip() and not line.startswith("#")]
    assert all("  # " in line for line in keys) and len(keys) < 40
    overrides = [
        "iterations=1",
        f"runs={tmp_path / 'runs'}",
        f"cache={tmp_path / 'cache'}",
        "e_step.samples=2",
    ]
    ran = CliRunner().invoke(app, ["train", str(file), *overrides, "evaluation.tight_samples=null"])
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "runs/my/results.json").is_file()


@pytest.mark.parametrize(
    ("memory", "adapter", "shared"), [(0.1, False, False), (0.0045, True, False), (0.0001, True, True)]
)
def test_the_memory_says_what_is_trained(
    memory: float, adapter: bool, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = iter([2.0**24, 2.0**23, 2.0**22, 2.0**21])
    monkeypatch.setattr("ragdro.planning.starter.plan", lambda *_: {"memory": next(needed)})
    monkeypatch.setattr("ragdro.planning.starter.memory_of", lambda _: int(memory * 2**30))
    done = init(tmp_path / "c.yaml", *data(tmp_path))
    assert done.exit_code == 0, done.output
    config = load_config(tmp_path / "c.yaml")
    assert (config.selector.adapter is not None) is adapter and config.shared_backbone is shared
    if adapter:
        assert config.m_step.generator.learning_rate == 1e-4
    assert ("too much" in done.stdout) is (memory < 0.001)


@pytest.mark.parametrize("model", ["./absent", "absent", "org/absent"])
def test_a_model_that_is_not_there_is_refused_before_anything_is_written(model: str, tmp_path: Path) -> None:
    words = [word for word in data(tmp_path) if not word.startswith(("--model", "--validation"))]
    before = sorted(tmp_path.rglob("*"))
    with unreachable_hub(), pytest.raises(ModelError, match=f"^{model}: no such .*folder.* give"):
        _raise(init(tmp_path / "c.yaml", *words, "--validation-fraction=0.3", f"--model={model}"))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("canned")
def test_questions_that_bring_candidates_need_no_corpus(tmp_path: Path) -> None:
    words = [word for word in data(tmp_path) if not word.startswith("--corpus")]
    asked = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    for option in ("--candidates", "--device=cpu"):  # each question brings one passage alone
        with pytest.raises(ConfigError, match="--corpus: needed, for not every question brings"):
            _raise(init(tmp_path / "c.yaml", *words, option))
    for question in asked:
        question["candidates"] = [{"id": f"c{i}", "title": "", "text": f"text {i}"} for i in range(6)]
    jsonl(tmp_path / "train.jsonl", asked)
    done = init(tmp_path / "c.yaml", *words)
    config = load_config(tmp_path / "c.yaml")
    assert done.exit_code == 0 and config.retriever.kind == "given" and config.data.corpus is None
    assert (config.top_n, config.selector.k) == (6, 3)


def _raise(result: Result) -> None:
    assert result.exception is not None
    raise result.exception


@pytest.mark.usefixtures("canned")
def test_the_training_file_is_split_where_asked(tmp_path: Path) -> None:
    words = [word for word in data(tmp_path) if not word.startswith("--validation")]
    with pytest.raises(ConfigError, match=r"--validation: not given.*--validation-fraction 0.1"):
        _raise(init(tmp_path / "c.yaml", *words))
    assert init(tmp_path / "c.yaml", *words, "--validation-fraction=0.3").exit_code == 0
    parts = [load_questions(tmp_path / f"c-{part}.jsonl") for part in ("train", "validation")]
    whole = load_questions(tmp_path / "train.jsonl")
    assert sorted((q for part in parts for q in part), key=lambda q: q.id) == whole
    assert [len(part) for part in parts] == [3, 1]
    config = yaml.safe_load((tmp_path / "c.yaml").read_text())
    assert config["data"]["validation"] == str(tmp_path / "c-validation.jsonl")


@pytest.mark.usefixtures("canned")
def test_a_split_spares_what_is_there(tmp_path: Path) -> None:
    words = [word for word in data(tmp_path) if not word.startswith(("--validation", "--train"))]
    split = [*words, "--validation-fraction=0.3"]
    questions = (tmp_path / "train.jsonl").read_bytes()
    (tmp_path / "c-train.jsonl").write_bytes(questions)
    train = f"--train={tmp_path / 'c-train.jsonl'}"
    for more in ([], ["--overwrite"]):
        with pytest.raises(ConfigError, match=r"c-train.jsonl: is read by this command, and would be lost"):
            _raise(init(tmp_path / "c.yaml", train, *split, *more))
    with pytest.raises(ConfigError, match=r"c-train.jsonl: is read by this command, and would be lost"):
        _raise(init(tmp_path / "c-train.jsonl", train, *split, "--overwrite"))
    other = f"--train={tmp_path / 'train.jsonl'}"
    with pytest.raises(ConfigError, match=r"c-train.jsonl: exists; name another FILE.yaml or pass"):
        _raise(init(tmp_path / "c.yaml", other, *split))
    assert (tmp_path / "c-train.jsonl").read_bytes() == questions and not (tmp_path / "c.yaml").exists()
    assert init(tmp_path / "c.yaml", other, *split, "--overwrite").exit_code == 0


@pytest.mark.usefixtures("canned")
def test_a_file_is_not_overwritten_unasked_and_what_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="exists; name another file or pass --overwrite"):
        _raise(init(file))
    with pytest.raises(ConfigError, match="--train: not given"):
        _raise(init(file, "--overwrite"))
    with pytest.raises(ConfigError, match="--model: not given"):
        _raise(init(file, "--overwrite", *data(tmp_path)[:-1]))
    with pytest.raises((DataError, OSError)):
        _raise(init(file, "--overwrite", "--train=absent.jsonl", *data(tmp_path)[1:]))
    with pytest.raises(ConfigError, match="--validation and --validation-fraction: give one"):
        _raise(init(file, "--overwrite", *data(tmp_path), "--validation-fraction=0.3"))
    with pytest.raises(RetrievalError, match=r"retriever.language: neither a stemmer nor"):
        _raise(init(file, "--overwrite", *data(tmp_path), "--language=klingon"))
    with pytest.raises(ConfigError, match="--candidates: leave it out, for not every question brings"):
        _raise(init(file, "--overwrite", *data(tmp_path), "--candidates"))
    assert file.read_text() == "mine"
    assert init(file, "--overwrite", *data(tmp_path)).exit_code == 0 and file.read_text() != "mine"


@pytest.mark.usefixtures("canned")
def test_what_is_missing_is_asked_for_at_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ragdro.cli import init as module

    words = data(tmp_path)
    monkeypatch.setattr(module, "_is_terminal", lambda: True)
    typed = f"{tmp_path / 'train.jsonl'}\n0.3\n{tmp_path / 'corpus.jsonl'}\n{tmp_path / 'model'}\n"
    done = CliRunner().invoke(app, ["init", str(tmp_path / "c.yaml"), "--device=cpu"], input=typed)
    assert done.exit_code == 0, (done.output, words)
    assert load_config(tmp_path / "c.yaml").data.corpus == str(tmp_path / "corpus.jsonl")


@pytest.mark.usefixtures("canned")
def test_a_wrong_answer_is_said_at_once_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ragdro.cli import init as module

    data(tmp_path)
    monkeypatch.setattr(module, "_is_terminal", lambda: True)
    train, other, corpus = (str(tmp_path / f"{name}.jsonl") for name in ("train", "validation", "corpus"))
    typed = ["trian.jsonl", train, "1.5", "half", other, f"{tmp_path}/no.jsonl", corpus, "./no"]
    lines = "\n".join([*typed, str(tmp_path / "model"), ""])
    done = CliRunner().invoke(app, ["init", str(tmp_path / "c.yaml"), "--device=cpu"], input=lines)
    assert done.exit_code == 0, done.output
    said = [line for line in done.stderr.splitlines() if ": " in line]
    for line, expected in zip(
        said,
        (
            "trian.jsonl: no such file; ",
            "1.5: a fraction is from 0.01 to 0.9",
            "half: no such file; ",
            f"{tmp_path}/no.jsonl: no such file; ",
            "./no: no such checkpoint folder; ",
        ),
        strict=True,
    ):
        assert line.startswith(expected)
    config = load_config(tmp_path / "c.yaml")
    assert (config.data.validation, config.data.corpus) == (other, corpus)


@pytest.mark.usefixtures("canned")
def test_a_corpus_of_one_passage_leaves_nothing_to_select(tmp_path: Path) -> None:
    words = data(tmp_path)
    (tmp_path / "corpus.jsonl").write_text((tmp_path / "corpus.jsonl").read_text().splitlines()[0] + "\n")
    with pytest.raises(RagdroError, match="1 passage: nothing to select from"):
        _raise(init(tmp_path / "c.yaml", *words))


@pytest.mark.usefixtures("canned")
def test_a_language_goes_to_the_retriever(tmp_path: Path) -> None:
    assert init(tmp_path / "c.yaml", *data(tmp_path), "--language=german").exit_code == 0
    assert ragdro.load_config(tmp_path / "c.yaml").retriever.model_dump()["language"] == "german"
