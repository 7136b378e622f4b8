"""The page's files and headers, what it asks the server, and stages. A browser is in `tests/pipeline`."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

import ragdro
from ragdro.errors import ModelError
from ragdro.runs.load import load
from ragdro.serve.jobs import Answered, AnswerJob, work
from ragdro.serve.page import FILES
from ragdro.serve.settings import ServeSettings
from ragdro.serve.stages import Served, loaded, open_stages
from tests.serving import QUESTIONS, exported_folder, run_folder
from tests.unit.serve.test_security import BODY, ask
from tests.worlds import pocket_rag, pocket_tasks

STATIC = files("ragdro.serve") / "static"


def test_every_file_is_served_with_the_policy_and_without_the_key() -> None:
    assert {name for name, _ in FILES.values()} == {path.name for path in STATIC.iterdir()}
    for path, (name, media_type) in FILES.items():
        found = ask(ServeSettings("x", api_key="secret"), "GET", path)
        assert found.status_code == 200 and found.content == (STATIC / name).read_bytes()
        assert found.headers["content-type"].split(";")[0] == media_type
        assert found.headers["x-content-type-options"] == "nosniff"
        policy = dict(part.split(" ", 1) for part in found.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in str(policy) and "http" not in str(policy)
    settings = ServeSettings("x", api_key="secret")
    assert ask(settings, "GET", host="evil.example").status_code == 403
    for path in ("/v1/system", "/v1/examples", "/page/../guard.py", "/page/page.css/"):
        assert ask(settings, "GET", path).status_code == 401


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_has_no_inline_code_and_names_no_other_server() -> None:
    parser = _Tags()
    parser.feed((STATIC / "index.html").read_text())
    assert len(parser.found) > 40
    for tag, attributes in parser.found:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
        assert tag != "style" and (tag != "script" or attributes["src"])
        for address in ("src", "href"):
            assert (attributes.get(address) or "/")[0] in "/#"
    for name in ("page.js", "server.js", "show.js", "text.js", "page.css"):
        text = (STATIC / name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://", text)


def system(served: Served | None = None) -> dict[str, object]:
    found = ask(ServeSettings("x", max_documents=7), "GET", "/v1/system", served=served)
    assert found.status_code == 200
    return found.json()  # type: ignore[no-any-return]


def test_what_is_served() -> None:
    found = system()
    assert found["stages"] == ["best"] and (found["selected"], found["candidates"]) == (2, 5)
    assert found["max_documents"] == 7 and not found["examples"]
    others = Served("iteration-2", {"vanilla": pocket_rag()}, searches=False)
    found = system(others)
    assert found["stages"] == ["iteration-2", "vanilla"] and not found["searches"]
    none = ask(ServeSettings("x"), "GET", "/v1/examples")
    assert none.status_code == 404 and "no examples" in none.json()["message"]


def answered(served: Served | None, **fields: object) -> httpx.Response:
    body = {"question": BODY["query"], "documents": BODY["documents"], "samples": 0, **fields}
    return ask(ServeSettings("x"), path="/v1/answer", body=body, served=served)


def test_a_stage_answers_with_its_own_models() -> None:
    best, other = pocket_rag(), pocket_rag(seed=1)
    (task,) = pocket_tasks(1, 5)
    asked = [
        AnswerJob(task.question.question, task.candidates.passages, stage=stage)
        for stage in (None, "warm-up", None)
    ]
    found = work({None: best, "warm-up": other}, asked, 2)
    selections = [one.prediction.selection for one in found if isinstance(one, Answered)]
    expected = [rag.predict([task])[0] for rag in (best, other, best)]
    assert [s.permutation for s in selections] == [e.selection.permutation for e in expected]
    assert [one.prediction.answer for one in found if isinstance(one, Answered)] == [
        e.answer for e in expected
    ]
    assert expected[0].selection.probabilities != expected[1].selection.probabilities
    served = Served("best", {"warm-up": other})
    assert answered(served, stage="warm-up").json()["stage"] == "warm-up"
    assert answered(served, stage="best").json() == answered(served).json()
    missing = answered(served, stage="vanilla")
    assert missing.status_code == 404
    assert missing.json()["message"] == "stage: 'vanilla' is not served; there is best, warm-up"


def test_inclusion_is_that_of_reranking() -> None:
    found = answered(None, inclusion=True).json()
    documents = [str(text) for text in BODY["documents"]]
    ranking = pocket_rag().selector.rerank(str(BODY["query"]), documents)
    expected = {ranked.index: ranked.inclusion for ranked in ranking.passages}
    assert found["inclusion"] == {"lists": 6, "exact": True}  # 3 of 2 in order
    assert [c["inclusion"] for c in found["candidates"]] == pytest.approx([expected[i] for i in range(3)])
    assert sum(c["inclusion"] for c in found["candidates"]) == pytest.approx(2)
    without = answered(None).json()
    assert without["inclusion"] is None and "inclusion" not in without["candidates"][0]


def test_no_inclusion_where_there_is_no_list_or_several_rounds() -> None:
    assert answered(None, inclusion=True, documents=["a"] * 6).json()["inclusion"] is None
    rag = pocket_rag()
    rag.selects = False
    served = Served("best", {"vanilla": rag})
    assert answered(served, inclusion=True, stage="vanilla").json()["inclusion"] is None


def test_the_stages_of_a_run(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    rag, alone = open_stages(run)
    assert not alone.others and alone.searches and alone.run == run
    assert loaded(rag, alone).startswith("best: 2 models, ")
    rag, served = open_stages(run, compare=True)
    assert list(served.others) == ["vanilla", "warm-up"] and loaded(rag, served).startswith(
        "best, vanilla, warm-up: 4 models, "
    )
    vanilla, warm_up = served.others.values()
    assert vanilla.selector is warm_up.selector is not rag.selector  # one pair in memory
    for stage, own in (("best", rag), *served.others.items()):
        (expected,) = load(run, stage=stage).answer_many([QUESTIONS[0]])
        (found,) = own.answer_many([QUESTIONS[0]])
        assert (found.answer, found.selection) == (expected.answer, expected.selection)
    rag, served = open_stages(run, stage="vanilla", compare=True)
    assert not rag.selects and [o.selects for o in served.others.values()] == [True, True]
    with pytest.raises(ModelError, match="is an exported folder"):
        open_stages(exported_folder(tmp_path / "exported"), compare=True)
    assert ragdro.load(run, stage="vanilla").selects is False
