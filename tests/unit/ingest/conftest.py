"""A folder with a document of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.ingest import files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "docs"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_text("The tower of Melk is red.\n\nThe tower of Linz is blue.\n")
    (made / "sub/b.md").write_text("# Bridges\n\n## Wels\n\nThe bridge of Wels is long.\n")
    (made / "c.pdf").write_bytes(files.pdf(["The port of Enns is old.", "The port of Krems is new."]))
    files.word(made / "d.docx")
    files.slides(made / "e.pptx")
    (made / "f.csv").write_text("title,text\nGraz,The clock of Graz is loud.\n")
    return made
