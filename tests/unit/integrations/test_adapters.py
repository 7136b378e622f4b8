"""The adapters against the real libraries: in this process, and over HTTP against the application itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

import ragdro
from ragdro.errors import ModelError
from ragdro.integrations.ranker import SAMPLES
from ragdro.selection import tournament
from ragdro.serve.app import create_app
from ragdro.serve.settings import ServeSettings
from ragdro.types import Candidates, Passage, Question, Task
from tests.serving import PASSAGES, QUESTIONS, exported_folder

TEXTS = [f"Name{i} sings at Sivel" for i in range(8)] + PASSAGES
ADDRESS = "http://localhost:8000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_folder(tmp_path_factory.mktemp("adapted") / "tiny")


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[tuple[str, float]]:
    """Texts and scores in the library's own order."""
    rag = ragdro.load(folder)
    passages = tuple(Passage(str(i), "A title", text) for i, text in enumerate(TEXTS))
    task = Task(Question("q", QUESTIONS[0], ()), Candidates("q", passages))
    (order,) = tournament.order(rag.selector, [task], samples=SAMPLES, seed=0, max_tokens=rag.max_tokens)
    return [(TEXTS[r.index], pytest.approx(r.score, abs=1e-6)) for r in order]


@pytest.fixture(params=["in process", "over HTTP"])
def system(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "in process":
        yield str(folder)
        return
    with TestClient(
        create_app(ragdro.load(folder), ServeSettings("x", api_key="k")), base_url=ADDRESS
    ) as client:
        post: Callable[..., httpx.Response] = client.post
        monkeypatch.setattr(httpx, "post", lambda url, timeout, **rest: post(url, **rest))
        yield ADDRESS


def test_langchain(system: str, expected: list[tuple[str, float]]) -> None:
    from langchain_core.documents import Document

    from ragdro.integrations.langchain import RagdroReranker

    documents = [Document(text, metadata={"title": "A title", "page": i}) for i, text in enumerate(TEXTS)]
    reranker = RagdroReranker(system=system, top_n=7, api_key="k")
    found = reranker.compress_documents(documents, QUESTIONS[0])
    assert [(d.page_content, d.metadata["relevance_score"]) for d in found] == expected[:7]
    assert [TEXTS[d.metadata["page"]] for d in found] == [d.page_content for d in found]
    assert "relevance_score" not in documents[0].metadata  # the caller's own are left alone
    assert asyncio.run(reranker.acompress_documents(documents, QUESTIONS[0])) == found
    assert reranker.compress_documents([], QUESTIONS[0]) == []


def test_llamaindex(system: str, expected: list[tuple[str, float]]) -> None:
    from llama_index.core.schema import NodeWithScore, TextNode

    from ragdro.integrations.llamaindex import RagdroReranker

    nodes = [
        NodeWithScore(node=TextNode(text=text, metadata={"title": "A title"}), score=0.1) for text in TEXTS
    ]
    found = RagdroReranker(system=system, top_n=7, api_key="k").postprocess_nodes(
        nodes, query_str=QUESTIONS[0]
    )
    assert [(n.node.get_content(), n.score) for n in found] == expected[:7]
    assert nodes[0].score == 0.1
    assert "k" not in RagdroReranker(system=system, api_key="k").to_dict().values()


def test_haystack(system: str, expected: list[tuple[str, float]], monkeypatch: pytest.MonkeyPatch) -> None:
    from haystack import Document, Pipeline
    from haystack.utils import Secret

    from ragdro.integrations.haystack import RagdroRanker

    monkeypatch.setenv("RAGDRO_API_KEY", "k")
    ranker = RagdroRanker(system, top_k=7, api_key=Secret.from_env_var("RAGDRO_API_KEY"))
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["ragdro.integrations.haystack"])
    documents = [Document(content=text, meta={"title": "A title"}) for text in TEXTS]
    for made, top_k in ((pipeline, None), (again, 3)):
        given = {"query": QUESTIONS[0], "documents": documents, "top_k": top_k}
        found = made.run({"ranker": given})["ranker"]["documents"]
        assert [(d.content, d.score) for d in found] == expected[: top_k or 7]
    assert documents[0].score is None


def test_a_server_that_refuses_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from ragdro.integrations.ranker import open_ranker

    with pytest.raises(ModelError, match=r"^http://127\.0\.0\.1:9/v2/rerank: .*; is `ragdro serve`"):
        open_ranker("http://127.0.0.1:9").rank("q", [("", "a")])
    for body, said in (('{"message": "the API key is missing"}', "the API key is missing"), ("<p>", "<p>")):
        monkeypatch.setattr(httpx, "post", lambda *_, text=body, **__: httpx.Response(401, text=text))
        with pytest.raises(ModelError, match=rf"v2/rerank: 401: {said}$"):
            open_ranker("http://127.0.0.1:9").rank("q", [("", "a")])
