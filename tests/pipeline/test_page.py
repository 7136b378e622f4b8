"""The page of the running server in a real Chromium: asking, keys, errors, markup that stays text, access."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from ragdro.report import html
from ragdro.report.table import Table
from ragdro.runs.load import load
from ragdro.system import Rag
from tests.serving import HOSTILE, PASSAGES, QUESTIONS, Server, run_folder

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (apt-get install chromium)")
KEY = "secret"
LIMITS = ("--max-documents", "30", "--max-body", "20000")
WATCH = """
window.ran = [];
for (const name of ["alert", "confirm", "prompt"]) {
  window[name] = (text) => window.ran.push(`${name} ${text}`);
}
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(event.effectiveDirective);
});
"""
"""In every page before its own scripts: whatever hostile text runs leaves a trace, and so does the policy."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_folder(tmp_path_factory.mktemp("page") / "run")


@pytest.fixture(scope="module")
def address(run: Any) -> Iterator[str]:
    server = Server(run, "--compare", *LIMITS, env={"RAGDRO_API_KEY": KEY})
    try:
        server.wait()
        yield server.address
    finally:
        server.stop()


@pytest.fixture(scope="module")
def rag(run: Any) -> Rag:
    return load(run)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=flags)


@pytest.fixture
def faults() -> list[str]:
    """What a page did wrong: errors of its scripts, requests to others."""
    return []


@pytest.fixture
def opened(browser: Browser, address: str, faults: list[str]) -> Iterator[Callable[..., Page]]:
    """Opens the page, with the key unless `key` is None; at its end no script of a text has run."""
    pages: list[Page] = []

    def opens(key: str | None = KEY, **settings: Any) -> Page:
        context = browser.new_context(**settings)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.add_init_script(WATCH)
        if key is not None:
            page.add_init_script(f"sessionStorage.setItem('ragdro-key', {json.dumps(key)})")
        page.on("pageerror", lambda error: faults.append(error.message))
        page.on("request", lambda request: _stays(request.url, address, faults))
        page.goto(address)
        pages.append(page)
        return page

    yield opens
    for page in pages:
        assert page.evaluate("[window.ran, window.violations]") == [[], []]
        page.context.close()
    assert not faults


def _stays(url: str, address: str, faults: list[str]) -> None:
    if not url.startswith(address):
        faults.append(f"asks {url}")


def ask(page: Page, question: str, stage: str = "best", passages: str | None = None) -> None:
    page.get_by_label("Question", exact=True).fill(question)
    page.get_by_label("Stage").select_option(stage)
    if passages is not None:
        page.get_by_label("my own passages").check()
        page.get_by_label("Passages", exact=True).fill(passages)
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#busy")).to_be_hidden()


def test_a_question_its_answer_and_its_candidates(opened: Callable[..., Page], rag: Rag) -> None:
    page = opened()
    ask(page, QUESTIONS[0])
    expected = rag.answer(QUESTIONS[0])
    answer = page.get_by_role("region", name="Answer")
    expect(answer.locator(".said")).to_have_text(expected.answer)
    expect(page.get_by_role("status")).to_have_text(f"Answer: {expected.answer}")
    read = answer.locator(".read > li")
    assert read.locator(".text").all_text_contents() == [p.text for p in expected.selected]
    lines = [item.locator(".facts li").first.inner_text() for item in read.all()]
    assert lines[0].startswith("chosen 1st with probability ") and "given" not in lines[0]
    assert lines[1].endswith(", given the first") and lines[2].endswith(", given the first two")
    assert expected.selection.probabilities is not None
    ranking = rag.selector.rerank(QUESTIONS[0], expected.task.candidates.passages)
    included = {ranked.index: ranked.inclusion for ranked in ranking.passages}
    candidates = page.locator(".candidates > li")
    assert candidates.locator(".text").all_text_contents() == [
        p.text for p in expected.task.candidates.passages
    ]
    assert expected.task.candidates.scores is not None
    for i, item in enumerate(candidates.all()):
        cells = item.locator(".cell").all_inner_texts()
        assert f"{expected.task.candidates.scores[i]:.4g}" in cells[0]
        place = expected.selection.permutation.index(i) if i in expected.selection.permutation else None
        assert ("–" if place is None else ("1st", "2nd", "3rd", "4th", "5th")[place]) in cells[1]
        if 0.005 <= included[i] <= 0.995:
            assert f"{included[i]:.2f}" in cells[2]
    holding = [p.text for p in expected.selected if f" {expected.answer} " in f" {p.text} "]
    assert answer.locator(".read mark").all_text_contents() == [expected.answer] * len(holding)


def test_an_answer_from_several_lists(opened: Callable[..., Page], run: Any) -> None:
    page = opened()
    page.get_by_label("Way to answer").select_option("marginal")
    ask(page, QUESTIONS[0])
    expected = load(run, answering="marginal").answer(QUESTIONS[0])
    assert expected.distribution is not None and 0.995 < expected.distribution.confidence < 1
    answer = page.get_by_role("region", name="Answer")
    expect(answer.locator(".said")).to_have_text(expected.answer)
    fact = answer.locator(".answer .facts li")
    expect(fact).to_have_text(f"confidence > 0.99 over {expected.distribution.lists} drawn lists")
    expect(answer.locator(".competing")).to_have_count(0)  # all lists lead to it

    def unsure(route: Route) -> None:
        competing = [{"answer": HOSTILE, "probability": 0.4}, {"answer": "two", "probability": 0.25}]
        other = {"answer": "", "abstained": True, "confidence": 0.4, "competing": competing}
        route.fulfill(json={**route.fetch().json(), **other})

    page.route("**/v1/answer", unsure)
    ask(page, QUESTIONS[0])
    expect(answer.locator(".said")).to_have_text("no answer")
    expect(fact).to_have_text("confidence 0.40 over 8 drawn lists, below the server’s threshold")
    rows = answer.locator(".competing li")
    expect(rows).to_have_text([f"0.40 {HOSTILE}", "0.25 two"])
    expect(rows.first).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("Answer: no answer")


def test_own_passages(opened: Callable[..., Page], rag: Rag) -> None:
    page = opened()
    texts = [f"# Note {i}\n{text}" if i == 1 else text for i, text in enumerate(PASSAGES)]
    ask(page, QUESTIONS[0], passages="\n \n".join(texts))
    given = [{"title": "Note 1" if i == 1 else "", "text": text} for i, text in enumerate(PASSAGES)]
    expected = rag.answer(QUESTIONS[0], given)
    expect(page.locator("#passages-count")).to_have_text("3 passages so far.")
    expect(page.locator(".said")).to_have_text(expected.answer)
    assert page.locator(".candidates .text").all_text_contents() == PASSAGES
    assert page.locator(".candidates .title").all_text_contents() == ["Note 1"]
    assert "exact" in page.locator("#candidates-note").inner_text()  # six lists are possible
    ask(page, QUESTIONS[0], passages="\n\n".join(PASSAGES * 10))
    expect(page.locator(".note")).to_contain_text("a tournament")


def test_stages_side_by_side(opened: Callable[..., Page], run: Any) -> None:
    page = opened()
    answers = []
    ask(page, QUESTIONS[1], "side by side")
    for name, stage in (("vanilla RAG", "vanilla"), ("warm-up", "warm-up"), ("best", "best")):
        expected = load(run, stage=stage).answer(QUESTIONS[1])
        column = page.get_by_role("region", name=name, exact=True)
        expect(column.locator(".said")).to_have_text(expected.answer)
        answers.append(expected.answer)
        assert column.locator(".text").all_text_contents() == [p.text for p in expected.selected]
        chosen = column.get_by_text("chosen 1st with probability").count()
        assert chosen == (expected.selection.probabilities is not None)
    assert answers[1] != answers[2]
    assert page.locator(".candidates > li:first-child .cell-name").all_text_contents() == [
        *("score ", "vanilla RAG ", "warm-up ", "best ")
    ]


def test_examples_of_the_run(opened: Callable[..., Page]) -> None:
    page = opened()
    examples = page.get_by_role("region", name="What training changed")
    expect(examples.locator(".group")).to_have_count(1)
    expect(examples).to_contain_text(
        "Put right: wrong after the warm-up, right at the best iteration (2 of 3)"
    )
    examples.locator(".group > summary").click()
    examples.locator(".group details > summary").nth(0).click()
    expect(examples).to_contain_text(f"warm-up: {HOSTILE} warm_up (wrong), read from")
    page.get_by_label("Stage").select_option("best")
    examples.get_by_role("button", name="Ask it now").nth(0).click()
    expect(page.locator(".answer .question")).to_have_text(QUESTIONS[0])
    page.get_by_role("group", name="Questions of this run").get_by_role("button").nth(1).click()
    expect(page.locator(".answer .question")).to_have_text(f"{QUESTIONS[1]} {HOSTILE}")


def test_a_path_is_shown_round_by_round_and_its_text_stays_text(opened: Callable[..., Page]) -> None:
    page = opened()

    def in_rounds(route: Route) -> None:
        answer = route.fetch().json()
        first, *others = [entry["rank_in_candidates"] for entry in answer["selection"]]
        rest = {"titles": [HOSTILE] * (len(others) + 1), "log_list": -1.0}
        found = [1 if first > 1 else 2, first]
        asked = {"query": HOSTILE, "found": [*others, first], "scores": None, "selected": others}
        rounds = [
            {"query": "q", "found": found, "scores": [2.5, 1.25], "selected": [first], "log_query": None,
             "titles": [HOSTILE, "own"], "log_list": 0.0},
            {**asked, **rest, "log_query": -0.5},
            {"query": "Answer", "found": [], "scores": None, "selected": [], "titles": [], "log_query": 0.0,
             "log_list": 0.0},
        ]  # fmt: skip
        more = {"path": rounds, "thought": HOSTILE, "inclusion": None, "agreement": None}
        route.fulfill(json={**answer, **more})

    page.route("**/v1/answer", in_rounds)
    for stage in ("best", "side by side"):
        ask(page, "q", stage)
        expect(page.locator("#answers .thought").first).to_have_text(f"Thought: {HOSTILE}")
        asked = page.locator("#answers .asked")
        expect(asked.nth(1)).to_have_text(f"round 2: {HOSTILE} (written with probability 0.61)")
        expect(asked.nth(2)).to_have_text(
            "round 3: Answer (written with probability 1.00; the path ends here)"
        )
        first, second = (page.locator(".round").nth(i) for i in (0, 1))
        expect(first.locator(".facts")).to_contain_text("2nd of 2 found, score 1.25")
        expect(first.locator(".note")).to_have_text(f"found too: [1] {HOSTILE} 2.5")
        expect(second.locator(".facts").first).to_contain_text("1st of 5 found")
        if stage == "best":
            expect(second.locator(".facts").first).to_contain_text("chosen 1st with probability")
    expect(page.locator("#candidates-note")).to_contain_text("round by round")


def test_markup_is_shown_and_never_run(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, f"{QUESTIONS[0]} {HOSTILE}", passages=f"# {HOSTILE} title\n{HOSTILE} text\n\n{PASSAGES[0]}")
    for where, end in (
        (".answer .question", ""),
        (".candidates .title", " title"),
        (".read .title", " title"),
    ):
        expect(page.locator(where)).to_contain_text(HOSTILE + end)
    expect(page.locator(".candidates .text").first).to_have_text(f"{HOSTILE} text")

    def hostile(route: Route) -> None:
        answer = route.fetch().json()
        for passage in (*answer["selection"], *answer["candidates"]):
            passage.update(id=HOSTILE, title=HOSTILE, text=f"so {HOSTILE} it is")
        route.fulfill(json={**answer, "answer": HOSTILE, "question": HOSTILE})

    page.route("**/v1/answer", hostile)
    for stage in ("best", "side by side"):
        ask(page, "q", stage)
        expect(page.locator(".said").last).to_have_text(HOSTILE)
        expect(page.get_by_role("status")).to_contain_text(HOSTILE)
    assert page.locator("#result").locator("script, img").count() == 0
    assert page.locator("#result .read mark").first.text_content() == HOSTILE[1:-2]  # marked, and still text


def test_the_policy_forbids_what_the_page_never_does(opened: Callable[..., Page], faults: list[str]) -> None:
    page = opened()
    tries = {
        "script": "document.body.append(Object.assign(document.createElement('script'), {text: 'alert(1)'}))",
        "html": "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')",
        "handler": "document.body.setAttribute('onclick', 'alert(1)'); document.body.click()",
        "eval": "eval('alert(1)')",
        "style": "document.body.setAttribute('style', 'color: red')",
        "elsewhere": "fetch('http://127.0.0.2:9/').catch(() => null)",
        "frame": "document.body.append(Object.assign(document.createElement('iframe'), {src: 'data:,x'}))",
    }
    refused = {
        name: page.evaluate(
            "new Promise((done) => { document.addEventListener('securitypolicyviolation',"
            " (event) => done(event.effectiveDirective), {once: true});"
            f" setTimeout(() => {{ {script} }}) }})"  # by itself, not as the debugger's
        )
        for name, script in tries.items()
    }
    assert refused["script"].startswith(("script-src", "require-trusted-types-for"))
    assert refused["html"] == "require-trusted-types-for" and refused["elsewhere"] == "connect-src"
    assert refused["style"].startswith("style-src") and refused["frame"] in ("frame-src", "child-src")
    assert page.evaluate("window.ran") == []
    page.evaluate("window.violations = []")
    faults.clear()  # the refusals themselves


def test_the_key(opened: Callable[..., Page], browser: Browser, address: str) -> None:
    page = opened(key=None)
    field = page.get_by_label("API key", exact=True)
    expect(field).to_be_focused()
    expect(page.locator("#ask")).to_be_hidden()
    field.fill("guess")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The API key is wrong.")
    expect(field).to_be_focused()
    field.fill(KEY)
    field.press("Enter")
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    expect(page.get_by_role("alert")).to_be_hidden()
    page.reload()
    expect(page.locator("#ask")).to_be_visible()
    assert page.evaluate("[Object.keys(localStorage), document.cookie]") == [[], ""]
    page.get_by_role("button", name="Forget the key").click()
    expect(field).to_be_focused()
    assert page.evaluate("sessionStorage.length") == 0


def _error(message: str) -> str:
    return json.dumps({"error": {"message": message}})


def _fulfil(status: int, body: str, route: Route) -> None:
    route.fulfill(status=status, body=body)


def test_errors_are_one_line(opened: Callable[..., Page]) -> None:
    page = opened()
    alert = page.get_by_role("alert")
    for status, body, line in (
        (429, _error("too many requests are waiting; try again in 3 s"),
         "Too many requests are waiting; try again in 3 s."),
        (413, _error("the body is larger than 9 bytes"), "The body is larger than 9 bytes."),
        (503, "<html>busy</html>", "The server takes no questions at the moment; try again shortly."),
        (500, "null", "The server answered with status 500."),
        (200, "<html>", "The server’s answer is not JSON."),
    ):  # fmt: skip
        page.route("**/v1/answer", partial(_fulfil, status, body))
        ask(page, QUESTIONS[0])
        expect(alert).to_have_text(line)
        page.unroute("**/v1/answer")
    page.route("**/v1/answer", lambda route: route.abort())
    ask(page, QUESTIONS[0])
    expect(alert).to_have_text("The server does not answer. Is it still running?")
    page.unroute("**/v1/answer")
    ask(page, QUESTIONS[0], passages="\n\n".join("a" * 31))
    expect(alert).to_have_text("31 passages are more than 30, the most that this server takes.")
    ask(page, QUESTIONS[0], passages="a" * 20001)
    expect(alert).to_contain_text("larger than 19 KiB")
    page.evaluate("sessionStorage.setItem('ragdro-key', 'guess')")
    ask(page, QUESTIONS[0], passages=PASSAGES[0])
    expect(alert).to_have_text("The API key is wrong.")
    page.get_by_label("API key", exact=True).fill(KEY)
    page.keyboard.press("Enter")
    expect(alert).to_be_hidden()
    expect(page.get_by_label("Question", exact=True)).to_have_value(QUESTIONS[0])
    ask(page, QUESTIONS[0])
    expect(page.locator(".said")).to_be_visible()


def test_the_keyboard_alone(opened: Callable[..., Page]) -> None:
    page = opened()
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    expect(page.locator("#suggestions button")).to_have_count(2)
    page.keyboard.type(QUESTIONS[0])
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="best")).to_be_visible()
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")  # over the two suggestions to "the corpus"
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("my own passages")).to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.type(PASSAGES[0])
    page.keyboard.press("Tab")
    page.keyboard.type("best")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Way to answer")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".candidates > li")).to_have_count(1)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The selector writes its list one passage at a time.")).to_be_visible()
    page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    seen: list[list[Any]] = []
    while not seen or seen[0] != seen[-1] or len(seen) == 1:
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return e === document.body ? null : [[...document.querySelectorAll('*')].indexOf(e),"
            " s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2] })()"
        )
        if focused is not None:  # past the end
            seen.append(focused)
    seen.pop()
    places = [place for place, _ in seen]
    shown = page.evaluate(
        "[...document.querySelectorAll('*')].flatMap((e, i) => e.checkVisibility() && e.type !== 'radio'"
        " && e.matches('a, button, input, select, textarea, summary') ? [i] : [])"
    )
    first = places.index(min(places))
    assert places[first:] + places[:first] == sorted(places) and set(shown) <= set(places)
    assert all(is_outlined for _, is_outlined in seen)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_accessible(opened: Callable[..., Page], scheme: str) -> None:
    page = opened(color_scheme=scheme, viewport={"width": 360, "height": 740})
    long = "W" * 90
    for stage, passages in (("side by side", None), ("best", f"# {long}\n{long}\n\n{PASSAGES[0]}")):
        ask(page, f"{QUESTIONS[0]} {long}", stage, passages)
        expect(page.locator(".said").first).to_be_visible()
        page.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        widths = (
            "[...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > 361)"
        )
        assert page.evaluate(f"{widths}.map((e) => e.outerHTML.slice(0, 80))") == []
        _assert_accessible(page)
    page.set_viewport_size({"width": 1000, "height": 800})
    _assert_accessible(page)
    page.get_by_label("Theme").select_option("light" if scheme == "dark" else "dark")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(246, 246, 243)") == (scheme == "dark")
    _assert_accessible(page)
    page.reload()
    expect(page.get_by_label("Theme")).to_have_value("light" if scheme == "dark" else "dark")


def _assert_accessible(page: Page) -> None:
    found = Axe().run(page)
    kinds = {violation["id"]: violation["nodes"][0]["html"] for violation in found.response["violations"]}
    assert kinds == {}
    passed = {rule["id"] for rule in found.response["passes"]}
    assert {"color-contrast", "label", "button-name", "landmark-one-main", "region"} <= passed


def test_where_an_answer_stands(opened: Callable[..., Page]) -> None:
    page = opened()
    call = "async ([name, args]) => (await import('/page/text.js'))[name](...args)"

    def marked(answer: str, text: str) -> list[str]:
        return [text[a:b] for a, b in page.evaluate(call, ["placesOf", [answer, text]])]

    assert marked("the Lion", "A lion, and THE LION's cub; lions.") == ["lion", "LION"]
    assert marked("New York", "york new york\nnew  York") == ["new york", "new  York"]
    assert marked("US", "In the U.S. they say “us”.") == ["us"] and marked("US", "In the U.S.!") == ["U.S"]
    assert marked("", "text") == marked("the", "the text") == marked("lion", "lioness") == []
    assert marked("élan", "Élan vital") == ["Élan"]
    assert [page.evaluate(call, ["ordinal", [n]]) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th")
    ]
    shown = [page.evaluate(call, ["probability", [p]]) for p in (0, 1e-9, 0.005, 0.5, 0.995, 0.9999, 1)]
    assert shown == ["0.00", "< 0.01", "0.01", "0.50", "0.99", "> 0.99", "1.00"]
    documents = page.evaluate(call, ["documentsOf", ["# T\r\na\r\nb\r\n\r\n\r\n \n c \n\n#\nd"]])
    assert documents == [
        *({"title": "T", "text": "a\r\nb"}, {"title": "", "text": "c"}, {"title": "", "text": "d"})
    ]
    long = "word " * 200
    start, end = page.evaluate(call, ["windowOf", [long, [500, 504]]])
    assert start <= 500 and end >= 504 and end - start < 240 and long[end] == " "


def test_a_reports_tables_on_a_phone_keep_their_first_column_and_show_their_values(browser: Browser) -> None:
    numbers = tuple(f"column number {i}" for i in range(9))
    tables = (
        Table(("of 210 test questions", ""), (("K-precision: words of the answer that were read", 0.5),)),
        Table(("stage", *numbers), (("iteration 5 *", *(0.5 for _ in numbers)),)),
    )
    page = browser.new_page(viewport={"width": 360, "height": 800})
    page.set_content(html.page("a report", [html.table(table) for table in tables]))
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    value = page.locator("td").nth(1).bounding_box()
    assert value is not None and value["x"] + value["width"] <= 360
    wide = page.locator(".wide").nth(1)
    wide.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    first, last = (wide.locator(f"td:{place}-child").bounding_box() for place in ("first", "last"))
    assert first is not None and last is not None
    assert 0 <= first["x"] < 30 and last["x"] + last["width"] <= 360
    page.close()
