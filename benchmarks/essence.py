"""What of a server's answer must not depend on who asks beside it."""

from __future__ import annotations

from typing import Any


def essence(answer: dict[str, Any]) -> list[Any]:
    """Of a reranking the order and the scores to two digits; of a chat the answer and its sources."""
    if "results" in answer:
        return [[one["index"], round(one["relevance_score"], 2)] for one in answer["results"]]
    return [answer["choices"][0]["message"]["content"], [one["id"] for one in answer["citations"]]]
