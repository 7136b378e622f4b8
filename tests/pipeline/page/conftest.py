"""A server and a browser, once for all tests of the page."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ragdro.runs.load import load
from ragdro.system import Rag
from tests.serving import Server, run_folder

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
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


@pytest.fixture(scope="package")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_folder(tmp_path_factory.mktemp("page") / "run")


@pytest.fixture(scope="package")
def address(run: Any) -> Iterator[str]:
    server = Server(run, "--compare", *LIMITS, env={"RAGDRO_API_KEY": KEY})
    try:
        server.wait()
        yield server.address
    finally:
        server.stop()


@pytest.fixture(scope="package")
def rag(run: Any) -> Rag:
    return load(run)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium (apt-get install chromium)")
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
