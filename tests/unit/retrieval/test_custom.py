"""A retriever of one's own by its import path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ragdro.config import load_config
from ragdro.config.retriever import CustomSettings, parse_settings
from ragdro.errors import ConfigError, RagdroError, RetrievalError
from ragdro.retrieval import make_retriever
from ragdro.retrieval.cache import cached_candidates
from ragdro.types import Candidates, Passage, Question

HERE = __name__
SHELF = [Passage(f"s{index}", "", text) for index, text in enumerate(("river", "bridge", "castle"))]
ASKED = [Question("a", "x", ()), Question("b", "bridge", ())]
searched: list[list[str]] = []


class Shelf:
    """Passages in alphabetical order, from the `first` one, those that are the query before."""

    def __init__(self, first: int = 0, scored: bool = False, gives: Any = None) -> None:
        self.first, self.scored, self.gives = first, scored, gives

    def search(self, queries: Sequence[str], top_n: int) -> Any:
        searched.append(list(queries))
        if self.gives is not None:
            return self.gives
        ranked = [sorted(SHELF[self.first :], key=lambda p: (p.text != query, p.text)) for query in queries]
        return [[(p, -i) for i, p in enumerate(one)] for one in ranked] if self.scored else ranked


class Known(Shelf):
    fingerprint = "shelf of 2026"


class Unnamed(Shelf):
    fingerprint = 7


class Mute:
    pass


def made(name: str, **arguments: Any) -> Any:
    return make_retriever(parse_settings({"kind": f"{HERE}:{name}", **arguments}))


def test_its_lists_are_the_candidates() -> None:
    assert list(made("Shelf").search(ASKED, 2)) == [
        Candidates("a", (SHELF[1], SHELF[2])),
        Candidates("b", (SHELF[1], SHELF[2])),
    ]
    (candidates,) = made("Shelf", first=1, scored=True).search([Question("c", "castle", ())], 2)
    assert candidates == Candidates("c", (SHELF[2], SHELF[1]), (0.0, -1.0))


def test_candidates_are_cached_where_it_has_a_fingerprint(tmp_path: Path) -> None:
    for name, searches in (("Shelf", 2), ("Known", 1)):
        searched.clear()
        settings = parse_settings({"kind": f"{HERE}:{name}"})
        first = cached_candidates(ASKED, None, settings, 2, tmp_path)
        assert cached_candidates(ASKED, None, settings, 2, tmp_path) == first
        assert len(searched) == searches


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (
            "nowhere.at_all:Shelf",
            {},
            r"Shelf: cannot be imported \(No module named 'nowhere'\)",
        ),
        (f"{HERE}:Absent", {}, "has no 'Absent'"),
        (f"{HERE}:SHELF", {}, "SHELF is not a class"),
        (f"{HERE}:Mute", {}, r"has no method search\(queries, top_n\)"),
        (f"{HERE}:Shelf", {"colour": 1}, r"does not take these keys \(colour\): got an unexpected keyword"),
        (f"{HERE}:Unnamed", {}, "fingerprint is no string, but 7"),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RagdroError, match=message):
        make_retriever(parse_settings({"kind": kind, **arguments}))


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        ([], "search gave no list of 1 list"),
        ([5], "question 'a': search gave no list, but 5"),
        ([["x", "y"]], r"neither a Passage nor \(Passage, score\): 'x'"),
        ([[(SHELF[0], 1), SHELF[1]]], "scores on some passages and not on others"),
        ([[(SHELF[0], "much")]], "a score is no finite number: 'much'"),
        ([[SHELF[0], SHELF[0]]], "a passage id occurs twice"),
        ([[]], "question 'a': the .* retriever has no passage for it"),
    ],
)
def test_results_that_do_not_fit_are_refused(gives: Any, message: str) -> None:
    with pytest.raises(RetrievalError, match=message):
        list(make_retriever(CustomSettings(kind=f"{HERE}:Shelf", gives=gives)).search(ASKED[:1], 2))


def test_a_list_shorter_than_top_n_is_taken_whole(caplog: pytest.LogCaptureFixture) -> None:
    assert list(made("Shelf").search(ASKED[:1], 9)) == [Candidates("a", (SHELF[1], SHELF[2], SHELF[0]))]
    (record,) = caplog.records
    assert "1 of 1 questions have fewer than top_n = 9 candidates (the fewest: 3)" in record.getMessage()


def test_it_stands_in_a_config(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    models = "selector: {model: m}\ngenerator: {model: m}\n"
    path.write_text("data: {train: a, validation: b}\nretriever: {kind: 'a.b:C', depth: 3}\n" + models)
    settings = load_config(path, []).retriever
    assert isinstance(settings, CustomSettings) and settings.arguments == {"depth": 3}
    assert parse_settings(settings.model_dump(mode="json")) == settings
    with pytest.raises(ConfigError, match="kind"):
        parse_settings({"kind": "a b:C"})
