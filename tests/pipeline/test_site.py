"""The documentation as a site: it builds strictly, loads nothing from a network, and leaves no page out."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ragdro

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)"""
)
_TERM_LINK = re.compile(r"\[([^\]]+)\]\([^)]*glossary\.md#([\w-]+)\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` builds, from a copy, so that nothing is written here."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "zensical.toml", folder)
    shutil.copytree(DOCS, folder / "docs")
    shutil.copytree(
        ROOT / "ragdro", folder / "ragdro", ignore=shutil.ignore_patterns("*.safetensors", "*.pyc")
    )
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build/site"


def test_no_page_loads_anything_from_a_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    loaded = {(page.name, at) for page in pages for at in _LOADED.findall(page.read_text(encoding="utf-8"))}
    assert not loaded
    for style in site.rglob("*.css"):
        assert not re.search(r"""(?:url\(|@import\s)["']?(?:https?:)?//""", style.read_text(encoding="utf-8"))
    assert (site / "search.js").is_file(), "search works from a folder too"


def test_the_python_page_has_every_public_name(site: Path) -> None:
    ids = re.findall(r'id="ragdro\.([\w.]+)"', (site / "reference/python.html").read_text(encoding="utf-8"))
    assert set(ragdro.__all__) <= set(ids)


def test_every_page_is_in_the_menu() -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text())
    listed: list[str] = []

    def walk(entries: list[dict[str, object]]) -> None:
        for entry in entries:
            for below in entry.values():
                if isinstance(below, list):
                    walk(below)
                else:
                    listed.append(str(below))

    walk(config["project"]["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_reference_of_commands_is_what_the_app_has() -> None:
    command = ["make", "--silent", f"BIN={Path(sys.executable).parent}", "print-commands"]
    written = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (DOCS / "reference/commands.md").read_text(encoding="utf-8") == written, "run: make reference"


def test_the_glossary_is_sorted_and_each_term_is_linked_from_a_page() -> None:
    text = (DOCS / "explanation/glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert terms == sorted(terms, key=str.lower)
    pages = "".join(p.read_text(encoding="utf-8") for p in DOCS.rglob("*.md") if p.name != "glossary.md")
    linked = {anchor for _, anchor in _TERM_LINK.findall(pages)}
    assert {re.sub(r"[^\w -]", "", term.lower()).replace(" ", "-") for term in terms} <= linked


def literals() -> list[str]:
    """Every text of the code, with … for what an f-string fills in."""
    found = []
    for path in (ROOT / "ragdro").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[sdr]", "…", node.value))
    return found


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    page = (DOCS / "how-to/troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    assert len(messages) > 30
    texts = literals()
    patterns = {m: re.compile(".*".join(map(re.escape, m.split("…"))), re.DOTALL) for m in messages}
    assert not [m for m, pattern in patterns.items() if not any(pattern.search(text) for text in texts)]
