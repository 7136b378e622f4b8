"""Hostile texts, the policy, the key, and errors on the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

from playwright.sync_api import Browser, Page, Route, expect

from tests.pipeline.page.conftest import KEY, ask
from tests.serving import HOSTILE, PASSAGES, QUESTIONS


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
    ask(page, QUESTIONS[0], passages=" \n\n ")
    expect(alert).to_have_text("Write a passage to answer from.")
    page.evaluate("sessionStorage.setItem('ragdro-key', 'guess')")
    ask(page, QUESTIONS[0], passages=PASSAGES[0])
    expect(alert).to_have_text("The API key is wrong.")
    first, second = (page.locator(one).bounding_box() for one in ("#key-form", "#ask"))
    assert first is not None and second is not None and second["y"] - first["y"] - first["height"] >= 10
    page.get_by_label("API key", exact=True).fill(KEY)
    page.keyboard.press("Enter")
    expect(alert).to_be_hidden()
    expect(page.get_by_label("Question", exact=True)).to_have_value(QUESTIONS[0])
    ask(page, QUESTIONS[0])
    expect(page.locator(".said")).to_be_visible()
