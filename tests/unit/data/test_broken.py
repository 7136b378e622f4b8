"""Some thousand broken files of every format: each is read, or refused in one line that places the damage."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.unit.data.broken import ORIGINALS, reader

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What became of each file, in a process of its own whose memory is measured."""
    folder = tmp_path_factory.mktemp("broken")
    command = [sys.executable, "-m", "tests.unit.data.broken", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", sorted(ORIGINALS))
def test_the_originals_are_read(name: str, tmp_path: Path) -> None:
    path, read = reader(name, tmp_path)
    path.write_bytes(ORIGINALS[name])
    read()


def test_every_broken_file_is_read_or_refused_in_one_line(report: dict[str, list[dict[str, str]]]) -> None:
    files = report["files"]
    assert len(files) >= 200 and {f["format"] for f in files} == set(ORIGINALS)
    assert [f for f in files if f["failed"]] == []
    for file in files:
        if file["said"]:
            assert "\n" not in file["said"] and len(file["said"]) < 700
            assert file["said"].startswith(f"{file['path']}"), file
    refused = Counter(f["format"] for f in files if f["said"])
    assert set(refused) == set(ORIGINALS) and len(files) - refused.total() > 100


def test_a_field_of_the_wrong_type_is_named_with_its_line(report: dict[str, list[dict[str, str]]]) -> None:
    """Where the record is still recognised as its format, the refusal says file, line and field."""
    wrong = [
        f
        for f in report["files"]
        if re.fullmatch(r"\w+ = (7|\[\]|\{\}|True|\[None\]|\{'a': \[1\]\})", f["how"])
    ]
    refused = [f for f in wrong if f["said"]]
    placed = [f for f in refused if re.match(rf"{re.escape(f['path'])}:\d+: field '[^']+': ", f["said"])]
    assert len(refused) > 60 and len(placed) > 0.85 * len(refused)


def test_steering_characters_and_special_tokens_are_text(report: dict[str, list[dict[str, str]]]) -> None:
    """They are read as they stand wherever any text is: nothing is refused for them but ids and enums."""
    texts = ("text", "contents", "question", "input", "answer", "response", "passage", "title")
    hostile = [f for f in report["files"] if f["how"].startswith(tuple(f"{t} = '" for t in texts))]
    passed = [f for f in hostile if re.search(r"= '(<|\\u202e|word )", f["how"])]
    assert len(passed) > 60
    assert [f for f in passed if f["said"]] == []


def test_nothing_takes_over_a_gigabyte(report: dict[str, float]) -> None:
    assert report["megabytes"] < 1000
