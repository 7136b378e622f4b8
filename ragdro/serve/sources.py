"""Where an answer comes from, as clients read it: numbered citations and OpenAI's annotations."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from ragdro.report.predictions import passage_record
from ragdro.types import Passage, Prediction


def citations(prediction: Prediction) -> list[dict[str, Any]]:
    """The passages that were read, in their order: `number` (from 1), id, title, text, source and `score`,
    the probability of being chosen there (None where nothing was chosen)."""
    scores = prediction.selection.probabilities or (None,) * len(prediction.selection.permutation)
    return [
        {"number": number, **passage_record(passage), "url": url_of(passage), "score": score}
        for number, (passage, score) in enumerate(zip(prediction.selected, scores, strict=True), start=1)
    ]


def url_citations(prediction: Prediction) -> list[dict[str, Any]]:
    """The same as `url_citation`s of the whole answer."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": 0,
                "end_index": len(prediction.shown),
                "title": passage.title or passage.id,
                "url": url_of(passage),
            },
        }
        for passage in prediction.selected
    ]


def url_of(passage: Passage) -> str:
    """The passage's id where it is a web address, else a name of ours for it: never a path."""
    if passage.id.startswith(("https://", "http://")):
        return passage.id
    return f"urn:ragdro:passage:{quote(passage.id, safe='')}"
