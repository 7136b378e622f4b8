"""A file that is no YAML, or in another encoding, is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragdro.config import load_config
from ragdro.errors import ConfigError

BROKEN_YAML = {
    "cyclic": "&a [*a]",
    "cyclic in a mapping": "data: &a {train: *a}",
    "a billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi"))
    + "name: *i\n",
    "deep": "[" * 3_000,
    "deep mappings": "{a: " * 5_000,
    "no such date": "name: 2020-99-99\n",
    "a number of 10,000 digits": f"seed: {'9' * 10_000}\n",
    "no octal": "seed: 0b2\n",
    "NUL": "name: a\x00b\n",
    "tag": "name: !!python/object/apply:os.system [echo]\n",
    "tabs": "data:\n\ttrain: a\n",
    "unhashable": "{[a]: b, {c: d}: e}\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "huge": "name: " + "x" * 3_000_000,
    "a list": "- a\n- b\n",
    "empty": "",
    "number keys": "1: 2\n3: 4\n",
    "bidirectional": "na\u202eme: x\n",
    "merge of nothing": "<<: 7\n",
}


@pytest.mark.parametrize("what", BROKEN_YAML)
def test_broken_yaml_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(BROKEN_YAML[what], encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 600


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name: x\ndata: [\n", "line 3, column 1"),
        ("name: x\n bad: : y\n", "line 2"),
        ("a: *nowhere", "line 1"),
        ("a: \x01", "position 3"),
    ],
)
def test_what_is_no_yaml_is_said_of_the_file_and_the_line(text: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: not YAML: ") and place in message
    assert "<" not in message.replace("'<stream end>'", "").replace("'<block mapping start>'", "")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_other_encodings_are_refused_in_one_line(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("name: é\n".encode(encoding))
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(path)
