"""Settings: kinds, closed to unknown keys; and nothing heavy is loaded by the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ragdro.config.indexes import HnswIndex
from ragdro.config.retriever import Bm25Settings, DenseSettings, HybridSettings, parse_settings
from ragdro.errors import ConfigError, RetrievalError
from ragdro.retrieval import make_retriever


def test_settings_are_told_apart_by_kind() -> None:
    assert parse_settings({}) == Bm25Settings()
    assert parse_settings({"k1": 2}) == Bm25Settings(k1=2.0)
    dense = {"kind": "dense", "model": "m", "index": {"type": "hnsw", "neighbours": 8}}
    assert parse_settings(dense) == DenseSettings(model="m", index=HnswIndex(neighbours=8))
    hybrid = parse_settings({"kind": "hybrid", "members": [{"kind": "bm25"}, dense]})
    assert isinstance(hybrid, HybridSettings)
    assert [member.kind for member in hybrid.members] == ["bm25", "dense"]
    assert parse_settings(hybrid.model_dump(mode="json")) == hybrid


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "bm42"}, "'bm42'"),
        ({"kind": "bm25", "k3": 1}, r"^unknown key 'retriever\.k3'; did you mean 'retriever\.k1'"),
        ({"kind": "bm25", "b": 1.5}, r"retriever\.b: must be at most 1 \(value: 1\.5\)"),
        ({"kind": "dense"}, r"^retriever\.model: must be given"),
        (
            {"kind": "external", "source": {"type": "json", "url": "ftp://x"}},
            r"source\.url: must be an address",
        ),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings(values)


def test_a_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    for module in ("ragdro.retrieval.http", "ragdro.json_http"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    service = parse_settings({"kind": "external", "source": {"type": "json", "url": "http://localhost"}})
    with pytest.raises(
        RetrievalError, match=r"needs httpx, which is not installed: pip install 'ragdro\[http\]'"
    ):
        make_retriever(service)


def test_importing_the_package_loads_no_retrieval_library() -> None:
    heavy = ("torch", "faiss", "sentence_transformers", "lancedb", "httpx", "bm25s", "pyarrow", "datasets")
    code = (
        "import sys, ragdro.retrieval, ragdro.retrieval.cache, ragdro.cli.retrieve\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
