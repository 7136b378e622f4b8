"""Only safetensors and JSON are loaded, no code that came with a model runs, no path leaves its folder."""

from __future__ import annotations

import ast
import contextlib
import json
import pickle
from pathlib import Path

import pytest
import torch

import ragdro
from ragdro.config import ModelSettings
from ragdro.errors import ConfigError, ModelError
from ragdro.lm.load import load_language_model, load_tokenizer
from ragdro.runs.load import load
from tests.conftest import byte_level, random_model
from tests.pipeline.test_train import jsonl, write_config

PACKAGE = Path(ragdro.__file__).parent
FORBIDDEN = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal",
    "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec",
}  # fmt: skip
ALLOWED = {("config/yaml.py", "yaml.load")}  # with a loader that makes plain values


def names_used(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {(node.module or "").split(".")[0]}
        elif isinstance(node, ast.Call):
            names.add(ast.unparse(node.func))
            names |= {f"{k.arg}=True" for k in node.keywords if getattr(k.value, "value", None) is True}
    return names


def test_no_module_unpickles_or_evaluates() -> None:
    for path in PACKAGE.rglob("*.py"):
        used = names_used(ast.parse(path.read_text()))
        where = path.relative_to(PACKAGE).as_posix()
        bad = {n for n in used & FORBIDDEN if (where, n) not in ALLOWED}
        assert not bad, (where, bad)
        assert not used & {"allow_pickle=True", "trust_remote_code=True"}, where
    assert names_used(ast.parse("import pickle\nnp.load(f, allow_pickle=True)")) >= {
        "pickle",
        "allow_pickle=True",
    }


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.path,))  # type: ignore[return-value]


def model_folder(folder: Path) -> Path:
    made = random_model(byte_level())
    made.hf.save_pretrained(folder)
    made.tokenizer.hf.save_pretrained(folder)
    return folder


def test_pickled_weights_are_refused_and_never_opened(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Bomb(tmp_path / "went-off"), file)
    with pytest.raises(ModelError, match="model"):
        load_language_model(str(folder), ModelSettings(model=str(folder)), torch.device("cpu"))
    assert not (tmp_path / "went-off").exists()


def test_code_that_comes_with_a_model_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *asked: pytest.fail("asks a question"))
    folder = model_folder(tmp_path / "model")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((folder / "config.json").read_text())
    maps = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": maps}))
    settings = ModelSettings(model=str(folder))
    assert settings.trust_remote_code is False
    with pytest.raises(ModelError):
        load_language_model(str(folder), settings, torch.device("cpu"))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["evil.Evil", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "tokenizer_class": "Evil"}))
    with contextlib.suppress(ModelError):
        load_tokenizer(str(folder))
    assert not (tmp_path / "ran").exists()


HOSTILE_IDS = ["../../outside", "/outside", "a/../../b", "..", "q\x00"]


def test_paths_in_data_do_not_leave_the_run_folder(tmp_path: Path) -> None:
    """Ids of questions and passages are never names of files."""
    config = write_config(tmp_path, iterations=1)
    questions = [
        {"id": name, "question": f"Where does Mara{i} work?", "answers": [f"Firm {i}"]}
        for i, name in enumerate(HOSTILE_IDS)
    ]
    corpus = [
        {"id": name, "title": "../../t", "text": f"Mara{i} works for Firm {i}."}
        for i, name in enumerate([*HOSTILE_IDS, "p5", "p6"])
    ]
    jsonl(tmp_path / "train.jsonl", questions)
    jsonl(tmp_path / "corpus.jsonl", corpus)
    before = {p for p in tmp_path.parent.rglob("*") if tmp_path not in p.parents}
    ragdro.run(ragdro.load_config(config))
    inside = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")}
    assert inside <= {
        "model",
        "runs",
        "cache",
        "config.yaml",
        "train.jsonl",
        "validation.jsonl",
        "corpus.jsonl",
    }
    assert {p for p in tmp_path.parent.rglob("*") if tmp_path not in p.parents} == before
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"run"}
    for stage in ("../../model", "iteration-1/../../../model", "best/../best", "/etc"):
        with pytest.raises(ModelError, match="stage: must be best"):
            load(tmp_path / "runs/run", stage=stage)


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "..", ".x", "", "a\n", "a\x00"])
def test_a_run_cannot_be_named_into_another_folder(name: str, tmp_path: Path) -> None:
    path = write_config(tmp_path, name=name)
    with pytest.raises(ConfigError, match="name"):
        ragdro.load_config(path)
