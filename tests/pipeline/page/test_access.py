"""The page by the keyboard alone, on a phone and for a screen reader; a report's tables on a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from ragdro.report import html
from ragdro.report.table import Table
from tests.pipeline.page.conftest import KEY, ask
from tests.serving import PASSAGES, QUESTIONS


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


SYSTEM = "key => fetch('/v1/system', {headers: {Authorization: `Bearer ${key}`}}).then(r => r.json())"


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
        inside = "innerWidth - document.querySelector('#ask .name').getBoundingClientRect().left + 1"
        right = f"e.getBoundingClientRect().right > {inside}"
        fields = f"[...document.querySelectorAll('#ask *')].filter((e) => {right})"
        assert page.evaluate(f"{fields}.map((e) => e.outerHTML.slice(0, 80))") == []
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


@pytest.mark.slow
def test_the_name_of_an_option_is_on_one_line(opened: Callable[..., Page]) -> None:
    page = opened()
    system = {**page.evaluate(SYSTEM, KEY), "stages": ["best"], "examples": True}
    page.route("**/v1/system", lambda route: route.fulfill(json=system))
    page.reload()
    option = page.get_by_text("--compare", exact=True)
    expect(option).to_be_visible()
    for width in range(300, 440, 4):
        page.set_viewport_size({"width": width, "height": 740})
        assert option.evaluate("element => element.getClientRects().length") == 1, width


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
