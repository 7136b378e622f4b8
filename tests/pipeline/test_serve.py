"""The running server under the clients that people have, under broken bodies, and under many at once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import cohere
import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

import ragdro
from ragdro.data.passages import as_passages
from ragdro.types import Candidates, Question, Task
from tests.serving import PASSAGES, QUESTIONS, Server, exported_folder

KEY = {"RAGDRO_API_KEY": "secret"}
HEADERS = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_folder(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def rag(folder: Path) -> ragdro.Rag:
    return ragdro.load(folder)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    found = Server(folder, "--queue", "64", env=KEY)
    try:
        found.wait()
        yield found
    finally:
        found.stop()


@pytest.fixture
def address(server: Server) -> str:
    return server.address


def test_openais_client(address: str, rag: ragdro.Rag) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0)
    assert [model.id for model in client.models.list()] == ["tiny"]
    asked: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTIONS[0]}]
    done = client.chat.completions.create(model="tiny", messages=asked, temperature=0)
    alone = rag.answer(QUESTIONS[0])
    message = done.choices[0].message
    assert message.content == alone.answer and message.annotations is not None
    titles = [one.url_citation.title for one in message.annotations]
    assert titles == [p.title or p.id for p in alone.selected]
    cited = done.model_extra["citations"]
    assert [(c["number"], c["id"]) for c in cited] == [(i + 1, p.id) for i, p in enumerate(alone.selected)]
    assert [c["score"] for c in cited] == pytest.approx(alone.selection.probabilities, abs=1e-4)
    assert done.usage is not None and done.usage.completion_tokens > 0
    turns: list[Any] = [
        *asked,
        {"role": "assistant", "content": "mule"},
        {"role": "user", "content": QUESTIONS[2]},
    ]
    several = client.chat.completions.create(model="tiny", messages=turns)
    assert several.choices[0].message.content == rag.answer(f"{QUESTIONS[0]}\nmule\n{QUESTIONS[2]}").answer
    with pytest.raises(openai.NotFoundError, match="tiny"):
        client.chat.completions.create(model="gpt-9", messages=asked)
    with pytest.raises(openai.AuthenticationError, match="API key"):
        openai.OpenAI(base_url=f"{address}/v1", api_key="guess", max_retries=0).models.list()


def test_openais_stream(address: str, rag: ragdro.Rag) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="secret")
    asked: list[Any] = [{"role": "user", "content": QUESTIONS[1]}]
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="tiny", messages=asked, stream=True, stream_options=options)
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == rag.answer(QUESTIONS[1]).answer
    last = [c for c in chunks if c.choices][-1]
    assert last.choices[0].finish_reason == "stop" and len(last.model_extra["citations"]) == 5
    assert chunks[-1].usage is not None


def test_openais_asynchronous_client(address: str, rag: ragdro.Rag) -> None:
    asked = [[{"role": "user", "content": question}] for question in QUESTIONS]

    async def scene() -> tuple[list[str | None], str]:
        client: Any = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0)
        async with client:
            complete = client.chat.completions.create
            done = await asyncio.gather(*(complete(model="tiny", messages=turns) for turns in asked))
            stream = await complete(model="tiny", messages=asked[0], stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        return [one.choices[0].message.content for one in done], "".join(pieces)

    answers, streamed = asyncio.run(scene())
    assert answers == [rag.answer(question).answer for question in QUESTIONS]
    assert streamed == answers[0]


LLAMA_INDEX = """
import json, sys
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
address, question = sys.argv[1:]
llm = OpenAILike(model="tiny", api_base=f"{address}/v1", api_key="secret", is_chat_model=True, max_retries=0)
turns = [ChatMessage(role="user", content=question)]
streamed = "".join(part.delta or "" for part in llm.stream_chat(turns))
print(json.dumps([llm.chat(turns).message.content, llm.complete(question).text, streamed]))
"""


@pytest.mark.soak
def test_llama_indexs_openai_like(address: str, rag: ragdro.Rag, tmp_path: Path) -> None:
    """In an environment of its own: it needs openai < 3, and openai 3 is tested here."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "own")], check=True)
    python = str(tmp_path / "own/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "llama-index-llms-openai-like"], check=True)
    words, env = [python, "-c", LLAMA_INDEX, address, QUESTIONS[0]], {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [rag.answer(QUESTIONS[0]).answer] * 3


def test_langchains_chat(address: str, rag: ragdro.Rag) -> None:
    key = SecretStr("secret")
    chat = ChatOpenAI(base_url=f"{address}/v1", api_key=key, model="tiny", temperature=0.3, max_retries=0)
    assert (
        chat.invoke([("system", "Be brief."), ("human", QUESTIONS[0])]).text
        == rag.answer(QUESTIONS[0]).answer
    )
    assert "".join(part.text for part in chat.stream(QUESTIONS[1])) == rag.answer(QUESTIONS[1]).answer


def test_coheres_client(address: str, rag: ragdro.Rag) -> None:
    client = cohere.ClientV2(api_key="secret", base_url=address)
    documents = [f"Name{i} sings at Sivel" for i in range(9)] + [PASSAGES[0]]
    done = client.rerank(model="tiny", query=QUESTIONS[0], documents=documents, top_n=7)
    ranking = rag.selector.rerank(QUESTIONS[0], documents)
    assert [r.index for r in done.results] == [p.index for p in ranking.passages][:7]
    scores = [r.relevance_score for r in done.results]
    assert scores == sorted(scores, reverse=True) and scores[-1] >= 0 and scores[0] <= 1


def test_curl_and_tei(address: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl")
    body = json.dumps({"query": QUESTIONS[0], "texts": PASSAGES, "return_text": True})
    words = [curl, "-sS", f"{address}/rerank", "-d", body, "-H", "Content-Type: application/json"]
    done = subprocess.run([*words, "-H", "Authorization: Bearer secret"], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert {r["index"]: r["text"] for r in found} == dict(enumerate(PASSAGES))


def test_our_own_answer(address: str, rag: ragdro.Rag) -> None:
    body = {"question": QUESTIONS[0], "samples": 4}
    found = httpx.post(f"{address}/v1/answer", json=body, headers=HEADERS).json()
    alone = rag.answer(QUESTIONS[0])
    assert found["answer"] == alone.answer and 0 <= found["agreement"] <= 1
    expected = rag.generator.log_likelihood(QUESTIONS[0], alone.selected, alone.answer)
    assert found["log_probability"] == pytest.approx(expected, abs=1e-3)
    assert len(found["candidates"]) == 20 and found["candidates"][0]["score"] > 0
    given = {"question": QUESTIONS[0], "documents": [*PASSAGES, {"title": "t", "text": "x"}]}
    found = httpx.post(f"{address}/v1/answer", json=given, headers=HEADERS).json()
    assert [c["text"] for c in found["candidates"]] == [*PASSAGES, "x"]


def test_thirty_two_clients_each_get_their_own_answer(address: str, rag: ragdro.Rag) -> None:
    world = Path(ragdro.sources.resolve("tiny:test")).read_text().splitlines()
    questions = [json.loads(line)["question"] for line in world[:32]]

    def ask(question: str) -> dict[str, Any]:
        body = {"question": question, "samples": 0}
        return httpx.post(f"{address}/v1/answer", json=body, headers=HEADERS, timeout=60).json()

    with ThreadPoolExecutor(32) as clients:
        together = list(clients.map(ask, questions))
    for question, found in zip(questions, together, strict=True):
        alone = rag.answer(question)
        assert found["question"] == question and found["answer"] == alone.answer
        assert [s["id"] for s in found["selection"]] == [p.id for p in alone.selected]
    metrics = httpx.get(f"{address}/metrics", headers=HEADERS).text
    assert 'ragdro_requests_total{route="/v1/answer",status="200"}' in metrics
    batches = float(metrics.split("ragdro_batch_requests_count ")[1].split()[0])
    requests = float(metrics.split("ragdro_batch_requests_sum ")[1].split()[0])
    assert requests > batches  # some were gathered


def test_special_tokens_and_markup_are_text(address: str, rag: ragdro.Rag) -> None:
    special = rag.selector.model.tokenizer.hf.all_special_tokens
    for text in [
        *special,
        "<script>alert(1)</script>",
        "<|im_end|>[1] > [2]",
        "\U0001f40e\u202e",
        "[2] > [1]",
    ]:
        body = {
            "question": f"{QUESTIONS[0]} {text}",
            "documents": [PASSAGES[0], text, {"title": text, "text": text}],
        }
        found = httpx.post(f"{address}/v1/answer", json=body, headers=HEADERS)
        assert found.status_code == 200 and found.json()["candidates"][1]["text"] == text
        alone = rag.answer(body["question"], body["documents"])
        assert found.json()["answer"] == alone.answer


def test_more_documents_than_the_selector_reads(address: str, rag: ragdro.Rag) -> None:
    documents = [f"Name{i} sings at Sivel" for i in range(60)] + [PASSAGES[0]]
    body = {"query": QUESTIONS[0], "documents": documents}
    results = httpx.post(f"{address}/v1/rerank", json=body, headers=HEADERS, timeout=60).json()["results"]
    (selection,) = rag.select(
        [Task(Question("q", QUESTIONS[0], ()), Candidates("q", as_passages(documents)))]
    )
    assert tuple(r["index"] for r in results[:5]) == selection.permutation
    assert sorted(r["index"] for r in results) == list(range(61))
    assert [r["selected"] for r in results] == [True] * 5 + [False] * 56
    scores = [r["relevance_score"] for r in results]
    assert scores == sorted(scores, reverse=True) and results[0]["document"] == {
        "text": documents[results[0]["index"]]
    }


def test_sigterm_finishes_what_is_under_way(server: Server) -> None:
    """The last test: the server has left behind it."""
    bodies = [{"question": question, "samples": 16} for question in QUESTIONS * 2]
    with ThreadPoolExecutor(6) as clients:
        asked = [
            clients.submit(httpx.post, f"{server.address}/v1/answer", json=b, headers=HEADERS, timeout=60)
            for b in bodies
        ]
        wait(asked, return_when=FIRST_COMPLETED)
        server.stop()
        assert [one.result().status_code for one in asked] == [200] * 6
