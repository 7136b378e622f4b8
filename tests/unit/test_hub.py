"""Models by name: from a hub, from its files on this disk, and the one line where neither has them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from ragdro.config import ModelSettings
from ragdro.config.encoder import BiEncoderSettings, TokenEncoderSettings
from ragdro.data import read_questions
from ragdro.errors import DataError, ModelError, RagdroError, RetrievalError
from ragdro.hub import find_checkpoint, find_file
from ragdro.ingest.cut import tokenizer_description
from ragdro.lm.importing import import_model
from ragdro.lm.load import load_language_model, load_tokenizer, pick_device
from ragdro.lm.projections import saved_projections
from ragdro.planning.room import room_of
from ragdro.retrieval.encoders import load_bi_encoder, load_token_encoder
from ragdro.sources import resolve
from tests.hubs import hub, unreachable_hub

TINY = Path(resolve("tiny:base"))


def load(name: str) -> object:
    return load_language_model(name, ModelSettings(model=name), pick_device("cpu"))


def encode(name: str) -> object:
    return load_bi_encoder(BiEncoderSettings(model=name))


def encode_tokens(name: str) -> object:
    return load_token_encoder(TokenEncoderSettings(model=name))


@pytest.mark.parametrize(
    "what",
    [
        find_checkpoint,
        load,
        load_tokenizer,
        encode,
        encode_tokens,
        tokenizer_description,
        lambda name: saved_projections(name, 8, 2),
        lambda name: room_of(name, "selector", len),
        lambda name: import_model(name, Path("never")),
    ],
)
@pytest.mark.parametrize("name", ["absent", "org/absent-1.5B"])
def test_a_name_is_refused_in_one_line_without_a_network(
    what: object,
    name: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert callable(what)
    began = time.monotonic()
    with unreachable_hub(), pytest.raises((ModelError, RetrievalError)) as refused:
        what(name)
    assert time.monotonic() - began < 5
    assert f"{name}: no such folder, and http://127.0.0.1:9 cannot be asked for it" in str(refused.value)
    assert "\n" not in str(refused.value)
    printed = capfd.readouterr()
    assert "Retry" not in printed.err + printed.out


def test_a_dataset_is_refused_in_one_line_without_a_network(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("datasets")
    began = time.monotonic()
    with unreachable_hub(), pytest.raises(DataError, match=r"^hf:org/absent: no such folder, and http"):
        list(read_questions("hf:org/absent:train"))
    assert time.monotonic() - began < 5 and "Retry" not in capfd.readouterr().err
    with pytest.raises(
        DataError, match=r"^hf:\./absent: no such folder; what is there: ls .*; give a folder of data files"
    ):
        list(read_questions("hf:./absent"))


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("./absent", None, "no such checkpoint folder; what is there: ls .; give one with a config.json"),
        ("org/absent", None, "no such folder, and no such model at http"),
        ("org/empty", None, "no config.json at http.*/org/empty; name a whole model"),
    ],
)
def test_what_the_hub_does_not_have_is_said(
    name: str, revision: str | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with (
        hub({"org/tiny": TINY, "org/empty": tmp_path / "empty"}, tmp_path / "cache"),
        pytest.raises(RagdroError, match=f"^{name}: {message}"),
    ):
        find_checkpoint(name, revision)


def test_a_model_of_an_organisation_is_loaded_from_the_hub_and_then_without_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    with hub({"org/tiny": TINY}, cache) as asked:
        load("org/tiny")
        load_tokenizer("org/tiny")
        assert saved_projections("org/tiny", 8, 2) is None
        found = find_file("org/tiny", "config.json")
        assert found is not None and found.read_bytes() == (TINY / "config.json").read_bytes()
    assert any(path.endswith("model.safetensors") for path in asked)
    with unreachable_hub(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        began = time.monotonic()
        load("org/tiny")
        assert find_file("org/tiny", "projections.safetensors") is None
        assert time.monotonic() - began < 10 and "Retry" not in capfd.readouterr().err
